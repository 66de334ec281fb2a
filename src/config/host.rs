//! Hosts as connectors name them.

use std::fmt;
use std::net::IpAddr;

/// One host of a smart-host list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmartHost {
    /// Name or literal address.
    pub host: Host,
    /// Port, when it is given with the host.
    pub port: Option<u16>,
}

/// A host by name or address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// To be resolved.
    Name(String),
    /// Literal address, no look-up.
    Address(IpAddr),
}

/// As queue names show it: addresses in brackets.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(ip) => write!(f, "[{ip}]"),
        }
    }
}

/// The same, with the port if there is one.
impl fmt::Display for SmartHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => self.host.fmt(f),
        }
    }
}
