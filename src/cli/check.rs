//! `gatepost check`: what is wrong with a configuration, and what it would run.

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::config::{
    AcceptedDomainType, Auth, Config, Inspection, LmtpTarget, MinTlsVersion, Problem, ReceiveConnector,
    ReceiveTls, Routing, SendConnector, SendTls, SmartHost, Space, TrustedRoots,
};

/// Reads the configuration, prints every problem and warning to stderr and, when it is valid, a
/// summary of what would run to stdout; with `json`, all of it as one object to stdout. True when
/// the configuration is valid.
pub fn check(path: &Path, json: bool) -> bool {
    check_to(path, json, &mut std::io::stdout().lock(), &mut std::io::stderr().lock())
}

/// The same, to any pair of writers. What they do not take is lost: a closed pipe, as in
/// `check | head`, changes nothing about the verdict.
pub fn check_to(path: &Path, json: bool, out: &mut dyn Write, err: &mut dyn Write) -> bool {
    let inspection = Config::inspect(path);
    if json {
        let _ = writeln!(out, "{:#}", as_json(&inspection));
    } else {
        for problem in &inspection.errors {
            let _ = writeln!(err, "{problem}");
        }
        for warning in &inspection.warnings {
            let _ = writeln!(err, "{}", warning_line(warning));
        }
        if let Some(config) = &inspection.config {
            let _ = write!(out, "{}", summary(config));
        }
    }
    inspection.config.is_some()
}

/// A warning in the form of a problem, and recognisable as less.
pub fn warning_line(warning: &Problem) -> String {
    let Problem { file, line, column, message } = warning;
    format!("{}:{line}:{column}: warning: {message}", file.display())
}

/// What would run, for people.
pub fn summary(config: &Config) -> String {
    let mut s = String::new();
    // Writing to a String cannot fail.
    let _ = write_summary(config, &mut s);
    s
}

fn write_summary(config: &Config, s: &mut String) -> std::fmt::Result {
    let server = &config.server;
    writeln!(s, "{} is valid. It would run:", config.path.display())?;
    writeln!(s, "\nServer {}", server.hostname)?;
    writeln!(s, "  spool  {}", server.spool.display())?;
    writeln!(s, "  logs   {}", server.log_dir.display())?;
    if let Some(user) = &server.user {
        writeln!(s, "  user   {user}")?;
    }

    writeln!(s, "\nReceive connectors{}", none(config.receive_connectors.is_empty()))?;
    for connector in &config.receive_connectors {
        writeln!(s, "  {}", connector.name)?;
        writeln!(s, "    listens on  {}", joined(&connector.bindings, ToString::to_string))?;
        writeln!(
            s,
            "    serves      {}",
            joined(&connector.remote_ip_ranges, crate::config::IpRange::notation)
        )?;
        writeln!(s, "    TLS         {}", receive_tls(connector))?;
        writeln!(
            s,
            "    takes mail  {}",
            if connector.accept_any_recipient { "to any domain" } else { "to accepted domains" }
        )?;
        writeln!(s, "    limits      {}", receive_limits(connector))?;
    }

    writeln!(s, "\nAccepted domains{}", none(config.accepted_domains.is_empty()))?;
    for domain in &config.accepted_domains {
        writeln!(s, "  {}  {}", domain.domain, domain_type(domain.kind))?;
    }

    writeln!(s, "\nSend connectors{}", none(config.send_connectors.is_empty()))?;
    for connector in &config.send_connectors {
        writeln!(s, "  {}{}", connector.name, if connector.enabled { "" } else { " (disabled)" })?;
        writeln!(s, "    routes      {}", spaces(connector))?;
        writeln!(s, "    next hops   {}", next_hops(connector).join(", then "))?;
        writeln!(s, "    TLS         {}", send_tls(connector))?;
        if let Some(auth) = &connector.auth {
            writeln!(s, "    logs in     {}", credentials(auth))?;
        }
    }

    if let Some(eop) = &config.eop {
        writeln!(s, "\nStand-in for Exchange Online, tenant {}", eop.tenant)?;
        let (mailboxes, faults) = (eop.mailboxes.len(), eop.faults.len());
        writeln!(
            s,
            "  {mailboxes} cloud mailboxes, {} inbound connectors, {faults} faults",
            eop.inbound_connectors.len()
        )?;
    }

    if config.certificates.is_empty() {
        writeln!(s, "\nCertificates: none, so a self-signed one is made and kept in the spool")?;
    } else {
        writeln!(s, "\nCertificates")?;
    }
    for certificate in &config.certificates {
        writeln!(s, "  {}  {}", certificate.name, certificate.chain.display())?;
    }
    writeln!(s, "\nTrusted roots  {}", joined(&config.tls.trusted_roots, roots))?;
    write_queue(config, s)
}

