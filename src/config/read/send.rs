//! `[[send_connectors]]`.

use super::Entry;
use super::general::{positive, size};
use super::receive::protocol_logging;
use crate::config::model::{
    AcceptedDomain, Auth, Credentials, LmtpTarget, OAuth2, Routing, SendConnector, SendTls, Server,
    SmartHost, Space,
};
use crate::config::schema;
use crate::config::table::Table;
use crate::config::value::{self, quoted};

/// The ways out; a connector has one of them.
const ROUTES: [&str; 4] = ["smart_hosts", "dns_routing", "maildir", "lmtp"];

pub(super) fn connector<'a>(
    t: Table<'a>,
    server: &Server,
    accepted: &[Entry<'_, AcceptedDomain>],
) -> Entry<'a, SendConnector> {
    if !t.is_set("name") {
        t.missing("name", "the log and error messages refer to it");
    }
    if !t.is_set("address_spaces") {
        t.missing("address_spaces", "the domains to route, as in [\"contoso.com\"], [\"*\"] or [\"--\"]");
    }
    let spaces =
        t.list("address_spaces", "a list of address spaces", value::address_space).unwrap_or_default();
    if spaces.is_empty() && !t.is_broken("address_spaces") {
        t.refuse(
            "address_spaces",
            t.at("address_spaces"),
            "`address_spaces` is empty: the connector would route nothing",
        );
    }
    let inward = !spaces.is_empty() && spaces.iter().all(|s| leads_inward(&s.space, accepted));
    let number = |key, default, low| {
        usize::try_from(t.number(key, default, (low, 1_000_000), None)).unwrap_or(usize::MAX)
    };
    let value = SendConnector {
        name: t.parsed("name", "a name", value::name).unwrap_or_default(),
        address_spaces: spaces,
        routing: routing(&t),
        port: u16::try_from(t.number("port", 25, (1, 65_535), None)).unwrap_or(25),
        fqdn: t.parsed("fqdn", "a host name", value::host_name).unwrap_or_else(|| server.hostname.clone()),
        source_ip: t.parsed("source_ip", "an IP address", |text| {
            text.trim().parse().map_err(|_| format!("{} is no IP address", quoted(text)))
        }),
        tls: t.choice(
            "tls",
            SendTls::Opportunistic,
            &[
                ("off", SendTls::Off),
                ("opportunistic", SendTls::Opportunistic),
                ("required", SendTls::Required),
                ("validate_certificate", SendTls::ValidateCertificate),
                ("validate_domain", SendTls::ValidateDomain),
            ],
        ),
        tls_domain: t.parsed("tls_domain", "a domain", value::domain_pattern),
        tls_certificate_name: t.parsed("tls_certificate_name", "the name of a certificate", value::words),
        auth: t.table("auth", &schema::AUTH).and_then(|below| auth(&t, &below)),
        max_message_size: size(&t, "max_message_size", u64::MAX),
        max_connections: number("max_connections", 40, 1),
        max_messages_per_connection: number("max_messages_per_connection", 0, 0),
        connection_inactivity_timeout: positive(&t, "connection_inactivity_timeout", 600),
        protocol_logging: protocol_logging(&t),
        trusted: t.flag("trusted", inward),
        enabled: t.flag("enabled", true),
        route_all_messages_via_on_premises: t.flag("route_all_messages_via_on_premises", false),
    };
    Entry { value, table: t }
}

/// Whether everything the space covers is our own: then organisation headers may go along.
fn leads_inward(space: &Space, accepted: &[Entry<'_, AcceptedDomain>]) -> bool {
    match space {
        Space::AcceptedDomains => true,
        Space::Any => false,
        Space::Domain(domain) => accepted
            .iter()
            .map(|entry| &entry.value.domain)
            .any(|own| own.matches(domain.name()) && (own.with_subdomains() || !domain.with_subdomains())),
    }
}

fn routing(t: &Table<'_>) -> Routing {
    let smart_hosts = t.list("smart_hosts", "a list of hosts", value::smart_host);
    let dns = t.flag("dns_routing", false);
    let maildir = t.parsed("maildir", "a path with %d and %u", |text| maildir(t, text));
    let lmtp = t.parsed("lmtp", "\"unix:/path\" or \"host:port\"", |text| lmtp(t, text));

    // `dns_routing = false` says that DNS is not the way, which is no second way.
    let chosen: Vec<&'static str> =
        ROUTES.into_iter().filter(|key| t.is_set(key) && (*key != "dns_routing" || dns)).collect();
    for (i, second) in chosen.iter().enumerate() {
        for first in chosen.iter().take(i) {
            t.refuse(
                second,
                t.at(second),
                format!("`{first}` and `{second}` exclude each other: a send connector has one way out"),
            );
        }
    }
    if chosen.is_empty() && !t.is_broken("dns_routing") {
        t.refuse(
            "smart_hosts",
            t.header,
            "the send connector has no way out: set `smart_hosts`, `dns_routing = true`, `maildir` or `lmtp`",
        );
    }
    match (smart_hosts, maildir, lmtp) {
        (Some(hosts), ..) => {
            if hosts.is_empty() && !t.is_broken("smart_hosts") {
                t.refuse(
                    "smart_hosts",
                    t.at("smart_hosts"),
                    "`smart_hosts` is empty: name at least one host",
                );
            }
            Routing::SmartHosts(hosts)
        }
        (_, Some(template), _) => Routing::Maildir(template),
        (_, _, Some(target)) => Routing::Lmtp(target),
        _ => Routing::Dns,
    }
}

fn maildir(t: &Table<'_>, text: &str) -> Result<String, String> {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('%') {
        if !after.starts_with(['d', 'u']) {
            return Err(format!(
                "in {}, only %d (domain) and %u (local part) may follow a `%`",
                quoted(text)
            ));
        }
        rest = after;
    }
    let path = t.resolve(text)?;
    path.into_os_string().into_string().map_err(|_| "the path is not UTF-8".into())
}

