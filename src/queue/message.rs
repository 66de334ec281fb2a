//! A message in the queue: what was accepted, and how far its delivery has come.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::message::Envelope;
use crate::smtp::BodyFacts;

use super::spool::{MessageId, SpoolError, StoredContent};

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
    pub recipients: Vec<RecipientStatus>,
}

impl State {
    /// Whether every recipient is settled.
    pub fn is_final(&self) -> bool {
        self.recipients.iter().all(|r| *r != RecipientStatus::Pending)
    }
}

/// A message the spool holds.
#[derive(Debug)]
pub struct QueuedMessage {
    /// Identity in the spool: Exchange's `InternalId`.
    pub id: MessageId,
    /// What was accepted.
    pub meta: MessageMeta,
    stored: StoredContent,
    /// The content, kept in memory through the first attempt so that the disk need not be read.
    resident: Mutex<Option<Vec<Bytes>>>,
    state: Mutex<State>,
    /// Workers that are at it now.
    in_flight: AtomicU32,
    /// See [`turn`](Self::turn).
    turn: tokio::sync::Mutex<()>,
}

impl QueuedMessage {
    pub(super) fn new(
        id: MessageId,
        meta: MessageMeta,
        stored: StoredContent,
        resident: Option<Vec<Bytes>>,
        state: Option<State>,
    ) -> Arc<Self> {
        let state = state.unwrap_or_else(|| State {
            delay_notified: false,
            attempts: 0,
            last_error: None,
            recipients: vec![RecipientStatus::Pending; meta.envelope.recipients.len()],
        });
        Arc::new(Self {
            id,
            meta,
            stored,
            resident: Mutex::new(resident),
            state: Mutex::new(state),
            in_flight: AtomicU32::new(0),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// Delivery state.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be held by whoever settles recipients, until what was settled is in the spool.
    ///
    /// A recipient counts as given up in the state before its report is durable, because both go
    /// into the spool together. Meanwhile another worker, which serves other recipients over
    /// another next hop, must not write that state down, or a crash would find a recipient that
    /// is done with and no report; and not find the message complete and remove it.
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Takes the message in hand for those of `indices` that are still to be delivered to; to be
    /// ended by [`release`](Self::release).
    pub(super) fn claim(&self, indices: impl Iterator<Item = usize>) -> Vec<usize> {
        let state = self.state();
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        indices.filter(|i| state.recipients.get(*i) == Some(&RecipientStatus::Pending)).collect()
    }

    /// Ends [`claim`](Self::claim).
    pub(super) fn release(&self) {
        let _state = self.state();
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Claims all open recipients of a message nobody is sending, marking them so that nobody
    /// begins; none if somebody is.
    pub(super) fn take_for_expiry(&self) -> Option<Vec<usize>> {
        let mut state = self.state();
        if self.in_flight.load(Ordering::Relaxed) > 0 {
            return None;
        }
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let mut open = Vec::new();
        for (i, status) in state.recipients.iter_mut().enumerate() {
            if *status == RecipientStatus::Pending {
                *status = RecipientStatus::Failed;
                open.push(i);
            }
        }
        Some(open)
    }

    /// Content in memory, if it still is.
    pub(super) fn resident(&self) -> Option<Vec<Bytes>> {
        self.resident.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets go of the content in memory; the spool has it. Returns the bytes freed.
    pub(super) fn evict(&self) -> u64 {
        match self.resident.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(_) => self.meta.size,
            None => 0,
        }
    }

    /// Content in the spool.
    pub(super) fn stored(&self) -> &StoredContent {
        &self.stored
    }

    /// The first `limit` bytes of the content, from memory or disk. Blocks on disk.
    pub fn head(&self, limit: usize) -> Result<Vec<u8>, SpoolError> {
        if let Some(parts) = self.resident() {
            let mut head = Vec::with_capacity(limit.min(self.meta.size as usize));
            for part in parts {
                let room = limit - head.len();
                head.extend_from_slice(&part[..part.len().min(room)]);
            }
            return Ok(head);
        }
        let mut reader = self.stored.open_reader()?;
        let mut head = Vec::new();
        while head.len() < limit
            && let Some(chunk) = reader.next_chunk(limit - head.len())?
        {
            head.extend_from_slice(&chunk);
        }
        Ok(head)
    }

    /// Time since it was accepted.
    pub fn age(&self) -> Duration {
        SystemTime::now().duration_since(self.received()).unwrap_or_default()
    }

    /// When it was accepted.
    pub fn received(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.meta.received_ms)
    }
}
