//! Tests of the spool as a whole.

mod collect;
mod damage;
mod faults;
mod model;
mod real;
mod replay;
mod sim;

use std::{path::Path, sync::Arc};

use bytes::Bytes;

use self::sim::SimDisk;
use super::{
    Content, MessageId, Recovered, Recovery, RecoveryReport, Spool, SpoolError, SpoolOptions, StoredContent,
};

/// Waits for a future without a runtime of its own.
fn wait<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn small() -> SpoolOptions {
    SpoolOptions { segment_size: 64 << 10, ..SpoolOptions::default() }
}

/// What a spool held when it was opened.
#[derive(Debug)]
struct Found {
    messages: Vec<FoundMessage>,
    report: RecoveryReport,
}

#[derive(Debug)]
struct FoundMessage {
    id: MessageId,
    meta: Box<[u8]>,
    state: Option<Bytes>,
    content: StoredContent,
}

/// Waits until all of it is handed over.
fn read(spool: &Spool, mut recovery: Recovery) -> Result<Found, SpoolError> {
    let mut messages: Vec<FoundMessage> = Vec::new();
    wait(async {
        loop {
            match recovery.next().await? {
                Recovered::Messages(batch) => messages.extend(batch.into_iter().map(|message| {
                    let content = spool.content(message.id).unwrap();
                    FoundMessage { id: message.id, meta: message.meta, state: message.state, content }
                })),
                Recovered::End(report) => {
                    assert!(messages.is_sorted_by_key(|message| message.id));
                    return Ok(Found { messages, report });
                }
            }
        }
    })
}

/// A spool on a simulated disk, read to its end.
fn open(disk: &SimDisk) -> (Spool, Found) {
    let (spool, recovery) = Spool::open_on(Arc::new(disk.clone()), small(), None).unwrap();
    let found = read(&spool, recovery).unwrap();
    (spool, found)
}

/// A spool on the disk of this machine, read to its end.
fn open_dir(dir: &Path, options: SpoolOptions) -> Result<(Spool, Found), SpoolError> {
    let (spool, recovery) = Spool::open(dir, options)?;
    let found = read(&spool, recovery)?;
    Ok((spool, found))
}

/// The seed of a message made by [`append`].
fn seed(message: &FoundMessage) -> u64 {
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
    let id = spool.next_id();
    wait(spool.append(id, meta(seed), Content::Memory(vec![body(seed, len)]), Vec::new()))?;
    // It may be removed by now.
    Ok(spool.stored(id, len as u64))
}
