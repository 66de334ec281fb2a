//! Tests of the spool as a whole.

mod collect;
mod damage;
mod faults;
mod model;
mod real;
mod sim;

use std::sync::Arc;

use bytes::Bytes;

use self::sim::SimDisk;
use super::{Content, RecoveredMessage, Recovery, Spool, SpoolError, SpoolOptions, StoredContent};

/// Waits for a future without a runtime of its own.
fn wait<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn small() -> SpoolOptions {
    SpoolOptions { segment_size: 64 << 10, ..SpoolOptions::default() }
}

/// A spool on a simulated disk.
fn open(disk: &SimDisk) -> (Spool, Recovery) {
    Spool::open_on(Arc::new(disk.clone()), small(), None).unwrap()
}

/// The seed of a message made by [`append`].
fn seed(message: &RecoveredMessage) -> u64 {
    std::str::from_utf8(&message.meta).unwrap().rsplit(' ').next().unwrap().parse().unwrap()
}

/// Bytes that differ from message to message.
fn body(seed: u64, len: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

fn meta(seed: u64) -> Bytes {
    format!("meta of {seed}").into()
}

fn append(spool: &Spool, seed: u64, len: usize) -> Result<StoredContent, SpoolError> {
    wait(spool.append(spool.next_id(), meta(seed), Content::Memory(vec![body(seed, len)]), Vec::new()))
}
