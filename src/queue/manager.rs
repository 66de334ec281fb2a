//! The queue as a whole: accepting messages, routing them to delivery queues, and starting over
//! after a restart or a change of configuration.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use bytes::Bytes;
use uuid::Uuid;

use crate::config::Transport;
use crate::eop::Words;
use crate::message::Envelope;
use crate::route::{Decision, NextHop, RouteTable};
use crate::send::{ConnectorRuntime, SendContext};
use crate::shutdown::Shutdown;
use crate::smtp::{BodyFacts, EnhancedCode, Reply};

use super::codec;
use super::connections::Connections;
use super::delivery::{DeliveryQueue, Item, QueueView};
use super::message::{MessageMeta, QueuedMessage, RecipientStatus, Source, State};
use super::spool::{Change, Content, MessageId, Spool, SpoolError};
use super::turns::Turns;
use super::worker::Breaker;

/// Content kept in memory through first attempts, over all messages.
const RESIDENT_BUDGET: u64 = 128 << 20;

/// A message as the receive side hands it over.
#[derive(Debug)]
pub struct Submission {
    /// From [`Queue::next_id`].
    pub id: MessageId,
    /// Accepted envelope.
    pub envelope: Envelope,
    /// Content, our own fields included.
    pub content: Content,
    /// The same content, when it is small enough to be kept in memory.
    pub resident: Option<Vec<Bytes>>,
    /// What was noticed about its bytes.
    pub facts: BodyFacts,
    /// Bytes of content.
    pub size: u64,
    /// Bytes of header at its front, the empty line included.
    pub header_len: u64,
    /// `Message-ID` with its angle brackets.
    pub message_id: String,
    /// `Subject` as in the header.
    pub subject: String,
    /// Where it came from.
    pub source: Source,
}

/// What one configuration says about routing and reporting.
pub struct Routing {
    /// The send connectors by address space.
    pub table: RouteTable,
    /// What errors are called.
    pub words: Words,
    /// They, ready for use, by name.
    pub connectors: HashMap<String, Arc<ConnectorRuntime>>,
    /// Timers.
    pub transport: Transport,
    /// `server.hostname`: the name in reports.
    pub hostname: String,
    /// Sender of reports.
    pub postmaster: String,
    /// What sessions out share.
    pub context: SendContext,
}

/// The delivery queues of one connector, by next hop.
pub(super) struct Outlet {
    runtime: Arc<ConnectorRuntime>,
    /// None once another configuration has taken over: whoever still holds this one must not
    /// begin a queue that no reload would ever find.
    queues: Mutex<Option<HashMap<String, Arc<DeliveryQueue>>>>,
}

/// Where a recipient's message goes.
enum Place {
    Queue(Arc<DeliveryQueue>),
    /// The connector is not there.
    Nowhere,
    /// The configuration has been replaced meanwhile.
    Replaced,
}

/// One configuration at work.
pub(super) struct Active {
    pub(super) routing: Routing,
    outlets: HashMap<String, Outlet>,
    pub(super) connections: Connections,
}

/// The queue.
pub struct Queue {
    pub(super) spool: Spool,
    pub(super) active: ArcSwap<Active>,
    /// Every message not settled yet. Ids grow with time, so the order is that of arrival.
    live: Mutex<BTreeMap<MessageId, Arc<QueuedMessage>>>,
    unreachable: Mutex<Vec<Item>>,
    next_number: AtomicU64,
    resident: AtomicU64,
    pub(super) turns: Turns,
    pub(super) breaker: Breaker,
    pub(super) shutdown: Shutdown,
}

/// `LastError` of the Unreachable queue (exchange-edge.md 2.3).
pub const NO_CONNECTOR: &str = "A matching connector cannot be found to route the external recipient";

