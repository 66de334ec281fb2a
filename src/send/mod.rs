//! SMTP out: connections, transactions, LMTP and Maildir.
//!
//! [`targets`] turns a send connector and a domain into endpoints; [`Connection::open`] makes a
//! session of one of them; [`Outgoing`] is what goes over it, and each of its recipients ends in
//! an [`Outcome`].

mod auth;
mod body;
mod connection;
mod content;
mod dns;
mod https;
mod maildir;
mod oauth;
mod open;
mod outcome;
mod outgoing;
mod plan;
mod runtime;
mod session;
mod starttls;
mod targets;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod testing_tls;
mod transaction;
mod wire;
mod words;

pub(crate) use auth::read_secret;
pub use connection::{Connection, MAX_AGE};
pub use dns::{DnsFailure, Resolver};
pub use maildir::{deliver_maildir, maildir_path};
pub use open::CONNECT_TIMEOUT;
pub use outcome::{ConnectFailure, Failure, Outcome, RemoteMta, last_error};
pub use outgoing::{Outgoing, OutgoingContent};
pub use runtime::{ConnectorRuntime, IsOwnAddress, SendContext};
pub use targets::{MAX_TARGETS, Target, targets, without_ourselves};
pub use transaction::ONE_FLIGHT;
