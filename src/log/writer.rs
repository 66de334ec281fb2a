//! From many sessions to one file: a bounded buffer and the thread that empties it.
//!
//! A session formats its lines on its own and appends them here in one go; the lock is held for
//! that copy and nothing else. The thread swaps the buffer for an empty one and writes it, so that
//! the number of writes depends on time, not on the number of sessions. What does not fit is
//! counted instead of waited for.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::files::Files;

/// Bytes that may wait. As many again may be on their way to the disk: 64 MB a log in all.
const MAX_WAITING: usize = 32 * 1024 * 1024;
/// Bytes worth a write of their own at once.
const FULL_BATCH: usize = 1024 * 1024;
/// How long lines wait for company: nobody reading along notices, and a busy relay wakes the
/// thread a hundred times a second instead of once a line.
const GATHER: Duration = Duration::from_millis(10);
/// After a failed write the disk is left alone for so long.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);
/// An error that stays is repeated so often.
const WARNING_INTERVAL: Duration = Duration::from_mins(1);

/// A log's way in. Cloned by reference; the thread ends with the last handle.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
}

/// Makes the line that tells how many were lost.
pub(super) type LossLine = fn(lost: u64, now: SystemTime) -> String;
/// Tells the time.
pub(super) type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// For the thread: something waits.
    wake: Condvar,
    /// For `sync`: something was written.
    written: Condvar,
    limit: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// Lines refused since the last loss line.
    lost: u64,
    /// Someone waits in `sync`, so nothing is gathered.
    urgent: bool,
    closed: bool,
    /// Submissions so far, and how many of them were dealt with.
    submitted: u64,
    done: u64,
}

impl Writer {
    /// Starts the thread. When it cannot be started, every line counts as lost.
    pub(super) fn start(files: Files, loss_line: LossLine, clock: Clock) -> Self {
        Self::with_limit(files, loss_line, clock, MAX_WAITING)
    }

    fn with_limit(files: Files, loss_line: LossLine, clock: Clock, limit: usize) -> Self {
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            wake: Condvar::new(),
            written: Condvar::new(),
            limit,
        });
        let name = files.directory().display().to_string();
        let thread = Thread {
            shared: shared.clone(),
            files,
            loss_line,
            clock,
            lost: 0,
            failed_at: None,
            warned_at: None,
        };
        let started = std::thread::Builder::new().name("gatepost-log".into()).spawn(move || thread.run());
        if let Err(error) = started {
            tracing::error!(directory = %name, %error, "this log cannot be written: no thread for it");
            shared.lock().closed = true;
        }
        Self { shared }
    }

    /// Hands over whole lines. Never waits for the disk.
    pub(super) fn submit(&self, lines: impl AsRef<[u8]>, count: u64) {
        let lines = lines.as_ref();
        let mut waiting = self.shared.lock();
        let before = waiting.bytes.len();
        if waiting.closed || before + lines.len() > self.shared.limit {
            waiting.lost += count;
            return;
        }
        waiting.bytes.extend_from_slice(lines);
        waiting.submitted += 1;
        let after = waiting.bytes.len();
        drop(waiting);
        // In between the thread is either at work or gathering, and looks by itself.
        if before == 0 || (before < FULL_BATCH && after >= FULL_BATCH) {
            self.shared.wake.notify_one();
        }
    }

    /// Waits until everything submitted so far was handed to the operating system, or `limit` is
    /// over. For shutdown and tests: this blocks.
    pub(super) fn sync(&self, limit: Duration) -> bool {
        let mut waiting = self.shared.lock();
        let target = waiting.submitted;
        waiting.urgent = true;
        self.shared.wake.notify_one();
        let deadline = Instant::now() + limit;
        while waiting.done < target {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
            waiting = self
                .shared
                .written
                .wait_timeout(waiting, left)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(guard, _)| guard);
        }
        true
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_one();
    }
}

impl Shared {
    /// A panic while the lock is held leaves nothing half done: the bytes are whole lines.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Thread {
    shared: Arc<Shared>,
    files: Files,
    loss_line: LossLine,
    clock: Clock,
    /// Lines lost and not yet told.
    lost: u64,
    failed_at: Option<Instant>,
    warned_at: Option<Instant>,
}

impl Thread {
    fn run(mut self) {
        if let Err(error) = self.files.prepare((self.clock)()) {
            self.warn(&error);
        }
        let mut batch = Vec::new();
        while let Some((upto, closed)) = self.next(&mut batch) {
            self.write(&batch);
            batch.clear();
            // Do not sit on the memory of a burst.
            batch.shrink_to(FULL_BATCH);
            self.shared.lock().done = upto;
            self.shared.written.notify_all();
            if closed {
                return;
            }
        }
    }

    /// Waits for lines and takes them all; none once the log is closed and empty.
    fn next(&mut self, batch: &mut Vec<u8>) -> Option<(u64, bool)> {
        let shared = self.shared.clone();
        let mut waiting = shared.lock();
        while waiting.bytes.is_empty() && !waiting.closed {
            waiting = shared.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        let gathering =
            |waiting: &mut Waiting| !waiting.urgent && !waiting.closed && waiting.bytes.len() < FULL_BATCH;
        waiting = shared
            .wake
            .wait_timeout_while(waiting, GATHER, gathering)
            .map_or_else(|poisoned| poisoned.into_inner().0, |(guard, _)| guard);
        waiting.urgent = false;
        self.lost += std::mem::take(&mut waiting.lost);
        std::mem::swap(&mut waiting.bytes, batch);
        (!batch.is_empty() || !waiting.closed || self.lost > 0).then_some((waiting.submitted, waiting.closed))
    }

    fn write(&mut self, batch: &[u8]) {
        let lines = memchr::memchr_iter(b'\n', batch).count() as u64;
        if self.failed_at.is_some_and(|at| at.elapsed() < PAUSE_AFTER_ERROR) {
            self.lost += lines;
            return;
        }
        let now = (self.clock)();
        let loss = if self.lost > 0 { (self.loss_line)(self.lost, now) } else { String::new() };
        let result = self
            .files
            .write(loss.as_bytes(), now)
            .map(|()| self.lost = 0)
            .and_then(|()| self.files.write(batch, now));
        match result {
            Ok(()) => self.failed_at = None,
            Err(error) => {
                self.lost += lines;
                self.failed_at = Some(Instant::now());
                self.warn(&error);
            }
        }
    }

    fn warn(&mut self, error: &std::io::Error) {
        if self.warned_at.is_none_or(|at| at.elapsed() >= WARNING_INTERVAL) {
            self.warned_at = Some(Instant::now());
            let directory = self.files.directory().display();
            tracing::warn!(%directory, %error, "the log cannot be written; mail goes on without it");
        }
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