impl Active {
    fn new(routing: Routing) -> Self {
        let outlets = routing
            .connectors
            .iter()
            .map(|(name, runtime)| {
                let queues = Mutex::new(Some(HashMap::new()));
                (name.clone(), Outlet { runtime: Arc::clone(runtime), queues })
            })
            .collect();
        let connections = Connections::new(routing.transport.max_outbound_connections);
        Self { routing, outlets, connections }
    }
}

impl Outlet {
    fn queues(&self) -> MutexGuard<'_, Option<HashMap<String, Arc<DeliveryQueue>>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The queues there are now.
    fn list(&self) -> Vec<Arc<DeliveryQueue>> {
        self.queues().iter().flat_map(HashMap::values).cloned().collect()
    }
}

impl Queue {
    /// A queue over an open spool.
    pub fn new(spool: Spool, routing: Routing, shutdown: Shutdown) -> Arc<Self> {
        Arc::new(Self {
            spool,
            active: ArcSwap::from_pointee(Active::new(routing)),
            live: Mutex::default(),
            unreachable: Mutex::default(),
            next_number: AtomicU64::new(1),
            resident: AtomicU64::new(0),
            turns: Turns::default(),
            breaker: Breaker::default(),
            shutdown,
        })
    }

    /// The spool below.
    pub fn spool(&self) -> &Spool {
        &self.spool
    }

    /// A number for a new message.
    pub fn next_id(&self) -> MessageId {
        self.spool.next_id()
    }

    /// Whether the spool can take a message now; if not, MAIL is answered with 452.
    pub fn accepts_mail(&self) -> bool {
        self.spool.healthy().is_ok()
    }

