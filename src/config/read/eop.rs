//! `[eop]`.

use super::filters::addresses;
use crate::config::eop::{Eop, EopFault, EopInboundConnector, FaultAt};
use crate::config::schema;
use crate::config::table::Table;
use crate::config::value::{self, quoted};

pub(super) fn eop(t: &Table<'_>) -> Eop {
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
        faults: t.tables("faults", &schema::EOP_FAULTS).iter().map(fault).collect(),
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

fn fault(t: &Table<'_>) -> EopFault {
    if !t.is_set("reply") {
        t.missing("reply", "the line to answer with");
    }
    if !["recipient", "sender", "at"].iter().any(|key| t.is_set(key)) {
        t.missing("recipient", "this, `sender` or `at` tells when the fault strikes");
    }
    let by_default = match (t.is_set("recipient"), t.is_set("sender")) {
        (true, _) => FaultAt::Rcpt,
        _ => FaultAt::Mail,
    };
    EopFault {
        recipient: t.parsed("recipient", "an address with `*` for any text", value::words),
        sender: t.parsed("sender", "an address with `*` for any text", value::words),
        at: t.choice(
            "at",
            by_default,
            &[
                ("connect", FaultAt::Connect),
                ("ehlo", FaultAt::Ehlo),
                ("mail", FaultAt::Mail),
                ("rcpt", FaultAt::Rcpt),
                ("data", FaultAt::Data),
            ],
        ),
        reply: t.parsed("reply", "a reply line", reply).unwrap_or_default(),
        times: u32::try_from(t.number("times", 0, (0, 1_000_000), None)).unwrap_or(0),
    }
}

fn reply(text: &str) -> Result<String, String> {
    let bytes = text.as_bytes();
    let code = matches!(bytes, [b'4' | b'5', b'0'..=b'9', b'0'..=b'9', b' ', _, ..]);
    if code && bytes.iter().all(|b| (0x20..0x7F).contains(b)) && bytes.len() <= 510 {
        Ok(text.to_owned())
    } else {
        Err(format!("{} is no refusal such as \"451 4.7.500 Server busy\"", quoted(text)))
    }
}
