//! The TOML file as types: load, resolve, check with line and column; the only place defaults
//! live (interface: `docs/configuration.md`).
//!
//! `load` gathers the files and runs `read` (tables to types), then `check` (what a file can get
//! wrong beyond a single key). `schema` lists the keys.

mod check;
mod domain;
mod eop;
mod filters;
mod glob;
mod host;
mod load;
mod model;
mod problem;
mod range;
mod read;
mod report;
mod schema;
mod suggest;
mod table;
#[cfg(test)]
mod tests;
mod value;

pub use domain::{DomainError, DomainPattern, ascii_domain, lies_below};
pub use eop::{CLOUD_MAILBOXES, Eop, EopFault, EopInboundConnector, FaultAction, FaultAt};
pub use filters::{BlockedRange, ConnectionFilter, ListMatch, ListProvider, RecipientFilter, SenderFilter};
pub use model::*;
pub use problem::{Inspection, Loaded, Problem, Problems};
pub use range::{IpRange, RangeError};
pub use value::duration as parse_duration;
