//! What the spool's handles and its two threads have in common.

use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
    mpsc,
};

use super::{
    SpoolOptions,
    disk::Disk,
    helper::Job,
    index::Index,
    request::{Inbox, Request},
};

/// So many ids are reserved ahead. An id that was given out but never appended is in the logs all
/// the same, and must not come again after a crash.
pub(super) const RESERVE: u64 = 1 << 16;

pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) options: SpoolOptions,
    pub(super) inbox: Inbox,
    index: Mutex<Index>,
    next_id: AtomicU64,
    /// Why the disk is given up.
    broken: OnceLock<String>,
    /// Why what earlier runs left cannot be read.
    unreadable: OnceLock<String>,
    /// What earlier runs left is in the index, all of it.
    whole: AtomicBool,
    jobs: mpsc::Sender<Job>,
}

impl Shared {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        options: SpoolOptions,
        index: Index,
        next_id: u64,
        jobs: mpsc::Sender<Job>,
    ) -> Self {
        Self {
            disk,
            options,
            inbox: Inbox::default(),
            index: Mutex::new(index),
            next_id: AtomicU64::new(next_id),
            broken: OnceLock::new(),
            unreadable: OnceLock::new(),
            whole: AtomicBool::new(false),
            jobs,
        }
    }

    /// The index. Held for a look-up or the changes of one batch, never across I/O.
    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next id. Whenever half of what is reserved has gone, more is reserved.
    pub(super) fn next_id(&self) -> u64 {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        if id.is_multiple_of(RESERVE / 2) {
            self.inbox.push_late(Request::Reserve(id + RESERVE));
        }
        id
    }

    /// Ids below this count as given out.
    pub(super) fn ceiling(&self) -> u64 {
        self.next_id.load(Ordering::Relaxed) + RESERVE
    }

    /// Work for the helper. It outlives every sender of work, so a refusal cannot happen before the
    /// spool has ended, and then nobody cares.
    pub(super) fn send(&self, job: Job) {
        let _ = self.jobs.send(job);
    }

    pub(super) fn give_up(&self, why: String) {
        tracing::error!(%why, "the spool accepts nothing until a restart");
        let _ = self.broken.set(why);
    }

    /// What earlier runs left cannot be read. New mail is still stored and leaves.
    pub(super) fn unreadable(&self, why: String) {
        let _ = self.unreadable.set(why);
    }

    /// Everything that was in the log is in the index now: the collection may begin.
    pub(super) fn index_is_whole(&self) {
        self.whole.store(true, Ordering::Release);
        self.inbox.ring();
    }

    /// Whether segments may be emptied and deleted.
    pub(super) fn may_collect(&self) -> bool {
        self.whole.load(Ordering::Acquire)
    }

    /// Why no mail should be taken.
    pub(super) fn sick(&self) -> Option<&str> {
        self.broken().or_else(|| self.unreadable.get().map(String::as_str))
    }

    pub(super) fn broken(&self) -> Option<&str> {
        self.broken.get().map(String::as_str)
    }
}
