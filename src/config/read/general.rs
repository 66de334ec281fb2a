//! `[server]`, `[admin]`, `[[certificates]]`, `[tls]`, `[[accepted_domains]]`, `[transport]`,
//! `[logging]` and `[dns]`.

use std::time::Duration;

use toml::de::DeValue;

use super::{Entry, elements};
use crate::config::model::{
    AcceptedDomain, AcceptedDomainType, Admin, Certificate, Dns, Logging, MinTlsVersion, Server, Tls,
    Transport, TrustedRoots,
};
use crate::config::table::{Table, described};
use crate::config::value;

const A_DURATION: &str = "a duration such as \"90s\"";
const A_SIZE: &str = "a size such as \"36MB\"";
const MB: u64 = 1 << 20;

pub(super) fn server(t: Table<'_>) -> Entry<'_, Server> {
    let hostname = t.parsed("hostname", "a host name", value::host_name);
    if !t.is_set("hostname") {
        t.missing("hostname", "the name in EHLO, banner and `Received`");
    }
    if !t.is_set("spool") {
        t.missing("spool", "the directory of the durable queue");
    }
    if !t.is_set("log_dir") {
        t.missing("log_dir", "the directory of the logs");
    }
    let value = Server {
        // Readers go on with this where the name is missing; the draft never becomes a Config then.
        hostname: hostname.unwrap_or_else(|| "localhost".into()),
        spool: t.path("spool").unwrap_or_default(),
        log_dir: t.path("log_dir").unwrap_or_default(),
        user: t.parsed("user", "the name of a user", value::words),
        shutdown_grace: duration(&t, "shutdown_grace", 30),
    };
    Entry { value, table: t }
}

pub(super) fn admin(t: Table<'_>) -> Entry<'_, Admin> {
    let value = Admin {
        listen: t.parsed("listen", "an address and port such as \"127.0.0.1:8025\"", value::binding),
        token_file: t.existing_file("token_file"),
        socket: t.path("socket"),
    };
    Entry { value, table: t }
}

pub(super) fn certificate(t: Table<'_>) -> Entry<'_, Certificate> {
    for (key, why) in [
        ("name", "connectors refer to it in `tls_certificate_name`"),
        ("chain", "the PEM file with the certificate and its intermediates"),
        ("key", "the PEM file with the private key"),
    ] {
        if !t.is_set(key) {
            t.missing(key, why);
        }
    }
    let value = Certificate {
        name: t.parsed("name", "a name", value::name).unwrap_or_default(),
        chain: t.path("chain").unwrap_or_default(),
        key: t.path("key").unwrap_or_default(),
    };
    Entry { value, table: t }
}

pub(super) fn tls(t: Table<'_>) -> Entry<'_, Tls> {
    let mut trusted_roots = Vec::new();
    for element in elements(&t, "trusted_roots") {
        match element.value {
            DeValue::String(text) if text == "system" => trusted_roots.push(TrustedRoots::System),
            DeValue::String(text) => match t.resolve(text) {
                Ok(path) => trusted_roots.push(TrustedRoots::File(path)),
                Err(problem) => t.refuse("trusted_roots", element.at, format!("`trusted_roots`: {problem}")),
            },
            other => t.refuse(
                "trusted_roots",
                element.at,
                format!(
                    "`trusted_roots` expects \"system\", a PEM file or a list of both, not {}",
                    described(other)
                ),
            ),
        }
    }
    if !t.is_set("trusted_roots") {
        trusted_roots.push(TrustedRoots::System);
    } else if trusted_roots.is_empty() && !t.is_broken("trusted_roots") {
        t.refuse(
            "trusted_roots",
            t.at("trusted_roots"),
            "`trusted_roots` is empty: no certificate could ever verify",
        );
    }
    let min_version = tls_version(&t, "min_version", MinTlsVersion::Tls12);
    Entry { value: Tls { trusted_roots, min_version }, table: t }
}

pub(super) fn tls_version(t: &Table<'_>, key: &'static str, default: MinTlsVersion) -> MinTlsVersion {
    t.choice(key, default, &[("1.2", MinTlsVersion::Tls12), ("1.3", MinTlsVersion::Tls13)])
}

pub(super) fn accepted_domain(t: Table<'_>) -> Option<Entry<'_, AcceptedDomain>> {
    if !t.is_set("domain") {
        t.missing("domain", "the domain whose mail is accepted");
    }
    let domain = t.parsed("domain", "a domain such as \"contoso.com\"", |text| match text {
        "*" => {
            Err("`*` would accept mail to any domain from anyone, an open relay; name the domains, or set \
                    `accept_any_recipient` on a receive connector for the peers that may relay"
                .into())
        }
        _ => value::domain_pattern(text),
    });
    let kind = t.choice(
        "type",
        AcceptedDomainType::Authoritative,
        &[
            ("authoritative", AcceptedDomainType::Authoritative),
            ("internal_relay", AcceptedDomainType::InternalRelay),
            ("external_relay", AcceptedDomainType::ExternalRelay),
        ],
    );
    Some(Entry { value: AcceptedDomain { domain: domain?, kind }, table: t })
}

pub(super) fn transport(t: Table<'_>) -> Entry<'_, Transport> {
    let count =
        |key, default| u32::try_from(t.number(key, default, (0, 1_000_000), None)).unwrap_or(u32::MAX);
    let value = Transport {
        queue_glitch_retry_count: count("queue_glitch_retry_count", 4),
        queue_glitch_retry_interval: positive(&t, "queue_glitch_retry_interval", 60),
        transient_failure_retry_count: count("transient_failure_retry_count", 6),
        transient_failure_retry_interval: positive(&t, "transient_failure_retry_interval", 600),
        outbound_connection_failure_retry_interval: positive(
            &t,
            "outbound_connection_failure_retry_interval",
            1800,
        ),
        message_expiration_timeout: positive(&t, "message_expiration_timeout", 2 * 86_400),
        delay_notification_timeout: positive(&t, "delay_notification_timeout", 4 * 3600),
        message_retry_interval: positive(&t, "message_retry_interval", 300),
        max_outbound_connections: unlimited_count(&t, "max_outbound_connections", 1000),
        max_message_size: size(&t, "max_message_size", 36 * MB),
        poison_threshold: u32::try_from(t.number("poison_threshold", 2, (1, 1000), None)).unwrap_or(2),
    };
    Entry { value, table: t }
}

pub(super) fn logging(t: &Table<'_>) -> Logging {
    Logging {
        max_age: duration(t, "max_age", 30 * 86_400),
        max_directory_size: size(t, "max_directory_size", 250 * MB),
        max_file_size: size(t, "max_file_size", 10 * MB),
        quiet_probes_from: t
            .list("quiet_probes_from", "a list of IP ranges", value::range)
            .unwrap_or_default(),
    }
}

pub(super) fn dns(t: &Table<'_>) -> Dns {
    let servers = t.list("servers", "a list of \"system\" or addresses", |text| match text.trim() {
        "system" => Ok(None),
        _ => value::dns_server(text).map(Some),
    });
    let servers = servers.unwrap_or_else(|| vec![None]);
    if servers.is_empty() && !t.is_broken("servers") {
        t.refuse("servers", t.at("servers"), "`servers` is empty; write [\"system\"] or name at least one");
    }
    if servers.len() > 1 && servers.contains(&None) {
        t.refuse("servers", t.at("servers"), "`servers`: \"system\" stands alone or not at all");
    }
    Dns { servers: servers.into_iter().flatten().collect(), timeout: positive(t, "timeout", 5) }
}

/// A duration that may be zero, by default so many seconds.
pub(super) fn duration(t: &Table<'_>, key: &'static str, seconds: u64) -> Duration {
    t.parsed(key, A_DURATION, value::duration).unwrap_or(Duration::from_secs(seconds))
}

/// A duration that may not be zero.
pub(super) fn positive(t: &Table<'_>, key: &'static str, seconds: u64) -> Duration {
    t.parsed(key, A_DURATION, value::positive_duration).unwrap_or(Duration::from_secs(seconds))
}

/// A limit in bytes.
pub(super) fn size(t: &Table<'_>, key: &'static str, default: u64) -> u64 {
    t.parsed(key, A_SIZE, value::limit).unwrap_or(default)
}

/// A number of things at once, at least one.
pub(super) fn unlimited_count(t: &Table<'_>, key: &'static str, default: u64) -> usize {
    let count = t.number(key, default, (1, 1_000_000), Some(u64::MAX));
    usize::try_from(count).unwrap_or(usize::MAX)
}
