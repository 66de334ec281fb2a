//! Send connectors: a TLS rule must say what it verifies, and credentials never cross in the clear.

use crate::config::model::{AcceptedDomainType, Host, Routing, SendConnector, SendTls, Space};
use crate::config::read::{Draft, Entry};
use crate::config::report::Report;

pub(super) fn check(report: &Report, draft: &Draft<'_>) {
    for entry in &draft.send_connectors {
        tls_domain_goes_with_validate_domain(report, entry);
        there_is_a_name_to_verify(report, entry);
        credentials_go_over_tls(report, entry);
        accepted_domains_exist(report, draft, entry);
        centralised_transport_is_exchange_onlines(report, draft, entry);
    }
}

fn centralised_transport_is_exchange_onlines(
    report: &Report,
    draft: &Draft<'_>,
    entry: &Entry<'_, SendConnector>,
) {
    const KEY: &str = "route_all_messages_via_on_premises";
    if entry.value.route_all_messages_via_on_premises && draft.eop.is_none() && !draft.top.is_set("eop") {
        report.warn(entry.table.at(KEY), format!("`{KEY}` has no effect without [eop]"));
    }
}

fn tls_domain_goes_with_validate_domain(report: &Report, entry: &Entry<'_, SendConnector>) {
    let t = &entry.table;
    if entry.value.tls_domain.is_some() && entry.value.tls != SendTls::ValidateDomain && !t.is_broken("tls") {
        report.warn(
            t.at("tls_domain"),
            "`tls_domain` has no effect without `tls = \"validate_domain\"`: the name is not compared",
        );
    }
    if entry.value.tls == SendTls::Off && t.is_set("tls_certificate_name") && !t.is_broken("tls") {
        report
            .warn(t.at("tls_certificate_name"), "`tls_certificate_name` has no effect with `tls = \"off\"`");
    }
}

fn there_is_a_name_to_verify(report: &Report, entry: &Entry<'_, SendConnector>) {
    let (connector, t) = (&entry.value, &entry.table);
    let Routing::SmartHosts(hosts) = &connector.routing else { return };
    let only_addresses = !hosts.is_empty() && hosts.iter().all(|h| matches!(h.host, Host::Address(_)));
    if connector.tls == SendTls::ValidateDomain
        && only_addresses
        && !t.is_set("tls_domain")
        && !t.is_broken("smart_hosts")
    {
        report.error(
            t.at("tls"),
            "`tls = \"validate_domain\"` with smart hosts that are all addresses: set `tls_domain` to the name their \
             certificate must carry",
        );
    }
}

fn credentials_go_over_tls(report: &Report, entry: &Entry<'_, SendConnector>) {
    let t = &entry.table;
    let rule = match entry.value.tls {
        SendTls::Off => "off",
        SendTls::Opportunistic => "opportunistic",
        _ => return,
    };
    if t.is_set("auth") && !t.is_broken("tls") {
        let by_default = if t.is_set("tls") { "" } else { ", the default," };
        report.error(
            t.at("auth"),
            format!(
                "`auth` only goes over TLS, and `tls = \"{rule}\"`{by_default} may stay in clear text; set `tls` to \
                 \"required\", \"validate_certificate\" or, best, \"validate_domain\""
            ),
        );
    }
}

fn accepted_domains_exist(report: &Report, draft: &Draft<'_>, entry: &Entry<'_, SendConnector>) {
    let ours = draft.accepted_domains.iter().any(|d| d.value.kind != AcceptedDomainType::ExternalRelay)
        || draft.eop.as_ref().is_some_and(|eop| !eop.accepted_domains.is_empty());
    // A list that could not be read may well hold some.
    if ours || draft.top.is_set("accepted_domains") && draft.accepted_domains.is_empty() {
        return;
    }
    if entry.table.is_broken("address_spaces") {
        return;
    }
    for (i, space) in entry.value.address_spaces.iter().enumerate() {
        if space.space == Space::AcceptedDomains {
            report.error(
                entry.table.at_element("address_spaces", i),
                "`--` stands for the authoritative and internal-relay accepted domains, and there are none",
            );
        }
    }
}