fn write_queue(config: &Config, s: &mut String) -> std::fmt::Result {
    let t = &config.transport;
    writeln!(
        s,
        "\nQueue\n  a next hop that cannot be reached is tried again {} times every {}, {} times every {}, then every {}",
        t.queue_glitch_retry_count,
        span(t.queue_glitch_retry_interval),
        t.transient_failure_retry_count,
        span(t.transient_failure_retry_interval),
        span(t.outbound_connection_failure_retry_interval),
    )?;
    writeln!(
        s,
        "  a message put off by a 4xx reply is tried again after {}",
        span(t.message_retry_interval)
    )?;
    if t.delay_notification_timeout < t.message_expiration_timeout {
        writeln!(s, "  its sender hears of a delay after {}", span(t.delay_notification_timeout))?;
    }
    writeln!(s, "  and it is given up after {}", span(t.message_expiration_timeout))
}

fn none(empty: bool) -> &'static str {
    if empty { ": none" } else { "" }
}

fn joined<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    items.iter().map(show).collect::<Vec<_>>().join(", ")
}

/// In the largest unit that divides it, as it is written in the file.
fn span(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
    match units.iter().find(|(unit, _)| millis > 0 && millis.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", millis / unit),
        None if millis == 0 => "0s".into(),
        None => format!("{millis}ms"),
    }
}

fn bytes(size: u64) -> String {
    if size == u64::MAX {
        return "unlimited".into();
    }
    let units = [(1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB")];
    match units.iter().find(|(unit, _)| size > 0 && size.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", size / unit),
        None => format!("{size}B"),
    }
}

fn version(min: MinTlsVersion) -> &'static str {
    match min {
        MinTlsVersion::Tls12 => "TLS 1.2 or later",
        MinTlsVersion::Tls13 => "TLS 1.3",
    }
}

fn receive_tls_word(tls: ReceiveTls) -> &'static str {
    match tls {
        ReceiveTls::Off => "off",
        ReceiveTls::Opportunistic => "opportunistic",
        ReceiveTls::Required => "required",
        ReceiveTls::Mutual => "mutual",
    }
}

fn receive_tls(connector: &ReceiveConnector) -> String {
    let mut text = receive_tls_word(connector.tls).to_owned();
    if connector.tls == ReceiveTls::Off {
        return text;
    }
    if connector.tls == ReceiveTls::Mutual {
        let _ = write!(
            text,
            " with a client certificate for {}",
            joined(&connector.tls_domains, ToString::to_string)
        );
    }
    let certificate = connector.tls_certificate_name.as_deref();
    let _ = match certificate {
        Some(name) => write!(text, ", {}, certificate {name}", version(connector.min_tls_version)),
        None => write!(text, ", {}, certificate for {}", version(connector.min_tls_version), connector.fqdn),
    };
    text
}

fn receive_limits(connector: &ReceiveConnector) -> String {
    let rate = match connector.message_rate_limit {
        0 => String::new(),
        rate => format!(", {rate} messages a minute a source"),
    };
    format!(
        "{} a message, {} recipients{rate}",
        bytes(connector.max_message_size),
        connector.max_recipients_per_message
    )
}

fn domain_type(kind: AcceptedDomainType) -> &'static str {
    match kind {
        AcceptedDomainType::Authoritative => "authoritative",
        AcceptedDomainType::InternalRelay => "internal_relay",
        AcceptedDomainType::ExternalRelay => "external_relay",
    }
}

fn space(space: &Space) -> String {
    match space {
        Space::AcceptedDomains => "--".into(),
        Space::Any => "*".into(),
        Space::Domain(domain) => domain.to_string(),
    }
}

fn spaces(connector: &SendConnector) -> String {
    joined(&connector.address_spaces, |s| match &s.space {
        Space::AcceptedDomains => format!("all accepted domains (cost {})", s.cost),
        Space::Any => format!("everything else (cost {})", s.cost),
        Space::Domain(domain) => format!("{domain} (cost {})", s.cost),
    })
}

