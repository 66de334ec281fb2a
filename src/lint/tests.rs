//! Each rule by a configuration that it is about, and one that it is not.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};

use super::*;
use crate::tls::Identity;
use crate::tls::test_pki::{Leaf, Pki, self_signed};

const SERVER: &str = "[server]\nhostname = \"edge.contoso.com\"\nspool = \"spool\"\nlog_dir = \"logs\"\n\
                      [[accepted_domains]]\ndomain = \"contoso.com\"\n";

/// Sends to Exchange Online as its documentation asks for.
const TO_EOP: &str = "[[send_connectors]]\nname = \"To EOP\"\naddress_spaces = [\"*\"]\n\
                      smart_hosts = [\"contoso-com.mail.protection.outlook.com\"]\ntls = \"validate_domain\"\n\
                      tls_domain = \"mail.protection.outlook.com\"\ntrusted = true\nmax_connections = 40\n";

fn receive(rest: &str) -> String {
    format!("[[receive_connectors]]\nname = \"In\"\nbindings = [\"127.0.0.1:25\"]\n{rest}")
}

fn contoso() -> Leaf<'static> {
    Leaf { names: &["edge.contoso.com"], valid: (1, 300), ..Leaf::default() }
}

/// The findings for a configuration whose only certificate is this one.
fn with(parts: &str, identity: Identity, pki: &Pki) -> Vec<Finding> {
    let config = Config::from_toml(&format!("{SERVER}{parts}"), Path::new("/nowhere")).unwrap().config;
    let now = SystemTime::now();
    look(&config, &CertificateStore::new([identity], now), &pki.roots(), now)
}

fn rules(findings: &[Finding]) -> Vec<&'static str> {
    findings.iter().map(|finding| finding.rule).collect()
}

/// The rules that a configuration with a good certificate breaks.
fn of(parts: &str) -> Vec<&'static str> {
    let pki = Pki::new();
    rules(&with(parts, pki.identity(&contoso()), &pki))
}

