//! Receive connectors: which of them takes a session must be decidable, and none of them may turn
//! the relay into an open one unnoticed.

use std::net::SocketAddr;

use crate::config::model::{ReceiveConnector, ReceiveTls};
use crate::config::range::IpRange;
use crate::config::read::{Draft, Entry};
use crate::config::report::Report;
use crate::config::value::quoted;

pub(super) fn check(report: &Report, draft: &Draft<'_>) {
    for entry in &draft.receive_connectors {
        bindings_are_named_once(report, entry);
        relaying_is_deliberate(report, entry);
        tls_domains_go_with_mutual(report, entry);
        idle_time_is_below_the_whole(report, entry);
        tls_version_is_not_below_the_general_one(report, draft, entry);
    }
    for (i, second) in draft.receive_connectors.iter().enumerate() {
        for first in draft.receive_connectors.iter().take(i) {
            ranges_can_be_told_apart(report, first, second);
        }
    }
}

/// `0.0.0.0` covers each IPv4 address, `[::]` each IPv6 one.
fn bindings_overlap(a: &SocketAddr, b: &SocketAddr) -> bool {
    let (x, y) = (a.ip(), b.ip());
    a.port() == b.port() && x.is_ipv4() == y.is_ipv4() && (x == y || x.is_unspecified() || y.is_unspecified())
}

fn bindings_are_named_once(report: &Report, entry: &Entry<'_, ReceiveConnector>) {
    if entry.table.is_broken("bindings") {
        return;
    }
    let bindings = &entry.value.bindings;
    for (i, second) in bindings.iter().enumerate() {
        if let Some(first) = bindings.iter().take(i).find(|first| bindings_overlap(first, second)) {
            let problem = if first == second {
                format!("`bindings`: {second} is listed twice")
            } else {
                format!("`bindings`: {first} and {second} overlap; the wildcard alone is enough")
            };
            report.error(entry.table.at_element("bindings", i), problem);
        }
    }
}

/// The most specific range decides between connectors that share a binding, so no range may stand
/// in two of them, and two that overlap must lie one inside the other.
fn ranges_can_be_told_apart(
    report: &Report,
    first: &Entry<'_, ReceiveConnector>,
    second: &Entry<'_, ReceiveConnector>,
) {
    const KEY: &str = "remote_ip_ranges";
    let shared = first.value.bindings.iter().find_map(|a| {
        let b = second.value.bindings.iter().find(|b| bindings_overlap(a, b))?;
        Some(if a.ip().is_unspecified() { b } else { a })
    });
    let Some(shared) = shared else { return };
    if first.table.is_broken(KEY) || second.table.is_broken(KEY) {
        return;
    }
    // A range of a family that no shared binding has is out of the game.
    let families: Vec<bool> = first
        .value
        .bindings
        .iter()
        .filter(|a| second.value.bindings.iter().any(|b| bindings_overlap(a, b)))
        .map(SocketAddr::is_ipv4)
        .collect();
    for (i, b) in second.value.remote_ip_ranges.iter().enumerate() {
        if !families.contains(&b.is_ipv4()) {
            continue;
        }
        let at = second.table.at_element(KEY, i);
        let name = quoted(&first.value.name);
        let place = report.place(first.table.at(KEY), at);
        for a in &first.value.remote_ip_ranges {
            if a == b {
                report.error(at, format!("{} on {shared} is also a range of receive connector {name} ({place}): which of the two is meant?", b.notation()));
                return;
            }
            if a.crosses(b) {
                report.error(at, format!("{} crosses {} of receive connector {name} ({place}) on {shared}: one must lie inside the other", b.notation(), a.notation()));
                return;
            }
        }
    }
}

fn relaying_is_deliberate(report: &Report, entry: &Entry<'_, ReceiveConnector>) {
    let everyone = |r: &IpRange| *r == IpRange::all_v4() || *r == IpRange::all_v6();
    if entry.value.accept_any_recipient && entry.value.remote_ip_ranges.iter().any(everyone) {
        report.warn(
            entry.table.at("accept_any_recipient"),
            format!(
                "OPEN RELAY: receive connector {} lets every address send to any domain; limit `remote_ip_ranges` to \
                 the peers that may relay",
                quoted(&entry.value.name)
            ),
        );
    }
}

fn tls_domains_go_with_mutual(report: &Report, entry: &Entry<'_, ReceiveConnector>) {
    let (connector, t) = (&entry.value, &entry.table);
    if t.is_broken("tls") || t.is_broken("tls_domains") {
        return;
    }
    match (connector.tls == ReceiveTls::Mutual, connector.tls_domains.is_empty()) {
        (true, true) => report.error(
            t.at("tls"),
            "`tls = \"mutual\"` needs `tls_domains`: any certificate that verifies would do, whoever holds it",
        ),
        (false, false) if !connector.request_client_certificate => report.warn(
            t.at("tls_domains"),
            "`tls_domains` has no effect without `tls = \"mutual\"`: no client certificate is asked for",
        ),
        _ => {}
    }
    for key in ["tls_certificate_name", "request_client_certificate"] {
        if connector.tls == ReceiveTls::Off && t.is_set(key) {
            report.warn(t.at(key), format!("`{key}` has no effect with `tls = \"off\"`"));
        }
    }
}

fn idle_time_is_below_the_whole(report: &Report, entry: &Entry<'_, ReceiveConnector>) {
    const IDLE: &str = "connection_inactivity_timeout";
    const WHOLE: &str = "connection_timeout";
    let (connector, t) = (&entry.value, &entry.table);
    if connector.connection_inactivity_timeout >= connector.connection_timeout
        && !t.is_broken(IDLE)
        && !t.is_broken(WHOLE)
    {
        report.error(
            t.at(if t.is_set(IDLE) { IDLE } else { WHOLE }),
            format!("`{IDLE}` must be shorter than `{WHOLE}`"),
        );
    }
}

fn tls_version_is_not_below_the_general_one(
    report: &Report,
    draft: &Draft<'_>,
    entry: &Entry<'_, ReceiveConnector>,
) {
    if entry.value.min_tls_version < draft.tls.value.min_version && !entry.table.is_broken("min_tls_version")
    {
        report.error(
            entry.table.at("min_tls_version"),
            "`min_tls_version` is below `min_version` of [tls], which holds everywhere; lower that one, or leave this out",
        );
    }
}