    pub(super) fn live(&self) -> MutexGuard<'_, BTreeMap<MessageId, Arc<QueuedMessage>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unreachable(&self) -> MutexGuard<'_, Vec<Item>> {
        self.unreachable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a message on disk and then on its way. Returns once it is durable, so that the 250
    /// may go out; delivery goes on by itself.
    pub async fn submit(self: &Arc<Self>, submission: Submission) -> Result<(), SpoolError> {
        let Submission {
            id,
            envelope,
            content,
            resident,
            facts,
            size,
            header_len,
            message_id,
            subject,
            source,
        } = submission;
        let meta = MessageMeta {
            network_message_id: *Uuid::new_v4().as_bytes(),
            received_ms: now_ms(),
            size,
            header_len: u32::try_from(header_len).unwrap_or(u32::MAX),
            message_id: message_id.into(),
            subject: subject.into(),
            source,
            facts,
            envelope,
        };
        let message = self.store(id, &meta, content, resident, Vec::new()).await?;
        self.route(Item { message, recipients: None, retried_fresh: false }, &meta);
        Ok(())
    }

    /// Makes a message durable and known, together with changes to others.
    pub(super) async fn store(
        &self,
        id: MessageId,
        meta: &MessageMeta,
        content: Content,
        resident: Option<Vec<Bytes>>,
        also: Vec<Change>,
    ) -> Result<Arc<QueuedMessage>, SpoolError> {
        let encoded = codec::encode_meta(meta);
        let kept = Box::from(encoded.as_slice());
        self.spool.append(id, encoded.into(), content, also).await?;
        let resident = resident.filter(|_| {
            let held = self.resident.fetch_add(meta.size, Ordering::Relaxed);
            let room = held + meta.size <= RESIDENT_BUDGET;
            if !room {
                self.resident.fetch_sub(meta.size, Ordering::Relaxed);
            }
            room
        });
        let message = QueuedMessage::new(id, meta, kept, resident, None);
        self.live().insert(id, Arc::clone(&message));
        Ok(message)
    }

    /// Lets a message's content go from memory.
    pub(super) fn evict(&self, message: &QueuedMessage) {
        self.resident.fetch_sub(message.evict(), Ordering::Relaxed);
    }

    /// [`route`](Self::route) of an item whose message has been waiting.
    pub(super) fn reroute(self: &Arc<Self>, item: Item) {
        // Otherwise it stays in the spool, for the next start to find.
        if let Ok(meta) = item.message.meta() {
            self.route(item, &meta);
        }
    }

    /// Sends an item's open recipients to the delivery queues they belong to.
    #[expect(clippy::needless_pass_by_value, reason = "the item is handed over, in parts")]
    pub(super) fn route(self: &Arc<Self>, item: Item, meta: &MessageMeta) {
        let active = self.active.load_full();
        // One recipient, or several with one next hop, is by far the most common case.
        let mut groups: Vec<(Arc<DeliveryQueue>, Vec<u16>)> = Vec::with_capacity(1);
        let (mut lost, mut too_large) = (Vec::new(), Vec::new());
        for index in item.indices(meta.envelope.recipients.len()) {
            let slot = u16::try_from(index).unwrap_or(u16::MAX);
            let recipient = &meta.envelope.recipients[index].address;
            match active.routing.table.decide_from(&meta.source.connector, recipient, meta.size) {
                Decision::Via { connector, next_hop } => {
                    match self.delivery_queue(&active, &connector.name, next_hop) {
                        Place::Queue(queue) => {
                            match groups.iter_mut().find(|(q, _)| Arc::ptr_eq(q, &queue)) {
                                Some((_, list)) => list.push(slot),
                                None => groups.push((queue, vec![slot])),
                            }
                        }
                        Place::Nowhere => lost.push(slot),
                        // Nothing has been handed on yet: all of it goes by the new one.
                        Place::Replaced => return self.route(item.clone(), meta),
                    }
                }
                Decision::Unreachable => lost.push(slot),
                Decision::TooLarge { .. } => too_large.push(slot),
            }
        }
        let part = |list: Vec<u16>| Item {
            recipients: (list.len() < meta.envelope.recipients.len()).then(|| list.into()),
            ..item.clone()
        };
        for (queue, list) in groups {
            // Retired in between, by a reload or by its age: once more, to the one after it.
            if let Err(item) = queue.push(part(list)) {
                self.route(item, meta);
            }
        }
        if !lost.is_empty() {
            self.evict(&item.message);
            item.message.state().last_error = Some(NO_CONNECTOR.into());
            let mut unreachable = self.unreachable();
            if Arc::ptr_eq(&active, &self.active.load()) {
                unreachable.push(part(lost));
            } else {
                // A reload has emptied the list, or is about to; the new configuration may know.
                drop(unreachable);
                self.route(part(lost), meta);
            }
        }
        if !too_large.is_empty() {
            let reply = Reply::new(
                552,
                Some(EnhancedCode(5, 3, 4)),
                "ROUTING.SizeLimit; message size exceeds a fixed maximum size for the route",
            );
            self.fail_later(part(too_large), reply);
        }
    }

    fn delivery_queue(self: &Arc<Self>, active: &Arc<Active>, connector: &str, next_hop: NextHop) -> Place {
        let Some(outlet) = active.outlets.get(connector) else { return Place::Nowhere };
        let mut queues = outlet.queues();
        let Some(map) = queues.as_mut() else { return Place::Replaced };
        // One that has retired for want of work may still be listed for a moment.
        if let Some(queue) = map.get(&next_hop.domain).filter(|queue| !queue.is_retired()) {
            return Place::Queue(Arc::clone(queue));
        }
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let queue = DeliveryQueue::new(number, Arc::clone(&outlet.runtime), next_hop.clone());
        map.insert(next_hop.domain, Arc::clone(&queue));
        drop(queues);
        super::worker::drive(Arc::clone(self), Arc::clone(active), Arc::clone(&queue));
        Place::Queue(queue)
    }

    /// Forgets an empty queue whose driver has ended.
    pub(super) fn forget(active: &Active, queue: &Arc<DeliveryQueue>) {
        if let Some(outlet) = active.outlets.get(&queue.runtime.config.name) {
            let mut queues = outlet.queues();
            let Some(map) = queues.as_mut() else { return };
            if map.get(&queue.next_hop.domain).is_some_and(|q| Arc::ptr_eq(q, queue)) {
                map.remove(&queue.next_hop.domain);
            }
        }
    }

    /// Routes everything anew by a changed configuration, Unreachable included. Messages that
    /// are being sent finish by the old one.
    pub fn reload(self: &Arc<Self>, routing: Routing) {
        let old = self.active.swap(Arc::new(Active::new(routing)));
        let mut items = std::mem::take(&mut *self.unreachable());
        for outlet in old.outlets.values() {
            let queues = outlet.queues().take();
            for queue in queues.into_iter().flat_map(HashMap::into_values) {
                items.extend(queue.retire());
            }
        }
        for item in items {
            self.reroute(item);
        }
    }

    /// Records what became of recipients, and forgets the message once all are settled.
    pub(super) fn settle(&self, message: &QueuedMessage, changes: &[(usize, RecipientStatus)]) {
        let change = Self::changed_state(message, changes);
        self.spool.apply(change);
        self.forget_if_final(message);
    }

    /// Applies changes in memory, and returns what the spool is to be told of them.
    pub(super) fn changed_state(message: &QueuedMessage, changes: &[(usize, RecipientStatus)]) -> Change {
        let mut state = message.state();
        for (index, status) in changes {
            state.recipients[*index] = *status;
        }
        if state.is_final() {
            Change::Remove(message.id)
        } else {
            Change::State(message.id, codec::encode_state(&state).into())
        }
    }

    /// Lets a message go once all its recipients are settled.
    pub(super) fn forget_if_final(&self, message: &QueuedMessage) {
        if message.state().is_final() {
            self.evict(message);
            self.live().remove(&message.id);
        }
    }

    /// Writes a message's state to the spool, lazily.
    pub(super) fn save_state(&self, message: &QueuedMessage) {
        let state = codec::encode_state(&message.state());
        self.spool.apply(Change::State(message.id, state.into()));
    }

    /// Every delivery queue as it looks now.
    pub fn views(&self) -> Vec<QueueView> {
        let active = self.active.load();
        let mut views: Vec<_> =
            active.outlets.values().flat_map(Outlet::list).map(|queue| queue.view()).collect();
        views.sort_by_key(|v| v.number);
        views
    }

    /// Why the queue that a message waits in could not reach its next hop. Looks through all of
    /// them: for the few messages of a stand-in, not for a relay's.
    pub(super) fn queue_error(&self, message: &Arc<QueuedMessage>) -> Option<String> {
        let active = self.active.load();
        let queues = active.outlets.values().flat_map(Outlet::list);
        queues.filter(|queue| queue.holds(message)).find_map(|queue| queue.view().last_error)
    }

    /// Messages without a route.
    pub fn unreachable_count(&self) -> usize {
        self.unreachable().len()
    }

    /// Messages not settled yet.
    pub fn message_count(&self) -> usize {
        self.live().len()
    }

    /// Drops what is settled from the lists of all queues.
    pub(super) fn purge(&self) {
        for outlet in self.active.load().outlets.values() {
            for queue in outlet.list() {
                queue.purge();
            }
        }
        self.unreachable().retain(|item| !item.message.state().is_final());
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("messages", &self.message_count()).finish_non_exhaustive()
    }
}

/// Indices of recipients not settled.
pub(super) fn open_recipients(state: &State) -> Box<[u16]> {
    let open = |(i, status): (usize, &RecipientStatus)| {
        (*status == RecipientStatus::Pending).then_some(u16::try_from(i).unwrap_or(u16::MAX))
    };
    state.recipients.iter().enumerate().filter_map(open).collect()
}

/// Milliseconds since 1970 UTC.
pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

#[cfg(test)]
#[path = "manager_tests.rs"]
mod tests;