fn lmtp(t: &Table<'_>, text: &str) -> Result<LmtpTarget, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return t.resolve(path).map(LmtpTarget::Unix);
    }
    match value::smart_host(text) {
        Ok(SmartHost { host, port: Some(port) }) => Ok(LmtpTarget::Tcp(host, port)),
        _ => Err(format!("{} is neither \"unix:/path\" nor \"host:port\"", quoted(text))),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mechanism {
    Plain,
    Login,
    XOAuth2,
}

fn auth(connector: &Table<'_>, t: &Table<'_>) -> Option<Auth> {
    if !t.is_set("mechanism") {
        connector.refuse("auth", t.header, "`mechanism` is missing: \"plain\", \"login\" or \"xoauth2\"");
        return None;
    }
    let mechanism = t.choice(
        "mechanism",
        Mechanism::Plain,
        &[("plain", Mechanism::Plain), ("login", Mechanism::Login), ("xoauth2", Mechanism::XOAuth2)],
    );
    if t.is_broken("mechanism") {
        return None;
    }
    if mechanism == Mechanism::XOAuth2
        && schema::has_no_effect_yet(t.section.title, "mechanism = \"xoauth2\"")
    {
        t.report.warn(t.at("mechanism"), "`mechanism = \"xoauth2\"` has no effect yet");
    }
    let (needed, foreign): (&[&'static str], &[&'static str]) = match mechanism {
        Mechanism::XOAuth2 => {
            (&["username", "token_url", "client_id", "client_secret_file", "scope"], &["password_file"])
        }
        _ => (&["username", "password_file"], &["token_url", "client_id", "client_secret_file", "scope"]),
    };
    let name = match mechanism {
        Mechanism::Plain => "plain",
        Mechanism::Login => "login",
        Mechanism::XOAuth2 => "xoauth2",
    };
    for key in needed.iter().filter(|key| !t.is_set(key)) {
        t.missing(key, &format!("mechanism \"{name}\" needs it"));
    }
    for key in foreign.iter().filter(|key| t.is_set(key)) {
        t.refuse(key, t.at(key), format!("`{key}` does not belong to mechanism \"{name}\""));
    }
    // All are read before any is missed, so that every problem is noted.
    let username = t.parsed("username", "a user name", value::words);
    if mechanism == Mechanism::XOAuth2 {
        let token_url = t.parsed("token_url", "an https:// address", token_url);
        let client_id = t.parsed("client_id", "the id of an application", value::words);
        let client_secret_file = t.existing_file("client_secret_file");
        let scope = t.parsed("scope", "a scope", value::words);
        return Some(Auth::XOAuth2(OAuth2 {
            username: username?,
            token_url: token_url?,
            client_id: client_id?,
            client_secret_file: client_secret_file?,
            scope: scope?,
        }));
    }
    let password_file = t.existing_file("password_file");
    let credentials = Credentials { username: username?, password_file: password_file? };
    Some(if mechanism == Mechanism::Plain { Auth::Plain(credentials) } else { Auth::Login(credentials) })
}

/// A client secret must not cross a network in the clear; a token endpoint on this machine, as in
/// tests, is no network.
fn token_url(text: &str) -> Result<String, String> {
    let local =
        ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"].iter().any(|p| text.starts_with(p));
    if text.starts_with("https://") || local {
        value::words(text)
    } else {
        Err(format!("{} is no https:// address", quoted(text)))
    }
}
