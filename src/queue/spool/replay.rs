//! The third thread, which ends when its work is done: reads what earlier runs left in the log while
//! mail is taken already, and hands it over.
//!
//! Nothing is handed over before all segments are read: the mark that removes a message may lie in
//! the last of them. Until then nobody knows of the messages, so this run changes none of them, and
//! its own segments say nothing about them; so they need not be read.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    thread,
};

use tokio::sync::mpsc::UnboundedSender;

use super::{
    MessageId, Recovered, RecoveredMessage, RecoveryReport, SpoolError,
    disk::DiskFile,
    format::SegmentHeader,
    ledger::{Ledger, Live},
    recover::{self, Unread},
    scan::Scanned,
    settle::settle,
    shared::Shared,
};

/// Name of this thread and of those that read segments for it.
pub(super) const NAME: &str = "spool-replay";
/// Messages handed over at a time; the index is locked for no more than these.
const BATCH: usize = 256;
/// Segments read at a time.
const READERS: usize = 4;

/// How the messages reach whoever opened the spool.
pub(super) type Hand = UnboundedSender<Result<Recovered, SpoolError>>;

pub(super) fn run(shared: &Shared, unread: Unread, hand: &Hand) {
    let _guard = Guard(shared);
    let last = match replay(shared, unread, hand) {
        Ok(report) => Ok(Recovered::End(report)),
        Err(error) => {
            if !matches!(error, SpoolError::Closed) {
                tracing::error!(%error, "the spool cannot be read");
                shared.unreadable(format!("the spool cannot be read: {error}"));
            }
            Err(error)
        }
    };
    // Nobody who wants to know is no concern.
    let _ = hand.send(last);
}

/// Should this thread fail, its messages are missing, which must not stay unknown.
struct Guard<'a>(&'a Shared);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.unreadable("the reader of the spool has failed".into());
        }
    }
}

fn replay(shared: &Shared, unread: Unread, hand: &Hand) -> Result<RecoveryReport, SpoolError> {
    let disk = &*shared.disk;
    let Unread { mut segments, tail, big_files, next_id, report, .. } = unread;
    let mut log =
        Log { ledger: Ledger::default(), waiting: VecDeque::new(), files: Vec::new(), big_files, report };
    let threads = thread::available_parallelism().map_or(1, |n| n.get().min(READERS));
    while !segments.is_empty() {
        go_on(shared)?;
        let group: Vec<_> = segments.drain(..threads.min(segments.len())).collect();
        for scanned in recover::read(disk, &group, &mut log.report)? {
            log.read(scanned)?;
        }
    }
    for scanned in tail {
        log.read(scanned)?;
    }
    log.settle()?;
    let Log { ledger, files, big_files, mut report, .. } = log;
    if ledger.next_id() > next_id {
        // An id of this run may name one of these messages. Nothing but a bug leads here.
        return Err(SpoolError::TooLarge("message ids beyond what was reserved"));
    }
    ledger.sweep(disk, &big_files, &mut report)?;

    {
        let mut index = shared.index();
        index.unread_bytes = 0;
        for (header, file, end) in files {
            index.add_segment(header, file, end);
        }
    }
    let mut live = ledger.live(disk, &mut report);
    loop {
        go_on(shared)?;
        let batch: Vec<Live> = live.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            break;
        }
        let messages = put(shared, batch);
        // Whoever does not want them may have them in the index all the same.
        let _ = hand.send(Ok(Recovered::Messages(messages)));
    }
    drop(live);
    shared.index_is_whole();
    Ok(report)
}

/// Into the index first: what is handed over can be read and removed.
fn put(shared: &Shared, batch: Vec<Live>) -> Vec<RecoveredMessage> {
    let mut index = shared.index();
    let put = |Live { id, spot, meta, state }| {
        index.put_message(id, spot);
        let bytes = state.as_ref().map(|state| state.bytes.clone());
        if let Some(state) = state {
            index.put_state(id, state);
        }
        RecoveredMessage { id: MessageId(id), meta, state: bytes }
    };
    batch.into_iter().map(put).collect()
}

/// Whether the spool is still open.
fn go_on(shared: &Shared) -> Result<(), SpoolError> {
    if shared.inbox.is_closed() { Err(SpoolError::Closed) } else { Ok(()) }
}

/// The segments read so far.
struct Log {
    ledger: Ledger,
    /// Those of which a later one may say how far they were synced.
    waiting: VecDeque<Scanned>,
    files: Vec<(SegmentHeader, Arc<dyn DiskFile>, u64)>,
    /// Big files there were before this run.
    big_files: HashSet<String>,
    report: RecoveryReport,
}

impl Log {
    /// The next segment. What it says of the one before decides how that one is settled.
    fn read(&mut self, scanned: Scanned) -> Result<(), SpoolError> {
        if let Some((number, synced)) = scanned.previous() {
            for earlier in self.waiting.iter_mut().filter(|earlier| earlier.header.number == number) {
                earlier.synced = earlier.synced.max(synced);
            }
            self.settle()?;
        }
        self.waiting.push_back(scanned);
        Ok(())
    }

    /// Nothing more can be said about those read so far.
    fn settle(&mut self) -> Result<(), SpoolError> {
        while let Some(mut segment) = self.waiting.pop_front() {
            settle(&mut segment, &self.big_files, &mut self.report)?;
            self.files.push((segment.header, Arc::clone(&segment.file), segment.end));
            self.ledger.read(segment);
        }
        Ok(())
    }
}
