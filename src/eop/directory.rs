//! The tenant's directory: which addresses there are, and which of them have a mailbox here.

use std::collections::HashSet;

use super::is_magic;
use crate::config::Eop;
use crate::smtp::Address;

/// The recipients of `[eop]`.
#[derive(Debug)]
pub struct Directory {
    mailboxes: HashSet<String>,
    on_premises: HashSet<String>,
    edge_blocking: bool,
}

impl Directory {
    /// The directory of an `[eop]` table.
    pub fn new(eop: &Eop) -> Self {
        let set = |list: &[String]| list.iter().map(|address| address.to_lowercase()).collect();
        Self {
            mailboxes: set(&eop.mailboxes),
            on_premises: set(&eop.on_premises_recipients),
            edge_blocking: eop.directory_edge_blocking,
        }
    }

    /// Whether the mail of `address` stays here. Magic recipients have mailboxes of their own.
    pub fn has_mailbox(&self, address: &Address) -> bool {
        self.mailboxes.contains(&key(address)) || is_magic(address)
    }

    /// Whether mail for `address`, of an accepted domain, is taken: directory-based edge blocking.
    pub(super) fn knows(&self, address: &Address) -> bool {
        !self.edge_blocking || self.has_mailbox(address) || self.on_premises.contains(&key(address))
    }
}

/// As the lists are kept: letter case distinguishes no mailboxes, as in Exchange.
fn key(address: &Address) -> String {
    let domain = address.domain();
    let domain = crate::config::ascii_domain(domain).unwrap_or_else(|_| domain.to_lowercase());
    format!("{}@{domain}", address.local_part().to_lowercase())
}