fn next_hops(connector: &SendConnector) -> Vec<String> {
    match &connector.routing {
        Routing::SmartHosts(hosts) => hosts.iter().map(|h| smart_host(h, connector.port)).collect(),
        Routing::Dns => vec![format!("the MX hosts of the domain, port {}", connector.port)],
        Routing::Maildir(template) => vec![format!("Maildirs {template}")],
        Routing::Lmtp(LmtpTarget::Unix(path)) => vec![format!("LMTP unix:{}", path.display())],
        Routing::Lmtp(LmtpTarget::Tcp(host, port)) => vec![format!("LMTP {host}:{port}")],
    }
}

fn smart_host(host: &SmartHost, port: u16) -> String {
    format!("{}:{}", host.host, host.port.unwrap_or(port))
}

fn send_tls(connector: &SendConnector) -> String {
    if matches!(connector.routing, Routing::Maildir(_)) {
        return "not involved".into();
    }
    let mut text = match connector.tls {
        SendTls::Off => "off".to_owned(),
        SendTls::Opportunistic => "opportunistic: clear text where the next hop has none".to_owned(),
        SendTls::Required => "required, any certificate".to_owned(),
        SendTls::ValidateCertificate => "required, the certificate's chain must verify".to_owned(),
        SendTls::ValidateDomain => match &connector.tls_domain {
            Some(domain) => format!("required, the certificate must verify and name {domain}"),
            None => "required, the certificate must verify and name the next hop".to_owned(),
        },
    };
    if let Some(name) = &connector.tls_certificate_name {
        let _ = write!(text, "; presents certificate {name}");
    }
    text
}

fn credentials(auth: &Auth) -> String {
    match auth {
        Auth::Plain(c) => format!("as {} (plain)", c.username),
        Auth::Login(c) => format!("as {} (login)", c.username),
        Auth::XOAuth2(c) => format!("as {} (xoauth2)", c.username),
    }
}

fn roots(root: &TrustedRoots) -> String {
    match root {
        TrustedRoots::System => "of the system".into(),
        TrustedRoots::File(path) => path.display().to_string(),
    }
}

fn as_json(inspection: &Inspection) -> Value {
    let notes = |problems: &[Problem]| -> Vec<Value> {
        problems
            .iter()
            .map(|p| json!({ "file": p.file, "line": p.line, "column": p.column, "message": p.message }))
            .collect()
    };
    json!({
        "valid": inspection.config.is_some(),
        "problems": notes(&inspection.errors),
        "warnings": notes(&inspection.warnings),
        "summary": inspection.config.as_ref().map(json_summary),
    })
}

fn json_summary(config: &Config) -> Value {
    let receive = config.receive_connectors.iter().map(|c| {
        json!({
            "name": c.name,
            "bindings": c.bindings,
            "remote_ip_ranges": c.remote_ip_ranges.iter().map(crate::config::IpRange::notation).collect::<Vec<_>>(),
            "tls": receive_tls_word(c.tls),
            "accept_any_recipient": c.accept_any_recipient,
        })
    });
    let send = config.send_connectors.iter().map(|c| {
        let spaces =
            c.address_spaces.iter().map(|s| json!({ "address_space": space(&s.space), "cost": s.cost }));
        json!({
            "name": c.name,
            "enabled": c.enabled,
            "address_spaces": spaces.collect::<Vec<_>>(),
            "next_hops": next_hops(c),
            "tls": c.tls.as_str(),
            "tls_domain": c.tls_domain.as_ref().map(ToString::to_string),
        })
    });
    let domains = config
        .accepted_domains
        .iter()
        .map(|d| json!({ "domain": d.domain.to_string(), "type": domain_type(d.kind) }));
    json!({
        "hostname": config.server.hostname,
        "receive_connectors": receive.collect::<Vec<_>>(),
        "accepted_domains": domains.collect::<Vec<_>>(),
        "send_connectors": send.collect::<Vec<_>>(),
        "certificates": config.certificates.iter().map(|c| &c.name).collect::<Vec<_>>(),
        "trusted_roots": config.tls.trusted_roots.iter().map(roots).collect::<Vec<_>>(),
    })
}
