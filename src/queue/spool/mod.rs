//! The spool: every message Gatepost has answered 250 for and not yet delivered.
//!
//! It is an append-only log of segments with group commit. Sessions hand finished messages to one
//! committer thread, which writes everything that waits in one call, syncs once, and then answers
//! all of them. So a 250 costs a share of one `fdatasync`, and no timer makes anybody wait.
//!
//! ```text
//! <dir>/lock                      who uses the spool
//! <dir>/log/0000000000000001.seg  segments: messages, changes of state, removals
//! <dir>/big/000000000000002a      content of big message 0x2a, referred to from the log
//! ```
//!
//! **What is durable when.** [`Spool::append`] and [`Spool::apply_durable`] resolve when the data
//! *and* every directory entry they need are on disk. [`Spool::apply`] is lazy: its change is
//! handed to the kernel with the next batch or after 50 ms, so it survives a crash of Gatepost from
//! then on; it is synced with the next batch or within 1 s, so a crash of the machine may undo
//! changes of the last second. A removal that is undone makes a message be delivered twice, never
//! not at all.
//!
//! **Opening** reads the end of the log only. The rest is read by a thread of its own while mail is
//! stored already, and its messages come out of [`Recovery`]. Segments are emptied and deleted once
//! all of it is read.
//!
//! **What is read back is checked**: magic, version, lengths, CRC. A damaged record costs itself
//! and nothing else. The decisions and their figures are in `docs/decisions/0002-spool.md`.

pub(super) mod bench;
mod collect;
mod committer;
mod content;
mod disk;
mod error;
mod format;
mod handle;
mod helper;
mod index;
mod ledger;
mod lock;
mod names;
mod recover;
mod replay;
mod report;
mod request;
mod rotate;
mod scan;
mod settle;
mod shared;
mod staged;
#[cfg(test)]
mod tests;
mod writer;

use std::{fmt, time::Duration};

use bytes::Bytes;

pub use content::{ContentReader, StoredContent};
pub use error::{Place, SpoolError};
pub use handle::Spool;
pub use report::{Recovered, RecoveredMessage, Recovery, RecoveryReport};
pub use staged::StagedFile;

/// Names a message in this spool, for ever: ids grow and are never used again. It is the
/// `InternalId` of the tracking log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub u64);

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The content of a message to append.
#[derive(Debug)]
pub enum Content {
    /// Pieces in memory, one after the other. Nothing is copied.
    Memory(Vec<Bytes>),
    /// A file from [`Spool::stage`], for messages too big to hold.
    Staged(StagedFile),
}

/// A change to a message in the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Its state from now on.
    State(MessageId, Bytes),
    /// It is done with.
    Remove(MessageId),
}

/// How the spool behaves. The default is right for service; tests want smaller segments.
#[derive(Debug, Clone)]
pub struct SpoolOptions {
    /// Size of a segment; at least 64 KiB, at most 1 GiB.
    pub segment_size: u64,
    /// A lazy change is written at the latest after this.
    pub lazy_write: Duration,
    /// And synced at the latest after this.
    pub lazy_sync: Duration,
    /// A segment this old is moved when a quarter of it is dead.
    pub move_after: Duration,
}

impl Default for SpoolOptions {
    fn default() -> Self {
        Self {
            segment_size: 64 << 20,
            lazy_write: Duration::from_millis(50),
            lazy_sync: Duration::from_secs(1),
            move_after: Duration::from_hours(1),
        }
    }
}

impl SpoolOptions {
    fn bounded(mut self) -> Self {
        self.segment_size = self.segment_size.clamp(64 << 10, 1 << 30);
        self
    }

    /// The end of a segment that is for changes when there is no space for another segment.
    fn spare(&self) -> u64 {
        (self.segment_size / 64).min(1 << 20)
    }
}
