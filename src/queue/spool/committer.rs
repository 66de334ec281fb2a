//! The first thread: takes whatever waits, writes it in one go, syncs once, and answers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    collect::{self, Rest},
    request::Request,
    shared::Shared,
    writer::Writer,
};

/// How often an idle spool looks whether a segment has become old.
const TICK: Duration = Duration::from_mins(1);
/// How long changes that found no room wait for the next attempt.
const PUT_OFF: Duration = Duration::from_secs(1);

pub(super) fn run(shared: &Arc<Shared>, mut writer: Writer) {
    let _guard = Guard(shared);
    let mut batch = Vec::new();
    // When the oldest lazy change in the log has to be synced.
    let mut sync_by: Option<Instant> = None;
    let mut rest = collect::step(&mut writer);
    loop {
        let now = Instant::now();
        let wait = match rest {
            Rest::More => now,
            Rest::Nothing => {
                let put_off = (!writer.put_off.is_empty()).then(|| now + PUT_OFF);
                let tick = now + TICK;
                [sync_by, put_off].into_iter().flatten().fold(tick, Instant::min)
            }
        };
        let taken = shared.inbox.take(&mut batch, shared.options.lazy_write, Some(wait));
        // Changes that had to wait go first: the order of changes to one message matters.
        for request in writer.begin().into_iter().chain(batch.drain(..)) {
            writer.place(request);
        }
        let now = Instant::now();
        if taken.durable || taken.ending || rest == Rest::More || sync_by.is_some_and(|by| now >= by) {
            writer.commit();
        } else {
            writer.flush();
        }
        rest = Rest::Nothing;
        if writer.has_unsynced() {
            // Half a lazy_write early, since the first of them has waited about that long already.
            sync_by.get_or_insert(now + shared.options.lazy_sync.saturating_sub(shared.options.lazy_write));
        } else {
            sync_by = None;
            if !taken.ending {
                rest = collect::step(&mut writer);
            }
        }
        if taken.ending {
            // The last chance of what was put off.
            for request in writer.begin() {
                writer.place(request);
            }
            writer.commit();
            // One more record, after the sync: it says that everything before it is safe, so that
            // damage found later is known as damage and not taken for a write cut short.
            writer.place(Request::Reserve(shared.ceiling()));
            writer.commit();
            break;
        }
    }
}

/// However this thread ends, nobody may wait for it for ever.
struct Guard<'a>(&'a Shared);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.give_up("the committer has failed".into());
        }
        self.0.inbox.ended();
    }
}
