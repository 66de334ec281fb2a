//! `[eop]`.

use super::fault::fault;
use super::filters::addresses;
use crate::config::eop::{Eop, EopInboundConnector};
use crate::config::schema;
use crate::config::table::Table;
use crate::config::value::{self, quoted};

/// `certificates` are the names that a fault may refer to.
pub(super) fn eop(t: &Table<'_>, certificates: &[String]) -> Eop {
    if !t.is_set("tenant") {
        t.missing("tenant", "the name in front of `.mail.protection.outlook.com`");
    }
    Eop {
        tenant: t.parsed("tenant", "the name of a tenant", tenant).unwrap_or_default(),
        accepted_domains: t
            .list("accepted_domains", "a list of domains", value::domain_pattern)
            .unwrap_or_default(),
        mailboxes: addresses(t, "mailboxes"),
        on_premises_recipients: addresses(t, "on_premises_recipients"),
        directory_edge_blocking: t.flag("directory_edge_blocking", true),
        inbound_connectors: inbound_connectors(t),
        faults: t.tables("faults", &schema::EOP_FAULTS).iter().map(|t| fault(t, certificates)).collect(),
    }
}

/// One label of a domain name.
fn tenant(text: &str) -> Result<String, String> {
    match value::host_name(text) {
        Ok(name) if !name.contains('.') => Ok(name.to_ascii_lowercase()),
        _ => Err(format!("{} is no tenant; \"contoso\" stands for contoso.onmicrosoft.com", quoted(text))),
    }
}

fn inbound_connectors(t: &Table<'_>) -> Vec<EopInboundConnector> {
    let mut names = std::collections::HashSet::new();
    let mut list = Vec::new();
    for entry in t.tables("inbound_connectors", &schema::EOP_INBOUND) {
        if !entry.is_set("name") {
            entry.missing("name", "the log refers to it");
        }
        let name = entry.parsed("name", "a name", value::name).unwrap_or_default();
        if !names.insert(name.to_lowercase()) && !entry.is_broken("name") {
            entry.refuse(
                "name",
                entry.at("name"),
                format!("there is another inbound connector called {}", quoted(&name)),
            );
        }
        if !entry.is_set("tls_sender_certificate_name") && !entry.is_set("sender_ip_addresses") {
            entry.missing(
                "tls_sender_certificate_name",
                "this or `sender_ip_addresses` tells whose mail it is",
            );
        }
        list.push(EopInboundConnector {
            name,
            tls_sender_certificate_name: entry.parsed(
                "tls_sender_certificate_name",
                "a name in a certificate",
                value::domain_pattern,
            ),
            sender_ip_addresses: entry
                .list("sender_ip_addresses", "a list of IP ranges", value::range)
                .unwrap_or_default(),
            require_tls: entry.flag("require_tls", true),
        });
    }
    list
}
