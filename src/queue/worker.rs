//! Workers: each owns at most one connection to a queue's next hop and sends what is ready.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Routing as Route;
use crate::send::{
    ConnectFailure, Connection, Outcome, Outgoing, OutgoingContent, deliver_maildir, targets,
    without_ourselves,
};

use super::connections::Leave;
use super::delivery::{DeliveryQueue, Item, Step};
use super::manager::{Active, Queue};
use super::message::QueuedMessage;
use super::retry::retry_delay;
use super::spool::SpoolError;

/// Sees to a queue until it is empty for good, replaced, or the process ends.
pub(super) fn drive(manager: Arc<Queue>, active: Arc<Active>, queue: Arc<DeliveryQueue>) {
    tokio::spawn(async move {
        while !manager.shutdown.is_down() {
            let wake = match queue.step(Instant::now()) {
                Step::Start { first, count } => {
                    for n in 0..count {
                        let only = first && n == 0;
                        let connections = &active.connections;
                        let leave = if only { connections.first_now() } else { connections.further() };
                        if !only && leave.is_none() {
                            queue.not_started(count - n);
                            break;
                        }
                        let worker = Worker::new(&manager, &active, &queue);
                        tokio::spawn(worker.run(leave));
                    }
                    continue;
                }
                Step::Wait(at) => at,
                Step::End => break,
            };
            let sleep = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = queue.changed() => {}
                () = sleep => {}
                () = manager.shutdown.wait() => {}
            }
        }
        Queue::forget(&active, &queue);
    });
}

/// How long a connection without work is kept for the next message.
const IDLE: Duration = Duration::from_secs(5);

struct Worker {
    manager: Arc<Queue>,
    active: Arc<Active>,
    queue: Arc<DeliveryQueue>,
    /// It has not yet had a connection nor failed to get one.
    connecting: bool,
    connection: Option<Connection>,
    /// Messages the connection has carried.
    carried: usize,
    _alive: crate::shutdown::Alive,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.queue.worker_gone(self.connecting);
    }
}

/// An item in a worker's hands. Whatever happens to the worker, the item goes back.
struct Claim<'a> {
    manager: &'a Arc<Queue>,
    active: &'a Arc<Active>,
    queue: &'a Arc<DeliveryQueue>,
    item: Option<Item>,
}

impl Claim<'_> {
    fn take(&mut self) -> Option<Item> {
        self.item.take()
    }

    /// Settles the item, and lets go of it only then: should that panic, the item goes back.
    async fn conclude(&mut self, open: &[usize], outcomes: Vec<Outcome>) {
        if let Some(item) = self.item.clone() {
            self.manager.conclude(self.queue, item, open, outcomes).await;
            self.item = None;
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Some(item) = self.item.take() {
            // Only a panic of ours leads here; the message must not be lost to it.
            let at = Instant::now() + self.active.routing.transport.message_retry_interval;
            item.message.release();
            self.manager.defer(self.queue, item, at);
        }
        self.queue.landed();
    }
}

impl Worker {
    fn new(manager: &Arc<Queue>, active: &Arc<Active>, queue: &Arc<DeliveryQueue>) -> Self {
        Self {
            manager: Arc::clone(manager),
            active: Arc::clone(active),
            queue: Arc::clone(queue),
            connecting: true,
            connection: None,
            carried: 0,
            _alive: manager.shutdown.guard(),
        }
    }

    /// Works until there is nothing to do. Without `leave` to hold a connection it is the first
    /// worker of its queue, and waits for one.
    async fn run(mut self, leave: Option<Leave>) {
        let (manager, active) = (Arc::clone(&self.manager), Arc::clone(&self.active));
        let _leave = match leave {
            Some(leave) => leave,
            None => match active.connections.first().await {
                Some(leave) => leave,
                None => return,
            },
        };
        while !manager.shutdown.is_down() {
            let idle = if active.connections.are_short() { Duration::ZERO } else { IDLE };
            let next = match &mut self.connection {
                None => self.queue.next(None).await,
                Some(connection) => tokio::select! {
                    biased;
                    next = self.queue.next(Some(idle)) => next,
                    // The next hop closed it or said goodbye: no message should meet that.
                    () = connection.idle() => None,
                    () = manager.shutdown.wait() => None,
                },
            };
            let Some(item) = next else { break };
            if !self.handle(item).await {
                break;
            }
        }
        if let Some(connection) = self.connection.take() {
            connection.quit().await;
        }
    }

