//! Exchange's logs: protocol log lines, files, rotation; and the session event.
//!
//! Two kinds of record leave this room. The *protocol log* is Exchange's own CSV format
//! (exchange-edge.md 4.1 and 4.2), one file family for sessions in and one for sessions out, so
//! that tools which read Exchange's read these. The *session event* is one line per session on
//! stderr through `tracing`, which states its TLS version in words.
//!
//! Nothing here can slow a session down or stop mail: lines are handed to a writer thread, and a
//! full disk costs log lines (which are counted), never messages.

mod diagnostics;
mod event;
pub mod facts;
mod files;
mod line;
mod session;
pub mod time;
mod writer;

pub use diagnostics::{DiagnosticsFormat, init_diagnostics};
pub use event::{Direction, Observers, SessionEvent};
pub use line::folded;
pub use session::{Kind, ProtocolLog, SessionId, SessionLog};
