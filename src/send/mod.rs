//! SMTP out: connections, transactions, LMTP and Maildir.
//!
//! [`targets`] turns a send connector and a domain into endpoints; [`Outgoing`] is what goes to
//! them, and each of its recipients ends in an [`Outcome`].

mod connection;
mod dns;
mod outcome;
mod outgoing;
mod plan;
mod runtime;
mod targets;
mod wire;
mod words;

pub use connection::Connection;
pub use dns::{DnsFailure, Resolver};
pub use outcome::{ConnectFailure, Failure, Outcome, RemoteMta, last_error};
pub use outgoing::{Outgoing, OutgoingContent};
pub use runtime::{ConnectorRuntime, IsOwnAddress, SendContext};
pub use targets::{MAX_TARGETS, Target, targets, without_ourselves};
