//! Turns: who may settle recipients of a message.
//!
//! A recipient counts as given up in the state before its report is durable, because both go into
//! the spool together. Meanwhile another worker, which serves other recipients over another next
//! hop, must not write that state down, or a crash would find a recipient that is done with and no
//! report; and not find the message complete and remove it.

use tokio::sync::{Mutex, MutexGuard};

use super::spool::MessageId;

/// More than there are workers that settle at one moment.
const LOCKS: usize = 1024;

/// One lock for many messages, instead of one each: a million may be waiting, and hardly any is
/// being settled. Nobody who has a turn waits for another one.
#[derive(Debug)]
pub(super) struct Turns(Box<[Mutex<()>]>);

impl Default for Turns {
    fn default() -> Self {
        Self((0..LOCKS).map(|_| Mutex::default()).collect())
    }
}

impl Turns {
    /// To be held by whoever settles recipients of a message, until what was settled is in the
    /// spool.
    pub(super) async fn take(&self, id: MessageId) -> MutexGuard<'_, ()> {
        self.0[id.0 as usize % LOCKS].lock().await
    }
}
