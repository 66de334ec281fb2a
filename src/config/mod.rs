//! The TOML file as types: load, resolve, check with line and column; the only place defaults
//! live (interface: `docs/configuration.md`).

mod domain;
mod model;
mod range;

pub use domain::{DomainError, DomainPattern, ascii_domain};
pub use model::*;
pub use range::{IpRange, RangeError};
