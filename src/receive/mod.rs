//! SMTP in: listeners, connector selection, the dialogue and its limits.

mod connector;
mod data;
mod ending;
mod gather;
mod incoming;
mod replies;
mod selection;
mod server;
mod session;
mod spare;
mod stand_in;
mod starttls;
mod stream;
mod transaction;

pub use connector::Connector;
pub use selection::{Candidate, Selection};
pub use server::{Generation, Server, machine_name};
