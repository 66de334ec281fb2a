//! `[[receive_connectors]]`.

use super::Entry;
use super::general::{duration, positive, size, tls_version, unlimited_count};
use crate::config::model::{
    BareLineFeeds, ProtocolLogging, ReceiveConnector, ReceiveTls, ReplyProfile, Server, Tls, TlsRejection,
};
use crate::config::range::IpRange;
use crate::config::table::Table;
use crate::config::value;

/// Longest banner: a reply line has 512 octets (RFC 5321 section 4.5.3.1.5).
const LONGEST_BANNER: usize = 510;

pub(super) fn connector<'a>(t: Table<'a>, server: &Server, tls: &Tls) -> Entry<'a, ReceiveConnector> {
    if !t.is_set("name") {
        t.missing("name", "the log and error messages refer to it");
    }
    if !t.is_set("bindings") {
        t.missing("bindings", "the addresses to listen on, as in [\"0.0.0.0:25\", \"[::]:25\"]");
    }
    let bindings = t.list("bindings", "a list of addresses and ports", value::binding).unwrap_or_default();
    if bindings.is_empty() && !t.is_broken("bindings") {
        t.refuse("bindings", t.at("bindings"), "`bindings` is empty: the connector would listen nowhere");
    }
    let ranges = t.list("remote_ip_ranges", "a list of IP ranges", value::range);
    if ranges.as_ref().is_some_and(Vec::is_empty) && !t.is_broken("remote_ip_ranges") {
        t.refuse(
            "remote_ip_ranges",
            t.at("remote_ip_ranges"),
            "`remote_ip_ranges` is empty: the connector would serve nobody",
        );
    }
    let number = |key, default, low, high| {
        usize::try_from(t.number(key, default, (low, high), None)).unwrap_or(usize::MAX)
    };
    let value = ReceiveConnector {
        name: t.parsed("name", "a name", value::name).unwrap_or_default(),
        bindings,
        remote_ip_ranges: ranges.unwrap_or_else(|| vec![IpRange::all_v4(), IpRange::all_v6()]),
        tls: t.choice(
            "tls",
            ReceiveTls::Opportunistic,
            &[
                ("off", ReceiveTls::Off),
                ("opportunistic", ReceiveTls::Opportunistic),
                ("required", ReceiveTls::Required),
                ("mutual", ReceiveTls::Mutual),
            ],
        ),
        tls_certificate_name: t.parsed("tls_certificate_name", "the name of a certificate", value::words),
        request_client_certificate: t.flag("request_client_certificate", false),
        tls_domains: t.list("tls_domains", "a list of domains", value::domain_pattern).unwrap_or_default(),
        tls_rejection: t.choice(
            "tls_rejection",
            TlsRejection::Exchange,
            &[("451", TlsRejection::Exchange), ("530", TlsRejection::Rfc3207)],
        ),
        min_tls_version: tls_version(&t, "min_tls_version", tls.min_version),
        accept_any_recipient: t.flag("accept_any_recipient", false),
        fqdn: t.parsed("fqdn", "a host name", value::host_name).unwrap_or_else(|| server.hostname.clone()),
        banner: t.parsed("banner", "a line of text", banner),
        max_message_size: size(&t, "max_message_size", 36 << 20),
        max_header_size: size(&t, "max_header_size", 256 << 10),
        max_recipients_per_message: number("max_recipients_per_message", 200, 1, 100_000),
        max_inbound_connections: unlimited_count(&t, "max_inbound_connections", 5000),
        max_inbound_connections_per_source: unlimited_count(&t, "max_inbound_connections_per_source", 20),
        message_rate_limit: u32::try_from(t.number("message_rate_limit", 600, (0, 1_000_000), Some(0)))
            .unwrap_or(u32::MAX),
        connection_timeout: positive(&t, "connection_timeout", 300),
        connection_inactivity_timeout: positive(&t, "connection_inactivity_timeout", 60),
        tarpit_interval: duration(&t, "tarpit_interval", 5),
        max_protocol_errors: u32::try_from(t.number(
            "max_protocol_errors",
            5,
            (1, 1_000_000),
            Some(u64::MAX),
        ))
        .unwrap_or(u32::MAX),
        max_hop_count: number("max_hop_count", 60, 1, 500),
        max_local_hop_count: number("max_local_hop_count", 5, 0, 50),
        proxy_protocol_from: t
            .list("proxy_protocol_from", "a list of IP ranges", value::range)
            .unwrap_or_default(),
        protocol_logging: protocol_logging(&t),
        trusted: t.flag("trusted", false),
        reply_profile: t.choice(
            "reply_profile",
            ReplyProfile::Exchange2019,
            &[("2019", ReplyProfile::Exchange2019), ("2010", ReplyProfile::Exchange2010)],
        ),
        tls13_tickets: t.flag("tls13_tickets", false),
        bare_line_feeds: t.choice(
            "bare_line_feeds",
            BareLineFeeds::Reject,
            &[("reject", BareLineFeeds::Reject), ("normalize", BareLineFeeds::Normalize)],
        ),
    };
    Entry { value, table: t }
}

pub(super) fn protocol_logging(t: &Table<'_>) -> ProtocolLogging {
    t.choice(
        "protocol_logging",
        ProtocolLogging::Verbose,
        &[("none", ProtocolLogging::None), ("verbose", ProtocolLogging::Verbose)],
    )
}

fn banner(text: &str) -> Result<String, String> {
    let rest =
        text.strip_prefix("220").ok_or("the banner must start with `220`, as in \"220 edge.contoso.com\"")?;
    if !rest.starts_with(' ') {
        return Err("`220` must be followed by a blank and the text".into());
    }
    if !text.bytes().all(|b| (0x20..0x7F).contains(&b)) {
        return Err("the banner must be one line of printable ASCII".into());
    }
    if text.len() > LONGEST_BANNER {
        return Err(format!("the banner may have at most {LONGEST_BANNER} characters"));
    }
    Ok(text.to_owned())
}