/// The rules that a certificate breaks where Exchange Online sees it in both directions.
fn shown(leaf: &Leaf<'_>) -> Vec<&'static str> {
    let pki = Pki::new();
    rules(&with(&format!("{}{TO_EOP}", receive("")), pki.identity(leaf), &pki))
}

#[test]
fn what_exchange_online_asks_for_passes() {
    assert!(of(&format!("{}{TO_EOP}", receive(""))).is_empty());
}

#[test]
fn relays_for_strangers() {
    assert_eq!(of(&receive("accept_any_recipient = true\n")), ["open-relay"]);
    let inside = "accept_any_recipient = true\nremote_ip_ranges = [\"10.0.0.0/8\", \"192.0.2.0/28\"]\n";
    assert!(of(&receive(inside)).is_empty());
    let eop = "accept_any_recipient = true\nremote_ip_ranges = [\"40.92.0.0/20\"]\n";
    assert_eq!(of(&receive(eop)), ["open-relay"]);
    let narrow = "accept_any_recipient = true\nremote_ip_ranges = [\"40.92.0.0/24\"]\n";
    assert_eq!(of(&receive(narrow)), ["eop-any-tenant"]);
    assert_eq!(of(&receive(&narrow.replace("40.92.0.0", "40.93.7.0"))), ["eop-any-tenant"]);
    let friends = "accept_any_recipient = true\ntls = \"mutual\"\ntls_domains = [\"partner.test\"]\n";
    assert!(of(&receive(friends)).is_empty());
    let anybody =
        "accept_any_recipient = true\ntls = \"mutual\"\ntls_domains = [\"mail.protection.outlook.com\"]\n";
    assert_eq!(of(&receive(anybody)), ["open-relay"], "every tenant has that name");
    let domain = "[[accepted_domains]]\ndomain = \"*.com\"\n";
    assert_eq!(of(domain), ["open-relay-domain"]);
}

#[test]
fn receive_connectors_that_exchange_online_meets() {
    assert_eq!(of(&receive("tls = \"off\"\n")), ["eop-no-starttls"]);
    assert_eq!(of(&receive("tls13_tickets = true\n")), ["eop-tickets"]);
    let inside = "tls = \"off\"\nremote_ip_ranges = [\"10.0.0.0/8\"]\n";
    assert!(of(&receive(inside)).is_empty());
    assert_eq!(of(&receive("trusted = true\n")), ["trusted-internet"]);
}

#[test]
fn send_connectors_to_exchange_online() {
    for weak in ["off", "opportunistic", "required"] {
        let connector = TO_EOP
            .replace("validate_domain", weak)
            .replace("tls_domain = \"mail.protection.outlook.com\"\n", "");
        assert_eq!(of(&connector), ["eop-tls-weak"], "{weak}");
    }
    let elsewhere = TO_EOP.replace("\"mail.protection.outlook.com\"", "\"mail.contoso.com\"");
    assert_eq!(of(&elsewhere), ["eop-tls-domain"]);
    let few = TO_EOP.replace("= 40", "= 20");
    assert_eq!(of(&few), ["eop-connections"]);
    assert_eq!(of(&TO_EOP.replace("trusted = true", "trusted = false")), ["eop-not-trusted"]);
    let address = TO_EOP.replace("contoso-com.mail.protection.outlook.com", "[104.47.1.2]");
    assert_eq!(of(&address), ["eop-by-address"]);
    assert_eq!(
        of(&format!("{TO_EOP}[transport]\nmessage_retry_interval = \"15m\"\n")),
        ["eop-retry-interval"]
    );
    assert!(of("[transport]\nmessage_retry_interval = \"15m\"\n").is_empty(), "nothing goes there");
    let disabled = format!("{few}enabled = false\n");
    assert!(of(&disabled).is_empty());
    assert_eq!(of(&format!("{TO_EOP}fqdn = \"other.contoso.com\"\n")), ["eop-no-certificate"]);
}

#[test]
fn certificates_as_exchange_online_sees_them() {
    assert_eq!(shown(&Leaf { whole_chain: false, ..contoso() }), ["certificate-chain-incomplete"]);
    assert_eq!(shown(&Leaf { usages: &[ServerAuth], ..contoso() }), ["certificate-no-client-auth"]);
    assert_eq!(shown(&Leaf { usages: &[ClientAuth], ..contoso() }), ["certificate-no-server-auth"]);
    assert_eq!(shown(&Leaf { valid: (30, -1), ..contoso() }), ["certificate-expired"]);
    assert_eq!(shown(&Leaf { valid: (-1, 300), ..contoso() }), ["certificate-not-yet-valid"]);
    assert_eq!(shown(&Leaf { valid: (60, 29), ..contoso() }), ["certificate-expires-soon"]);
    let pki = Pki::new();
    let stranger = Leaf { names: &["edge.fabrikam.com"], ..contoso() };
    let by_name = TO_EOP.replace("trusted = true", "trusted = true\nfqdn = \"edge.fabrikam.com\"");
    assert_eq!(rules(&with(&by_name, pki.identity(&stranger), &pki)), ["eop-certificate-name"]);
    assert_eq!(rules(&with(TO_EOP, self_signed(&contoso(), false), &pki)), ["certificate-self-signed"]);
    let config = Config::from_toml(&format!("{SERVER}{TO_EOP}"), Path::new("/nowhere")).unwrap().config;
    let store = CertificateStore::new([pki.identity(&contoso())], SystemTime::now());
    assert_eq!(
        rules(&look(&config, &store, &Roots::default(), SystemTime::now())),
        ["certificate-chain-incomplete"],
        "issued by an authority whose root nobody knows"
    );
}

#[test]
fn a_certificate_that_is_not_there() {
    let other = receive("fqdn = \"mx.contoso.com\"\n");
    assert_eq!(of(&other), ["certificate-missing"]);
    let named = receive("fqdn = \"mx.contoso.com\"\ntls_certificate_name = \"edge\"\n");
    let pki = Pki::new();
    let config = Config::from_toml(&format!("{SERVER}{named}"), Path::new("/nowhere"));
    assert!(config.is_err(), "check finds it without files");
    let wildcard = Leaf { names: &["*.contoso.com"], ..contoso() };
    assert!(with(&other, pki.identity(&wildcard), &pki).is_empty());
}

#[test]
fn what_two_connectors_share_is_said_once() {
    let two = format!("{}{}", receive(""), receive("").replace("\"In\"", "\"In 2\"").replace(":25", ":26"));
    let pki = Pki::new();
    let soon = Leaf { valid: (60, 10), ..contoso() };
    let findings = with(&two, pki.identity(&soon), &pki);
    assert_eq!(rules(&findings), ["certificate-expires-soon"]);
    assert!(findings[0].problem.starts_with("`CN=edge.contoso.com` expires in "), "{findings:?}");
    assert_eq!(findings[0].subject, "certificate `edge`");
}

#[test]
fn a_chain_out_of_order_is_noticed() {
    let pki = Pki::new();
    let mut chain = pki.identity(&contoso()).chain().to_vec();
    chain.push(chain[0].clone());
    let mut findings = Findings(Vec::new());
    certificates::order("certificate `edge`", &chain, &mut findings);
    assert_eq!(rules(&findings.0), ["certificate-chain-order"]);
}

#[test]
fn time_decides() {
    let pki = Pki::new();
    let config =
        Config::from_toml(&format!("{SERVER}{}", receive("")), Path::new("/nowhere")).unwrap().config;
    let store = CertificateStore::new([pki.identity(&contoso())], SystemTime::now());
    let in_days = |days: u64| {
        let then = SystemTime::now() + Duration::from_hours(24 * days);
        rules(&look(&config, &store, &pki.roots(), then))
    };
    assert!(in_days(0).is_empty());
    assert_eq!(in_days(280), ["certificate-expires-soon"]);
    assert_eq!(in_days(301), ["certificate-expired"]);
}
