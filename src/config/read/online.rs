//! The defaults of an instance with `[eop]`: Exchange Online's instead of Exchange Edge's
//! (exchange-edge.md 8.6, 8.7, 8.10).

use std::time::Duration;

use super::Entry;
use crate::config::domain::DomainPattern;
use crate::config::eop::{CLOUD_MAILBOXES, Eop};
use crate::config::model::{
    AcceptedDomain, AcceptedDomainType, Certificate, ReceiveConnector, ReceiveTls, SendConnector, Transport,
};
use crate::config::table::Table;
use crate::config::value::quoted;

/// `SIZE 157286400`.
const MAX_MESSAGE_SIZE: u64 = 150 << 20;
/// Recipients a message.
const MAX_RECIPIENTS: usize = 500;
/// Times a message may come by before it counts as looping.
const MAX_LOOPS: usize = 20;
/// How long a message is tried.
const EXPIRATION: Duration = Duration::from_hours(24);
/// The name in EHLO.
const EHLO_NAME: &str = "lab1-obe.outbound.protection.outlook.com";

pub(super) fn receive(t: &Table<'_>, connector: &mut ReceiveConnector) {
    let unset = |key| !t.is_set(key);
    if unset("max_message_size") {
        connector.max_message_size = MAX_MESSAGE_SIZE;
    }
    if unset("max_recipients_per_message") {
        connector.max_recipients_per_message = MAX_RECIPIENTS;
    }
    if unset("max_local_hop_count") {
        connector.max_local_hop_count = MAX_LOOPS;
    }
    if unset("tarpit_interval") {
        connector.tarpit_interval = Duration::ZERO;
    }
    if unset("request_client_certificate") {
        connector.request_client_certificate = connector.tls != ReceiveTls::Off;
    }
}

pub(super) fn send(t: &Table<'_>, connector: &mut SendConnector, certificates: &[Entry<'_, Certificate>]) {
    if !t.is_set("fqdn") {
        EHLO_NAME.clone_into(&mut connector.fqdn);
    }
    // It shows its certificate whenever it is asked for one, whatever its name in EHLO.
    if !t.is_set("tls_certificate_name") {
        connector.tls_certificate_name = certificates.first().map(|c| c.value.name.clone());
    }
    if connector.name.eq_ignore_ascii_case(CLOUD_MAILBOXES) {
        let problem =
            format!("{} is the name of the connector to the cloud mailboxes", quoted(CLOUD_MAILBOXES));
        t.refuse("name", t.at("name"), problem);
    }
}

pub(super) fn transport(entry: &mut Entry<'_, Transport>) {
    if !entry.table.is_set("max_message_size") {
        entry.value.max_message_size = MAX_MESSAGE_SIZE;
    }
    if !entry.table.is_set("message_expiration_timeout") {
        entry.value.message_expiration_timeout = EXPIRATION;
    }
}

/// The tenant's domains are this instance's accepted domains, and so are those that each tenant
/// has from the start.
pub(super) fn accepted_domains(eop: &Eop, listed: &mut Vec<AcceptedDomain>) {
    let from_the_start =
        ["onmicrosoft.com", "mail.onmicrosoft.com"].map(|rest| format!("{}.{rest}", eop.tenant));
    let from_the_start = from_the_start.iter().filter_map(|name| DomainPattern::parse(name).ok());
    for domain in eop.accepted_domains.iter().cloned().chain(from_the_start) {
        if !listed.iter().any(|known| known.domain == domain) {
            listed.push(AcceptedDomain { domain, kind: AcceptedDomainType::Authoritative });
        }
    }
}
