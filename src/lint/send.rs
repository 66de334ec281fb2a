//! Send connectors to Exchange Online (exchange-edge.md 2.2), and the queue's timers.

use std::time::Duration;

use crate::config::{Config, Host, Routing, SendConnector, SendTls};

use super::{Findings, eop};

/// Connections Exchange's own health check asks for towards Exchange Online.
const CONNECTIONS: usize = 40;
/// The longest wait after a deferral it asks for.
const RETRY: Duration = Duration::from_mins(5);

pub(super) fn look(connector: &SendConnector, findings: &mut Findings) {
    if !eop::is_next_hop_of(connector) {
        return;
    }
    let subject = format!("send connector `{}`", connector.name);
    match connector.tls {
        SendTls::Off | SendTls::Opportunistic | SendTls::Required => findings.add(
            "eop-tls-weak",
            &subject,
            "mail goes to Exchange Online without its certificate being checked, or in clear text",
            "set tls = \"validate_domain\" and tls_domain = \"mail.protection.outlook.com\"",
        ),
        SendTls::ValidateDomain => {
            if let Some(domain) =
                connector.tls_domain.as_ref().filter(|domain| !eop::is_its_name(domain.name()))
            {
                findings.add(
                    "eop-tls-domain",
                    &subject,
                    format!("tls_domain = \"{domain}\" is no name of Exchange Online: its certificate will not carry it"),
                    "set tls_domain = \"mail.protection.outlook.com\"",
                );
            }
        }
        SendTls::ValidateCertificate => {}
    }
    if let Routing::SmartHosts(hosts) = &connector.routing
        && let Some(address) = hosts.iter().find_map(|host| match host.host {
            Host::Address(address) if eop::is_its_address(address) => Some(address),
            _ => None,
        })
    {
        findings.add(
            "eop-by-address",
            &subject,
            format!("the smart host {address} is an address of Exchange Online; these change and serve other regions (451 4.4.62)"),
            "use the host name of the organisation's MX record, as in contoso-com.mail.protection.outlook.com",
        );
    }
    if connector.max_connections < CONNECTIONS {
        findings.add(
            "eop-connections",
            &subject,
            format!("max_connections = {} is little towards Exchange Online", connector.max_connections),
            format!("set it to {CONNECTIONS} or more"),
        );
    }
    if !connector.trusted {
        findings.add(
            "eop-not-trusted",
            &subject,
            "X-MS-Exchange-Organization headers are taken off, so that Exchange Online treats internal mail as external (CloudServicesMailEnabled)",
            "set trusted = true if the organisation is hybrid",
        );
    }
}

pub(super) fn transport(config: &Config, findings: &mut Findings) {
    let wait = config.transport.message_retry_interval;
    let to_eop = config.send_connectors.iter().any(|c| c.enabled && eop::is_next_hop_of(c));
    if to_eop && wait > RETRY {
        findings.add(
            "eop-retry-interval",
            "[transport]",
            format!(
                "message_retry_interval = {} s: mail that Exchange Online defers waits longer than it has to",
                wait.as_secs()
            ),
            "set message_retry_interval = \"5m\" or less",
        );
    }
}