    /// Delivers one item. False: this worker is to end.
    async fn handle(&mut self, item: Item) -> bool {
        let (manager, active, queue) =
            (Arc::clone(&self.manager), Arc::clone(&self.active), Arc::clone(&self.queue));
        let open = item.claim();
        let mut claim = Claim { manager: &manager, active: &active, queue: &queue, item: Some(item) };
        if open.is_empty() {
            if let Some(item) = claim.take() {
                item.message.release();
            }
            return true;
        }
        self.let_go_if_spent().await;
        let Some(outgoing) = claim.item.as_ref().map(|item| manager.outgoing(&item.message, &open)) else {
            return true;
        };
        let Ok(outgoing) = outgoing else {
            // The log says so; it stays in the spool, for the next start to find.
            if let Some(item) = claim.take() {
                item.message.release();
            }
            return true;
        };
        let outcomes = if let Route::Maildir(template) = &queue.runtime.config.routing {
            self.now_connected();
            deliver_maildir(template, &outgoing, &active.routing.hostname).await
        } else {
            if self.connection.is_none() {
                // Nothing has been sent, so a next hop that takes minutes to greet need not hold up
                // the end of the process, nor keep mail from a configuration that knows better.
                let connected = tokio::select! {
                    biased;
                    connected = Self::connect(&manager, &active, &queue) => connected,
                    () = manager.shutdown.wait() => Err(NotConnected::Abandoned),
                    () = queue.replaced() => Err(NotConnected::Abandoned),
                };
                match connected {
                    Ok(connection) => {
                        self.connection = Some(connection);
                        self.carried = 0;
                        self.now_connected();
                    }
                    Err(NotConnected::Later(error)) => {
                        self.connecting = false;
                        let transport = &active.routing.transport;
                        let ladder = |failures| retry_delay(transport, failures);
                        if let Some(wait) = queue.connection_failed(error.clone(), ladder) {
                            let connector = queue.runtime.config.name.as_str();
                            let next_hop = queue.next_hop.domain.as_str();
                            let meaning = crate::explain::meaning(&error);
                            tracing::warn!(connector, next_hop, error, meaning, retry_in = ?wait, "queue in retry");
                        }
                        if let Some(item) = claim.take() {
                            manager.evict(&item.message);
                            item.message.release();
                            manager.put_back(&queue, item);
                        }
                        return false;
                    }
                    Err(NotConnected::Abandoned) => {
                        if let Some(item) = claim.take() {
                            item.message.release();
                            manager.put_back(&queue, item);
                        }
                        return false;
                    }
                    Err(NotConnected::Never(outcome)) => {
                        claim.conclude(&open, vec![outcome; open.len()]).await;
                        return true;
                    }
                }
            }
            match &mut self.connection {
                Some(connection) => connection.send(&outgoing).await,
                None => return true,
            }
        };
        let stale = self.connection.as_ref().is_some_and(Connection::was_stale);
        if stale && let Some(mut item) = claim.item.take_if(|item| !item.retried_fresh) {
            // The next hop closed an idle connection just as we used it: not the message's fault.
            self.connection = None;
            item.retried_fresh = true;
            item.message.release();
            manager.put_back(&queue, item);
            return true;
        }
        self.carried += 1;
        claim.conclude(&open, outcomes).await;
        self.let_go_if_spent().await;
        true
    }

    /// Ends a connection that will carry no more messages, rather than hold it open in vain.
    async fn let_go_if_spent(&mut self) {
        if self.connection.as_mut().is_some_and(|c| !c.usable())
            && let Some(spent) = self.connection.take()
        {
            spent.quit().await;
        }
    }

    fn now_connected(&mut self) {
        if std::mem::take(&mut self.connecting) || self.carried == 0 {
            self.queue.connected();
        }
    }

