//! What came, in numbers.

use std::collections::HashMap;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The counts of all sessions, and whoever waits for them.
#[derive(Default)]
pub(crate) struct Tally {
    counts: Mutex<Counts>,
    grown: Condvar,
}

#[derive(Default)]
pub(crate) struct Counts {
    /// Numbers seen, 64 to an entry: message 70 is bit 6 of entry 1.
    seen: HashMap<u64, u64>,
    distinct: u64,
    /// Wake the waiter at this many.
    awaited: Option<u64>,
    pub(crate) taken: u64,
    pub(crate) bytes: u64,
    pub(crate) repeats: u64,
    pub(crate) bad: u64,
    /// Messages without a number, such as delivery reports.
    pub(crate) unnumbered: u64,
    pub(crate) connections: u64,
    /// How often a client that had to wait for a reply went on: in a transaction, and around them.
    pub(crate) flights: u64,
    pub(crate) setup_flights: u64,
    pub(crate) full_handshakes: u64,
    pub(crate) resumed_handshakes: u64,
    /// How often a `defer…` recipient was put off.
    pub(crate) deferred: HashMap<String, u32>,
}

impl Counts {
    pub(crate) fn report(&self) -> String {
        serde_json::json!({
            "taken": self.taken, "distinct": self.distinct, "repeats": self.repeats, "bad": self.bad,
            "unnumbered": self.unnumbered, "bytes": self.bytes, "connections": self.connections,
            "flights": self.flights, "setup_flights": self.setup_flights,
            "handshakes": { "full": self.full_handshakes, "resumed": self.resumed_handshakes },
        })
        .to_string()
    }
}

impl Tally {
    pub(crate) fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a message. `good`: whether its body is what was sent, where that is known.
    pub(crate) fn take(&self, id: Option<u64>, good: Option<bool>, bytes: u64) {
        let mut counts = self.counts();
        counts.taken += 1;
        counts.bytes += bytes;
        counts.bad += u64::from(good == Some(false));
        let Some(id) = id else {
            counts.unnumbered += 1;
            return;
        };
        let bit = 1 << (id % 64);
        let seen = counts.seen.entry(id / 64).or_default();
        if *seen & bit != 0 {
            counts.repeats += 1;
            return;
        }
        *seen |= bit;
        counts.distinct += 1;
        if counts.awaited.is_some_and(|awaited| counts.distinct >= awaited) {
            counts.awaited = None;
            self.grown.notify_all();
        }
    }

    /// Answers `counts` and `wait N` with the counts, one line of JSON each.
    pub(crate) fn answer(&self, questions: impl Iterator<Item = io::Result<String>>) {
        for question in questions.map_while(Result::ok) {
            let mut counts = self.counts();
            if let Some(wanted) = question.strip_prefix("wait ").and_then(|number| number.trim().parse().ok())
            {
                while counts.distinct < wanted {
                    counts.awaited = Some(wanted);
                    counts = self.grown.wait(counts).unwrap_or_else(PoisonError::into_inner);
                }
            }
            println!("{}", counts.report());
        }
    }
}
