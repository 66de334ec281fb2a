//! `tls report`: who speaks which TLS, read from SMTP protocol logs, ours and Exchange's alike
//! (exchange-edge.md 4.2, interface 7.6).
//!
//! `source` finds files → `chunks` reads and unpacks them on a thread of its own → `scan` takes
//! lines apart (`line`) and gives them to their `session` (`words` knows the sentences) →
//! `tally` counts → `view` sums up → `machine` and `table` print. Memory is bounded at each step,
//! whatever the logs hold, and what a bound cost is stated.

mod chunks;
mod line;
mod machine;
mod names;
mod scan;
mod session;
mod sessions;
mod source;
mod stamp;
mod table;
mod tally;
mod verdict;
mod view;
mod words;

pub use machine::{csv, json};
pub use names::{Name, Names};
pub use scan::{Counts, Limits, Notes, read, read_texts};
pub use session::{Outcome, Peer, Verification};
pub use source::{Source, find};
pub use stamp::Stamp;
pub use table::{Style, counted, overview, remarks};
pub use tally::{Count, Key};
pub use verdict::{Rule, Verdict};
pub use view::{By, Effect, effect, rows};
pub use words::Version;
