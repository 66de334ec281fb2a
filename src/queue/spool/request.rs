//! What producers hand to the committer, and the inbox it waits at.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{
    Change, SpoolError,
    format::{self, HEAD, Kind},
};

/// How a waiter hears that its request is durable, or why it is not.
pub(super) type Done = oneshot::Sender<Result<(), SpoolError>>;

/// The content of a message on its way into the log.
#[derive(Debug)]
pub(super) enum Body {
    /// Written into the segment.
    Inline { pieces: Vec<Bytes>, len: u64, crc: u32 },
    /// Already durable in `big/<id>`.
    Big { len: u64, crc: u32 },
}

impl Body {
    /// The CRC is computed here, on the producer's thread, while the bytes are in its cache; the
    /// one committer has better things to do.
    pub(super) fn inline(pieces: Vec<Bytes>) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        let mut len = 0;
        for piece in &pieces {
            hasher.update(piece);
            len += piece.len() as u64;
        }
        Self::Inline { pieces, len, crc: hasher.finalize() }
    }

    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Inline { len, .. } | Self::Big { len, .. } => *len,
        }
    }

    pub(super) fn crc(&self) -> u32 {
        match self {
            Self::Inline { crc, .. } | Self::Big { crc, .. } => *crc,
        }
    }
}

/// One record to write.
#[derive(Debug)]
pub(super) enum Request {
    /// A new message.
    Message { id: u64, meta: Bytes, body: Body, changes: Vec<Change>, done: Done },
    /// A live message that moves to the end of the log, from segment `from`.
    Copy { id: u64, from: u64, meta: Bytes, body: Body },
    /// The same for the state of a message.
    CopyState { id: u64, from: u64, state: Bytes },
    /// A change; lazy without a waiter.
    Change { change: Change, done: Option<Done> },
    /// Ids below this may be given out.
    Reserve(u64),
}

impl Request {
    /// Size of the record in the segment.
    pub(super) fn record(&self) -> u64 {
        HEAD as u64
            + match self {
                Self::Message { meta, body, changes, .. } => {
                    format::changes_len(changes) + meta.len() as u64 + inline(body)
                }
                Self::Copy { meta, body, .. } => meta.len() as u64 + inline(body),
                Self::CopyState { state, .. } | Self::Change { change: Change::State(_, state), .. } => {
                    state.len() as u64
                }
                Self::Change { change: Change::Remove(_), .. } | Self::Reserve(_) => 0,
            }
    }

    /// What its record says, except for an inline content.
    pub(super) fn draft(&self) -> format::Draft<'_> {
        let plain =
            |kind, id| format::Draft { kind, id, changes: &[], meta: &[], content: 0, content_crc: 0 };
        let message = |id, changes, meta, body: &Body| format::Draft {
            kind: if matches!(body, Body::Inline { .. }) { Kind::Message } else { Kind::Big },
            id,
            changes,
            meta,
            content: body.len(),
            content_crc: body.crc(),
        };
        match self {
            Self::Message { id, meta, body, changes, .. } => message(*id, changes.as_slice(), meta, body),
            Self::Copy { id, meta, body, .. } => message(*id, &[], meta, body),
            Self::CopyState { id, state, .. } => format::Draft { meta: state, ..plain(Kind::State, *id) },
            Self::Change { change: Change::State(id, state), .. } => {
                format::Draft { meta: state, ..plain(Kind::State, id.0) }
            }
            Self::Change { change: Change::Remove(id), .. } => plain(Kind::Remove, id.0),
            Self::Reserve(ceiling) => plain(Kind::Reserve, *ceiling),
        }
    }

    /// The pieces that follow the draft in the segment.
    pub(super) fn pieces(&self) -> &[Bytes] {
        match self {
            Self::Message { body: Body::Inline { pieces, .. }, .. }
            | Self::Copy { body: Body::Inline { pieces, .. }, .. } => pieces,
            _ => &[],
        }
    }

    /// Whether somebody waits for it.
    fn durable(&self) -> bool {
        matches!(self, Self::Message { .. } | Self::Change { done: Some(_), .. } | Self::Reserve(_))
    }

    /// Answers the waiter, if there is one. A waiter that went away is no concern.
    pub(super) fn answer(self, result: Result<(), SpoolError>) {
        if let Self::Message { done, .. } | Self::Change { done: Some(done), .. } = self {
            let _ = done.send(result);
        }
    }
}

