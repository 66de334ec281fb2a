//! A delivery queue: the messages for one next hop of one send connector (exchange-edge.md 9.5),
//! and how many connections work on it.
//!
//! Everything is O(1) a message: a ready list, a map of deferred messages by time, counters.
//! Workers come and go as there is work; a queue whose next hop cannot be reached is in Retry
//! and has none.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::route::NextHop;
use crate::send::ConnectorRuntime;

use super::message::QueuedMessage;

/// A message and those of its recipients that this queue delivers to.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) message: Arc<QueuedMessage>,
    /// Indices into the envelope; none = all of them.
    pub(super) recipients: Option<Box<[u16]>>,
    /// A connection that had served before broke under this message; it was tried again at once.
    pub(super) retried_fresh: bool,
}

impl Item {
    /// Takes the message in hand for those of this item's recipients that are not settled.
    pub(super) fn claim(&self) -> Vec<usize> {
        self.message.claim(self.recipients.as_deref())
    }

    /// The envelope indices this item is for, of a message with `all` recipients.
    pub(super) fn indices(&self, all: usize) -> impl Iterator<Item = usize> + '_ {
        let (some, range) = match &self.recipients {
            Some(list) => (Some(list.iter().map(|i| usize::from(*i))), 0..0),
            None => (None, 0..all),
        };
        some.into_iter().flatten().chain(range)
    }
}

/// How a queue stands, for those who look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueStatus {
    /// Connections are open and delivering.
    Active,
    /// A connection is being opened.
    Connecting,
    /// Nothing to do, or about to start.
    Ready,
    /// The next hop could not be reached; waiting.
    Retry,
}

/// What a queue looks like at one moment (exchange-edge.md 9.5, `Get-Queue`).
#[derive(Debug, Clone)]
pub struct QueueView {
    /// The number in its identity.
    pub number: u64,
    /// Send connector.
    pub connector: String,
    /// `NextHopDomain`
    pub next_hop: String,
    /// State.
    pub status: QueueStatus,
    /// Messages waiting or in delivery.
    pub messages: usize,
    /// Of these, messages waiting for their own retry time.
    pub deferred: usize,
    /// Failed connections in a row.
    pub retry_count: u32,
    /// Why the last one failed.
    pub last_error: Option<String>,
    /// Until the next attempt.
    pub next_retry: Option<Duration>,
}

pub(super) struct DeliveryQueue {
    pub(super) number: u64,
    pub(super) runtime: Arc<ConnectorRuntime>,
    pub(super) next_hop: NextHop,
    inner: Mutex<Inner>,
    /// Wakes an idle worker.
    work: Notify,
    /// Wakes the driver.
    changed: Notify,
    /// Wakes workers that are busy with something they can leave.
    replaced: Notify,
}

#[derive(Debug)]
struct Inner {
    ready: VecDeque<Item>,
    deferred: BTreeMap<(Instant, u64), Item>,
    sequence: u64,
    in_flight: usize,
    retry_at: Option<Instant>,
    failures: u32,
    last_error: Option<String>,
    workers: usize,
    idle: usize,
    connecting: usize,
    /// Connections this next hop bears, learnt: grows with each success, shrinks when refused.
    limit: f64,
    /// Items handed to workers so far.
    taken: u64,
    /// Other queues need the connections this one could have besides; it asks again at this time.
    crowded: Option<Instant>,
    /// What `taken` was when the driver last looked, and when it looks again: with no progress by
    /// then, the ready messages wait for a busy next hop and another connection helps.
    watched: Option<(u64, Instant)>,
    empty_since: Option<Instant>,
    /// Replaced after a reload; takes no more items.
    retired: bool,
}

/// Connections a new queue may open before its next hop has shown what it bears.
const FIRST_LIMIT: f64 = 4.0;
/// Ready messages a connection is expected to see to; with more, another one is opened.
const BACKLOG: usize = 4;
/// How long a ready message may wait for a busy connection before another one is opened.
const PATIENCE: Duration = Duration::from_millis(20);
/// When a queue that may not have another connection for the sake of other queues asks again.
const CROWDED: Duration = Duration::from_millis(200);
/// How long an empty queue lives on (`QueueMaxIdleTime`, exchange-edge.md 2.5).
const MAX_IDLE: Duration = Duration::from_mins(3);

