//! Gatepost, an SMTP relay for the edge of a mail network.
//!
//! Mail moves through the rooms below from left to right, once:
//! `receive` → `message` → `queue` → `route` → `send`.

pub mod cli;
pub mod config;
pub mod eop;
pub mod explain;
pub mod lab;
pub mod lint;
pub mod log;
pub mod message;
pub mod queue;
pub mod receive;
pub mod relay;
pub mod report;
pub mod route;
pub mod send;
pub mod shutdown;
pub mod smtp;
pub mod tls;
pub mod validate;
