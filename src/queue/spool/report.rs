//! What was in a spool when it was opened.

use std::fmt;

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedReceiver;

use super::{MessageId, SpoolError};

/// What was in the spool, as it is read. Dropped, the spool is read all the same.
#[derive(Debug)]
pub struct Recovery {
    pub(super) handed: UnboundedReceiver<Result<Recovered, SpoolError>>,
    pub(super) segments: u64,
    pub(super) bytes: u64,
}

impl Recovery {
    /// What comes next. An error is the last thing to come: [`SpoolError::Closed`] when the spool
    /// was closed before all was read, any other when it cannot be read; what it holds is there
    /// for the next start.
    pub async fn next(&mut self) -> Result<Recovered, SpoolError> {
        self.handed.recv().await.unwrap_or(Err(SpoolError::Closed))
    }

    /// Segments to read.
    pub fn segments(&self) -> u64 {
        self.segments
    }

    /// Bytes of these segments.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// A part of what was in the spool.
#[derive(Debug)]
pub enum Recovered {
    /// Live messages in order of id, each batch behind the one before. Changes may be applied to
    /// them from now on.
    Messages(Vec<RecoveredMessage>),
    /// That was all.
    End(RecoveryReport),
}

/// One message that was in the spool.
#[derive(Debug, Clone)]
pub struct RecoveredMessage {
    /// Its id.
    pub id: MessageId,
    /// The meta data it was appended with.
    pub meta: Box<[u8]>,
    /// Its last state.
    pub state: Option<Bytes>,
}

/// Figures of a recovery. `Display` is one line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Segments read.
    pub segments: u64,
    /// Good records in them.
    pub records: u64,
    /// Live messages.
    pub messages: u64,
    /// Removal marks.
    pub removed: u64,
    /// Bytes of writes that a crash cut short, which nobody was told were safe.
    pub torn_tail_bytes: u64,
    /// Damaged records, contents and files that had been safe.
    pub corrupt_records: u64,
    /// Files without a message, now deleted.
    pub orphan_files: u64,
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} messages, {} segments, {} records, {} removed, {} torn bytes, {} corrupt, {} orphan files",
            self.messages,
            self.segments,
            self.records,
            self.removed,
            self.torn_tail_bytes,
            self.corrupt_records,
            self.orphan_files
        )
    }
}