fn inline(body: &Body) -> u64 {
    match body {
        Body::Inline { len, .. } => *len,
        Body::Big { .. } => 0,
    }
}

/// The requests that wait for the committer.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    queue: Vec<Request>,
    /// When the oldest lazy request of the queue came.
    lazy_since: Option<Instant>,
    /// Somebody waits for something in the queue.
    durable: bool,
    /// The committer sleeps.
    asleep: bool,
    /// The committer sleeps for longer than a lazy request may wait.
    asleep_long: bool,
    /// Somebody waited for the last batch.
    busy: bool,
    /// Producers are refused.
    closed: bool,
    /// Nothing more will come: the committer ends.
    ending: bool,
    /// The committer has ended.
    ended: bool,
}

/// What [`Inbox::take`] found.
pub(super) struct Taken {
    /// Somebody waits for something in the batch.
    pub(super) durable: bool,
    /// This is the last batch.
    pub(super) ending: bool,
}

impl Inbox {
    /// A producer's request; refused once the spool is closed.
    pub(super) fn push(&self, request: Request) {
        let state = self.lock();
        if state.closed {
            drop(state);
            return request.answer(Err(SpoolError::Closed));
        }
        self.push_locked(state, request);
    }

    /// A request the spool itself makes, or promised before it was closed.
    pub(super) fn push_late(&self, request: Request) {
        let state = self.lock();
        if state.ended {
            drop(state);
            return request.answer(Err(SpoolError::Closed));
        }
        self.push_locked(state, request);
    }

    fn push_locked(&self, mut state: MutexGuard<'_, State>, request: Request) {
        let ring = if request.durable() {
            // Only the first one of a batch rings.
            !std::mem::replace(&mut state.durable, true) && state.asleep
        } else {
            if state.lazy_since.is_none() {
                state.lazy_since = Some(Instant::now());
            }
            std::mem::take(&mut state.asleep_long)
        };
        state.queue.push(request);
        drop(state);
        if ring {
            self.bell.notify_one();
        }
    }

    /// Waits until somebody needs an answer, a lazy request has waited for `lazy`, or `until`; then
    /// swaps the queue with `batch`, which must be empty.
    pub(super) fn take(&self, batch: &mut Vec<Request>, lazy: Duration, until: Option<Instant>) -> Taken {
        let mut state = self.lock();
        // Most messages are soon followed by their removal. So as not to be woken up for that, the
        // committer sleeps no longer than it may wait, once, before it sleeps for long.
        let mut nap = std::mem::take(&mut state.busy).then(|| Instant::now() + lazy);
        while !state.durable && !state.ending {
            let written_by = state.lazy_since.map(|since| since + lazy);
            let due = [written_by.or(nap), until].into_iter().flatten().min();
            state.asleep = true;
            state.asleep_long = written_by.or(nap).is_none();
            state = if let Some(due) = due {
                let rest = due.saturating_duration_since(Instant::now());
                if rest.is_zero() && written_by.is_none() && nap == Some(due) {
                    nap = None;
                    continue;
                }
                if rest.is_zero() {
                    break;
                }
                self.bell.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0
            } else {
                self.bell.wait(state).unwrap_or_else(PoisonError::into_inner)
            };
        }
        state.asleep = false;
        state.asleep_long = false;
        if state.durable && !state.ending {
            // Sessions that are ready to run hand in their messages first, and share the sync. On
            // a processor with nothing else to do this returns at once, so nobody waits in vain.
            drop(state);
            std::thread::yield_now();
            state = self.lock();
        }
        state.lazy_since = None;
        state.busy = state.durable;
        std::mem::swap(&mut state.queue, batch);
        Taken { durable: std::mem::take(&mut state.durable), ending: state.ending }
    }

    /// Lets the committer look around although nobody waits for anything.
    pub(super) fn ring(&self) {
        self.lock().durable = true;
        self.bell.notify_one();
    }

    /// Refuses producers from now on.
    pub(super) fn close(&self) {
        self.lock().closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Tells the committer to end with its next batch.
    pub(super) fn end(&self) {
        self.lock().ending = true;
        self.bell.notify_one();
    }

    /// The committer has ended: whatever still comes is refused, so that no waiter waits for ever.
    pub(super) fn ended(&self) {
        let mut state = self.lock();
        state.ended = true;
        let rest = std::mem::take(&mut state.queue);
        drop(state);
        for request in rest {
            request.answer(Err(SpoolError::Closed));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
