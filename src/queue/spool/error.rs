//! What can go wrong in the spool.

use std::{fmt, io, sync::Arc};

use super::MessageId;

/// Why the spool could not do what was asked. Cheap to clone: one failed batch answers all its waiters.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SpoolError {
    /// Another process holds the spool.
    #[error("the spool is in use by process {pid}")]
    Locked {
        /// What the lock file says; 0 when it says nothing readable.
        pid: u32,
    },
    /// The disk (or the quota) is full. Nothing of the message was kept; service goes on when space returns.
    #[error("the spool's disk is full")]
    Full,
    /// The operating system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// Its answer.
        source: Arc<io::Error>,
    },
    /// What was read back is not what was written. It concerns this message (or file) only.
    #[error("corrupt spool data: {what} at {place}")]
    Corrupt {
        /// What is wrong.
        what: &'static str,
        /// Which message or file.
        place: Place,
    },
    /// The message has been removed.
    #[error("message {0} is no longer in the spool")]
    Gone(MessageId),
    /// The message is too large for what the spool can describe.
    #[error("too large for the spool: {0}")]
    TooLarge(&'static str),
    /// The spool was closed.
    #[error("the spool is closed")]
    Closed,
    /// The disk failed to make data durable, and a fresh segment failed as well. Only a restart helps.
    #[error("the spool's disk failed to sync; accepting nothing until a restart")]
    Poisoned,
}

/// Where corrupt data was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The content of a message.
    Message(MessageId),
    /// A byte of a segment.
    Segment {
        /// Its number, which is its file name.
        number: u64,
        /// Bytes from its start.
        offset: u64,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(id) => write!(f, "message {id}"),
            Self::Segment { number, offset } => write!(f, "segment {number:016x} offset {offset}"),
        }
    }
}

impl SpoolError {
    /// An I/O error with its context; the two ways of being out of space become [`SpoolError::Full`].
    pub(super) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            if is_full(&source) { Self::Full } else { Self::Io { what, source: Arc::new(source) } }
        }
    }
}

/// No space or no quota: passes by itself, so it is never treated as a broken disk.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
