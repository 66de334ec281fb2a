//! A message in transit: its envelope, and what is read from and added to its header.

mod envelope;
mod firewall;
mod header;
mod received;
pub mod trace;

pub use envelope::{Envelope, Recipient};
pub use firewall::HeaderFirewall;
pub use header::{
    HeaderFacts, HeaderProgress, HeaderScanner, MAX_MESSAGE_ID, MAX_SUBJECT, VALIDATION_SENDER,
};
