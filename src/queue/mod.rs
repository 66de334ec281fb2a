//! The spool, delivery queues, the retry ladder, expiry and delivery status notifications.

#[doc(hidden)]
pub mod bench;
mod codec;
mod connections;
mod delivery;
pub mod dsn;
mod housekeeping;
mod manager;
mod message;
mod outcome;
mod reports;
mod restart;
mod retry;
pub mod spool;
mod turns;
mod worker;

pub use codec::CodecError;
pub use delivery::{QueueStatus, QueueView};
pub use manager::{NO_CONNECTOR, Queue, Routing, Submission};
pub use message::{MessageMeta, QueuedMessage, RecipientStatus, Source, State, StateGuard, Statuses};
pub use retry::retry_delay;
