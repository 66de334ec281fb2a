//! A message in the queue: what was accepted, and how far its delivery has come.

use std::net::IpAddr;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::message::Envelope;
use crate::smtp::BodyFacts;

use super::codec;
use super::spool::{MessageId, Place, SpoolError};

/// What is known of a message when it is accepted; never changes afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageMeta {
    /// Exchange's network message id, stable over all copies.
    pub network_message_id: [u8; 16],
    /// When the 250 was decided, in milliseconds since 1970 UTC.
    pub received_ms: u64,
    /// Bytes of content, our own header fields included.
    pub size: u64,
    /// Bytes of header (with the empty line) at the front of the content.
    pub header_len: u32,
    /// `Message-ID` with its angle brackets.
    pub message_id: Box<str>,
    /// `Subject`, as it stands in the header.
    pub subject: Box<str>,
    /// Where it came from.
    pub source: Source,
    /// What was noticed about its bytes.
    pub facts: BodyFacts,
    /// Who it is from and for.
    pub envelope: Envelope,
}

/// Where a message entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Receive connector; `DSN` for our own reports.
    pub connector: Box<str>,
    /// Client address; none for our own reports.
    pub peer: Option<IpAddr>,
    /// Name the client gave in EHLO or HELO.
    pub helo: Box<str>,
}

/// Where one recipient stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum RecipientStatus {
    /// Not settled yet.
    Pending = 0,
    /// A next hop has taken it.
    Delivered = 1,
    /// Given up; its DSN is durable or was not wanted.
    Failed = 2,
    /// An admin removed it.
    Removed = 3,
}

impl RecipientStatus {
    /// The status a spool record's code stands for.
    pub(super) fn from_code(code: u8) -> Option<Self> {
        [Self::Pending, Self::Delivered, Self::Failed, Self::Removed].get(usize::from(code)).copied()
    }
}

/// How far delivery has come; written to the spool when it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// A delay notice was sent or is not wanted.
    pub delay_notified: bool,
    /// Delivery attempts that ended in a deferral of this message.
    pub attempts: u32,
    /// Why the last one did.
    pub last_error: Option<Box<str>>,
    /// One entry a recipient of the envelope.
    pub recipients: Statuses,
}

/// Where the recipients of a message stand. Nearly every message has few enough to need no memory
/// of their own.
pub type Statuses = SmallVec<[RecipientStatus; 16]>;

impl State {
    /// Whether every recipient is settled.
    pub fn is_final(&self) -> bool {
        self.recipients.iter().all(|r| *r != RecipientStatus::Pending)
    }
}

/// A message the spool holds.
///
/// There may be a million of them, so it is small: what was accepted is kept in the form the spool
/// has it in, and read when an attempt or a report needs it.
#[derive(Debug)]
pub struct QueuedMessage {
    /// Identity in the spool: Exchange's `InternalId`.
    pub id: MessageId,
    received_ms: u64,
    /// [`MessageMeta`], encoded.
    meta: Box<[u8]>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    /// Workers that are at it now.
    in_flight: u32,
    resident: Option<Box<Resident>>,
}

/// Content kept in memory through the first attempt, so that the disk need not be read.
#[derive(Debug)]
struct Resident {
    pieces: Vec<Bytes>,
    size: u64,
}

/// The delivery state of a message, locked.
#[derive(Debug)]
pub struct StateGuard<'a>(MutexGuard<'a, Inner>);

impl Deref for StateGuard<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0.state
    }
}

impl DerefMut for StateGuard<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.0.state
    }
}

impl QueuedMessage {
    /// A message of which nothing is known but `meta`, which is what `encoded` says.
    pub(super) fn new(
        id: MessageId,
        meta: &MessageMeta,
        encoded: Box<[u8]>,
        resident: Option<Vec<Bytes>>,
        state: Option<State>,
    ) -> Arc<Self> {
        let state = state.unwrap_or_else(|| State {
            delay_notified: false,
            attempts: 0,
            last_error: None,
            recipients: SmallVec::from_elem(RecipientStatus::Pending, meta.envelope.recipients.len()),
        });
        let resident = resident.map(|pieces| Box::new(Resident { pieces, size: meta.size }));
        let inner = Mutex::new(Inner { state, in_flight: 0, resident });
        Arc::new(Self { id, received_ms: meta.received_ms, meta: encoded, inner })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was accepted.
    pub fn meta(&self) -> Result<MessageMeta, SpoolError> {
        // It was read once already, so only a fault of the machine's memory leads to an error.
        codec::decode_meta(&self.meta).map_err(|error| {
            tracing::error!(id = self.id.0, %error, "what is known of a queued message cannot be read");
            SpoolError::Corrupt { what: "envelope", place: Place::Message(self.id) }
        })
    }

    /// Delivery state.
    pub fn state(&self) -> StateGuard<'_> {
        StateGuard(self.inner())
    }

    /// Takes the message in hand for those of `recipients` (none = all) that are still to be
    /// delivered to; to be ended by [`release`](Self::release).
    pub(super) fn claim(&self, recipients: Option<&[u16]>) -> Vec<usize> {
        let mut inner = self.inner();
        inner.in_flight += 1;
        let open = |i: &usize| inner.state.recipients.get(*i) == Some(&RecipientStatus::Pending);
        match recipients {
            Some(list) => list.iter().map(|i| usize::from(*i)).filter(open).collect(),
            None => (0..inner.state.recipients.len()).filter(open).collect(),
        }
    }

    /// Ends [`claim`](Self::claim).
    pub(super) fn release(&self) {
        self.inner().in_flight -= 1;
    }

    /// Claims all open recipients of a message nobody is sending, marking them so that nobody
    /// begins; none if somebody is.
    pub(super) fn take_for_expiry(&self) -> Option<Vec<usize>> {
        let mut inner = self.inner();
        if inner.in_flight > 0 {
            return None;
        }
        inner.in_flight += 1;
        let mut open = Vec::new();
        for (i, status) in inner.state.recipients.iter_mut().enumerate() {
            if *status == RecipientStatus::Pending {
                *status = RecipientStatus::Failed;
                open.push(i);
            }
        }
        Some(open)
    }

    /// Content in memory, if it still is.
    pub(super) fn resident(&self) -> Option<Vec<Bytes>> {
        self.inner().resident.as_ref().map(|resident| resident.pieces.clone())
    }

    /// Lets go of the content in memory; the spool has it. Returns the bytes freed.
    pub(super) fn evict(&self) -> u64 {
        self.inner().resident.take().map_or(0, |resident| resident.size)
    }

    /// Time since it was accepted.
    pub fn age(&self) -> Duration {
        SystemTime::now().duration_since(self.received()).unwrap_or_default()
    }

    /// When it was accepted.
    pub fn received(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.received_ms)
    }
}