    /// Tries the next hops in order.
    async fn connect(
        manager: &Queue,
        active: &Active,
        queue: &DeliveryQueue,
    ) -> Result<Connection, NotConnected> {
        let context = &active.routing.context;
        let runtime = &queue.runtime;
        let found = targets(&runtime.config, &queue.next_hop.domain, &context.resolver).await;
        let found = match found {
            Ok(found) => found,
            Err(failure) if failure.is_permanent() => {
                return Err(NotConnected::Never(Outcome::Failed(crate::send::Failure {
                    reply: failure.reply(),
                    remote: None,
                    local: true,
                })));
            }
            Err(failure) => {
                let error = active.routing.words.unresolved(&failure.reply());
                return Err(NotConnected::Later(error));
            }
        };
        let own = |t: &crate::send::Target| {
            t.host.eq_ignore_ascii_case(&runtime.hostname) || (context.is_own_address)(&t.address)
        };
        let mut found = without_ourselves(found, own).map_err(|reply| {
            NotConnected::Never(Outcome::Failed(crate::send::Failure { reply, remote: None, local: true }))
        })?;
        // A host that failed a moment ago goes to the end of the list instead of costing every
        // new connection its timeout.
        found.sort_by_key(|t| manager.breaker.is_open(&t.address));
        let mut first: Option<ConnectFailure> = None;
        let mut last = None;
        for target in found {
            match Connection::open(runtime, &target, context).await {
                Ok(connection) => {
                    manager.breaker.close(&target.address);
                    return Ok(connection);
                }
                Err(failure) if failure.permanent => return Err(NotConnected::Never(failure.outcome())),
                Err(failure) => {
                    manager.breaker.open(target.address);
                    last = Some(target);
                    first.get_or_insert(failure);
                }
            }
        }
        Err(NotConnected::Later(match (first, last) {
            (Some(failure), Some(last)) => active.routing.words.last_error(&failure, &last),
            _ => "451 4.4.0 DNS query failed".to_owned(),
        }))
    }
}

/// Why there is no connection.
enum NotConnected {
    /// The queue goes to Retry with this as `LastError`.
    Later(String),
    /// Trying again is pointless: every recipient has this outcome.
    Never(Outcome),
    /// The queue was replaced, or the process ends.
    Abandoned,
}

impl Queue {
    /// A message as the client engine takes it, for those of its recipients that are `open`.
    fn outgoing(&self, message: &QueuedMessage, open: &[usize]) -> Result<Outgoing, SpoolError> {
        let meta = message.meta()?;
        let mut recipients = meta.envelope.recipients;
        if open.len() < recipients.len() {
            recipients = open.iter().filter_map(|i| recipients.get(*i).cloned()).collect();
        }
        let content = match message.resident() {
            Some(pieces) => OutgoingContent::Memory(pieces),
            None => OutgoingContent::Stored(self.spool.stored(message.id, meta.size)),
        };
        Ok(Outgoing {
            from: meta.envelope.from,
            body: meta.envelope.body,
            smtputf8: meta.envelope.smtputf8,
            ret: meta.envelope.ret,
            envid: meta.envelope.envid,
            recipients,
            size: meta.size,
            facts: meta.facts,
            content,
            message_id: meta.message_id.into_string(),
            record_id: message.id.0,
        })
    }
}

/// How long a host that could not be reached is tried last.
const BREAKER: Duration = Duration::from_mins(1);

/// Hosts that could not be reached a moment ago.
#[derive(Debug, Default)]
pub(super) struct Breaker(std::sync::Mutex<std::collections::HashMap<std::net::SocketAddr, Instant>>);

impl Breaker {
    fn map(&self) -> std::sync::MutexGuard<'_, std::collections::HashMap<std::net::SocketAddr, Instant>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn is_open(&self, address: &std::net::SocketAddr) -> bool {
        self.map().get(address).is_some_and(|since| since.elapsed() < BREAKER)
    }

    fn open(&self, address: std::net::SocketAddr) {
        let mut map = self.map();
        if map.len() > 1024 {
            map.retain(|_, since| since.elapsed() < BREAKER);
        }
        map.insert(address, Instant::now());
    }

    fn close(&self, address: &std::net::SocketAddr) {
        self.map().remove(address);
    }
}
