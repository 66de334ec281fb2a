//! A message in transit: its envelope, and what is read from and added to its header.

mod envelope;

pub use envelope::{Envelope, Recipient};
