//! The spool, delivery queues, the retry ladder, expiry and delivery status notifications.

pub mod dsn;
pub mod spool;