/// What the driver of a queue is to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Start this many workers, then ask again. `first`: there was none.
    Start { first: bool, count: usize },
    /// Ask again at this time, or when something changes.
    Wait(Option<Instant>),
    /// The queue is empty for good.
    End,
}

/// A worker that waits for work, counted as such for exactly as long as it waits: it may give up
/// at any moment, and a worker counted as idle that is not would let messages lie.
struct Idle<'a>(&'a DeliveryQueue);

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.0.inner().idle -= 1;
    }
}

impl Inner {
    /// Connections there may be now. After a failure one goes ahead to see whether the next hop
    /// is back.
    fn limit_now(&self, runtime: &ConnectorRuntime) -> usize {
        let limit = if self.failures > 0 { 1 } else { self.limit as usize };
        limit.clamp(1, runtime.config.max_connections.max(1))
    }
}

impl DeliveryQueue {
    pub(super) fn new(number: u64, runtime: Arc<ConnectorRuntime>, next_hop: NextHop) -> Arc<Self> {
        Arc::new(Self {
            number,
            runtime,
            next_hop,
            inner: Mutex::new(Inner {
                ready: VecDeque::new(),
                deferred: BTreeMap::new(),
                sequence: 0,
                in_flight: 0,
                retry_at: None,
                failures: 0,
                last_error: None,
                workers: 0,
                idle: 0,
                connecting: 0,
                limit: FIRST_LIMIT,
                taken: 0,
                crowded: None,
                watched: None,
                empty_since: None,
                retired: false,
            }),
            work: Notify::new(),
            changed: Notify::new(),
            replaced: Notify::new(),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an item; gives it back when the queue has been replaced.
    pub(super) fn push(&self, item: Item) -> Result<(), Item> {
        let mut inner = self.inner();
        if inner.retired {
            return Err(item);
        }
        inner.ready.push_back(item);
        inner.empty_since = None;
        self.wake(inner);
        Ok(())
    }

    /// Wakes whoever must see to a new ready item.
    fn wake(&self, inner: MutexGuard<'_, Inner>) {
        if inner.retry_at.is_some() {
            return;
        }
        if inner.idle > 0 {
            self.work.notify_one();
            // One that was woken for an earlier item counts as idle until it runs; more items than
            // that must not wait for whatever keeps it busy.
            if inner.ready.len() <= inner.idle {
                return;
            }
        }
        let short = inner.watched.is_none() || inner.ready.len() > BACKLOG * inner.workers;
        if short && inner.workers < inner.limit_now(&self.runtime) {
            drop(inner);
            self.changed.notify_one();
        }
    }

    /// Puts an item back until `at`; gives it back when the queue has been replaced.
    pub(super) fn defer(&self, item: Item, at: Instant) -> Result<(), Item> {
        let mut inner = self.inner();
        if inner.retired {
            return Err(item);
        }
        inner.sequence += 1;
        let key = (at, inner.sequence);
        inner.deferred.insert(key, item);
        inner.empty_since = None;
        drop(inner);
        self.changed.notify_one();
        Ok(())
    }

    /// Puts an item back where it came from, ahead of all others.
    pub(super) fn put_back(&self, item: Item) -> Result<(), Item> {
        let mut inner = self.inner();
        if inner.retired {
            return Err(item);
        }
        inner.ready.push_front(item);
        self.wake(inner);
        Ok(())
    }

    /// An item in a worker's hands is settled, deferred or put back.
    pub(super) fn landed(&self) {
        self.inner().in_flight -= 1;
    }

    /// The next ready item. A worker with an open connection waits for one as long as `idle` says.
    pub(super) async fn next(&self, idle: Option<Duration>) -> Option<Item> {
        let connected = idle.is_some();
        let until = Instant::now() + idle.unwrap_or_default();
        loop {
            {
                let mut inner = self.inner();
                if inner.retired || (inner.retry_at.is_some() && !connected) {
                    return None;
                }
                if let Some(item) = inner.ready.pop_front() {
                    inner.in_flight += 1;
                    inner.taken += 1;
                    return Some(item);
                }
                if !connected {
                    return None;
                }
                inner.idle += 1;
            }
            let idle = Idle(self);
            let woken = tokio::time::timeout_at(until, self.work.notified()).await.is_ok();
            drop(idle);
            if !woken && self.inner().ready.is_empty() {
                return None;
            }
        }
    }

    /// What is to be done now. Only the queue's driver asks.
    pub(super) fn step(&self, now: Instant) -> Step {
        let mut inner = self.inner();
        if inner.retired {
            return Step::End;
        }
        while let Some(entry) = inner.deferred.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let item = entry.remove();
            inner.ready.push_back(item);
        }
        if let Some(at) = inner.retry_at {
            if at > now {
                let wake = inner.deferred.first_key_value().map_or(at, |((t, _), _)| at.min(*t));
                return Step::Wait(Some(wake.max(now)));
            }
            inner.retry_at = None;
        }
        if inner.ready.is_empty() {
            inner.watched = None;
            let quiet = inner.workers == 0 && inner.in_flight == 0 && inner.deferred.is_empty();
            if !quiet {
                inner.empty_since = None;
                return Step::Wait(inner.deferred.first_key_value().map(|((t, _), _)| *t));
            }
            let since = *inner.empty_since.get_or_insert(now);
            if now - since >= MAX_IDLE {
                inner.retired = true;
                return Step::End;
            }
            return Step::Wait(Some(since + MAX_IDLE));
        }
        let mut limit = inner.limit_now(&self.runtime);
        let crowded = inner.crowded.filter(|until| *until > now);
        if crowded.is_some() {
            limit = limit.min(inner.workers.max(1));
        }
        let taken = inner.taken;
        let watch = inner.watched.filter(|(before, _)| *before == taken);
        let stuck = watch.is_some_and(|(_, until)| now >= until);
        let backlog = (inner.ready.len() / BACKLOG).max(1);
        let target = if stuck { backlog.max(inner.workers + 1) } else { backlog }.min(limit);
        let start = if inner.idle > 0 { 0 } else { target.saturating_sub(inner.workers) };
        // Deferred items that are due now: nobody was woken when they became ready.
        for _ in 0..inner.idle.min(inner.ready.len()) {
            self.work.notify_one();
        }
        if start > 0 {
            inner.workers += start;
            inner.connecting += start;
            inner.watched = None;
            return Step::Start { first: inner.workers == start, count: start };
        }
        if inner.workers < limit {
            let until = watch.map_or(now + PATIENCE, |(_, until)| until);
            inner.watched = Some((taken, until));
            return Step::Wait(Some(until));
        }
        // All connections there may be are busy; each takes what is ready as it gets free.
        inner.watched = None;
        let due = inner.deferred.first_key_value().map(|((t, _), _)| *t);
        Step::Wait(due.into_iter().chain(crowded).min())
    }

    /// The last `count` workers of [`Step::Start`] were not started: what is left of the
    /// connections out is for other queues.
    pub(super) fn not_started(&self, count: usize) {
        let mut inner = self.inner();
        inner.workers -= count;
        inner.connecting = inner.connecting.saturating_sub(count);
        inner.crowded = Some(Instant::now() + CROWDED);
    }

    /// Returns when the driver should look again.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// A worker has its connection.
    pub(super) fn connected(&self) {
        let mut inner = self.inner();
        inner.connecting = inner.connecting.saturating_sub(1);
        inner.failures = 0;
        inner.retry_at = None;
        inner.last_error = None;
        drop(inner);
        self.changed.notify_one();
    }

    /// A worker could not connect. Where others can, only fewer connections are tried from now
    /// on; where none can, the queue waits its turn on the retry ladder, for the time returned.
    pub(super) fn connection_failed(
        &self,
        error: String,
        delay: impl FnOnce(u32) -> Duration,
    ) -> Option<Duration> {
        let mut inner = self.inner();
        inner.connecting = inner.connecting.saturating_sub(1);
        inner.last_error = Some(error);
        let open = inner.workers.saturating_sub(inner.connecting + 1);
        if open > 0 {
            inner.limit = (inner.limit / 2.0).max(1.0);
            return None;
        }
        if inner.retry_at.is_some() {
            return None;
        }
        inner.failures += 1;
        let wait = delay(inner.failures);
        inner.retry_at = Some(Instant::now() + wait);
        Some(wait)
    }

    /// A message was taken: the next hop bears this many connections, perhaps one more.
    pub(super) fn succeeded(&self) {
        let mut inner = self.inner();
        let top = self.runtime.config.max_connections as f64;
        if inner.limit < top {
            inner.limit = (inner.limit + 1.0 / inner.limit).min(top);
        }
    }

    /// The next hop asked for less (421, 4.7.500).
    pub(super) fn refused(&self, error: String) {
        let mut inner = self.inner();
        inner.limit = (inner.limit / 2.0).max(1.0);
        inner.last_error = Some(error);
    }

    /// A worker ends; `connecting` if it never had a connection nor failed to get one.
    pub(super) fn worker_gone(&self, connecting: bool) {
        let mut inner = self.inner();
        inner.workers -= 1;
        if connecting {
            inner.connecting = inner.connecting.saturating_sub(1);
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// Whether it takes no more items.
    pub(super) fn is_retired(&self) -> bool {
        self.inner().retired
    }

    /// Takes all waiting items out; the queue accepts none from now on.
    pub(super) fn retire(&self) -> Vec<Item> {
        let mut inner = self.inner();
        inner.retired = true;
        let mut items: Vec<Item> = std::mem::take(&mut inner.ready).into();
        items.extend(std::mem::take(&mut inner.deferred).into_values());
        drop(inner);
        self.changed.notify_one();
        self.work.notify_waiters();
        self.replaced.notify_waiters();
        items
    }

    /// Returns once the queue has been replaced.
    pub(super) async fn replaced(&self) {
        let told = self.replaced.notified();
        tokio::pin!(told);
        // Listening before looking: nothing falls in between.
        told.as_mut().enable();
        if !self.is_retired() {
            told.await;
        }
    }

    /// Drops items all of whose recipients are settled, say because they expired.
    pub(super) fn purge(&self) {
        let mut inner = self.inner();
        let open = |item: &Item| !item.message.state().is_final();
        inner.ready.retain(open);
        inner.deferred.retain(|_, item| open(item));
    }

    /// Whether a message waits here.
    pub(super) fn holds(&self, message: &Arc<QueuedMessage>) -> bool {
        let inner = self.inner();
        let mut items = inner.ready.iter().chain(inner.deferred.values());
        items.any(|item| Arc::ptr_eq(&item.message, message))
    }

    /// What it looks like now.
    pub(super) fn view(&self) -> QueueView {
        let inner = self.inner();
        let status = match () {
            () if inner.retry_at.is_some() => QueueStatus::Retry,
            () if inner.workers > inner.connecting => QueueStatus::Active,
            () if inner.connecting > 0 => QueueStatus::Connecting,
            () => QueueStatus::Ready,
        };
        QueueView {
            number: self.number,
            connector: self.runtime.config.name.clone(),
            next_hop: self.next_hop.domain.clone(),
            status,
            messages: inner.ready.len() + inner.deferred.len() + inner.in_flight,
            deferred: inner.deferred.len(),
            retry_count: inner.failures,
            last_error: inner.last_error.clone(),
            next_retry: inner.retry_at.map(|at| at.saturating_duration_since(Instant::now())),
        }
    }
}

#[cfg(test)]
#[path = "delivery_tests.rs"]
mod tests;
