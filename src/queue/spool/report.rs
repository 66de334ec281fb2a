//! What opening a spool found.

use std::fmt;

use bytes::Bytes;

use super::{MessageId, StoredContent};

/// Everything that was in the spool.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Live messages in order of id.
    pub messages: Vec<RecoveredMessage>,
    /// For the log.
    pub report: RecoveryReport,
}

/// One message that was in the spool.
#[derive(Debug, Clone)]
pub struct RecoveredMessage {
    /// Its id.
    pub id: MessageId,
    /// The meta data it was appended with.
    pub meta: Bytes,
    /// Its last state.
    pub state: Option<Bytes>,
    /// Its content.
    pub content: StoredContent,
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
