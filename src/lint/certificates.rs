//! The certificates we would show: whether they are there, whole, in date, fit for their use, and
//! known to Exchange Online (exchange-edge.md 3.5, 8.5).

use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use x509_parser::oid_registry;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::config::{Config, ReceiveTls, SendConnector, SendTls};
use crate::route::AcceptedDomains;
use crate::tls::{CertificateFacts, CertificateStore, EXPIRES_SOON, Identity, Purpose, Roots, judge_own};

use super::{Findings, eop};

/// Where a certificate is shown.
struct Use<'a> {
    connector: String,
    purpose: Purpose,
    with_eop: bool,
    identity: &'a Identity,
}

pub(super) fn look(
    config: &Config,
    store: &CertificateStore,
    roots: &Roots,
    now: SystemTime,
    findings: &mut Findings,
) {
    for connector in config.receive_connectors.iter().filter(|c| c.tls != ReceiveTls::Off) {
        let subject = format!("receive connector `{}`", connector.name);
        let name = connector.tls_certificate_name.as_deref();
        let Some(identity) = store.choose(name, &connector.fqdn) else {
            findings.add(
                "certificate-missing",
                &subject,
                format!(
                    "no certificate covers {}: STARTTLS will not be offered",
                    name.unwrap_or(&connector.fqdn)
                ),
                "add one to [[certificates]], or name another in tls_certificate_name",
            );
            continue;
        };
        if name.is_some() && !store.is_good_for(&identity, &connector.fqdn) {
            findings.add(
                "certificate-not-fqdn",
                &subject,
                format!("its certificate does not carry {}, the name in its banner: clients that check names refuse it", connector.fqdn),
                format!("set fqdn to one of {}", names(&identity.facts)),
            );
        }
        let with_eop = eop::reaches(connector);
        judge(
            &Use { connector: subject, purpose: Purpose::Server, with_eop, identity: &identity },
            roots,
            now,
            findings,
        );
    }
    for connector in config.send_connectors.iter().filter(|c| c.enabled && c.tls != SendTls::Off) {
        look_out(config, connector, store, roots, now, findings);
    }
}

fn look_out(
    config: &Config,
    connector: &SendConnector,
    store: &CertificateStore,
    roots: &Roots,
    now: SystemTime,
    findings: &mut Findings,
) {
    let subject = format!("send connector `{}`", connector.name);
    let with_eop = eop::is_next_hop_of(connector);
    let name = connector.tls_certificate_name.as_deref();
    let Some(identity) = store.choose(name, &connector.fqdn) else {
        if with_eop {
            findings.add(
                "eop-no-certificate",
                &subject,
                "no client certificate is shown, so that Exchange Online can know the organisation by its address only (550 5.7.64 TenantAttribution)",
                "name one of [[certificates]] in tls_certificate_name, as it is set on the inbound connector there",
            );
        }
        return;
    };
    // Elsewhere a client certificate is a courtesy: nobody asks whose it is.
    if !with_eop {
        return;
    }
    let accepted = AcceptedDomains::new(&config.accepted_domains);
    let belongs = identity.facts.all_names().any(|name| accepted.hold_certificate_name(name));
    if !belongs && !identity.facts.self_signed {
        findings.add(
            "eop-certificate-name",
            &subject,
            format!(
                "none of the certificate's names ({}) lies in an accepted domain; Exchange Online refuses to relay for it (550 5.7.64 Relay Access Denied ATTR36)",
                names(&identity.facts)
            ),
            "use a certificate with a name in a domain of the organisation, and list that domain in [[accepted_domains]]",
        );
    }
    judge(
        &Use { connector: subject, purpose: Purpose::Client, with_eop, identity: &identity },
        roots,
        now,
        findings,
    );
}

fn judge(shown: &Use<'_>, roots: &Roots, now: SystemTime, findings: &mut Findings) {
    let facts = &shown.identity.facts;
    let label = match shown.identity.name() {
        Some(name) => format!("certificate `{name}`"),
        None => "the self-signed certificate made at first start".to_owned(),
    };
    for certificate in shown.identity.chain() {
        dates(&label, certificate, now, findings);
        signature(&label, certificate, findings);
    }
    let fit = match shown.purpose {
        Purpose::Server => facts.for_servers,
        Purpose::Client => facts.for_clients,
    };
    if !fit {
        let (rule, usage) = match shown.purpose {
            Purpose::Server => ("certificate-no-server-auth", "serverAuth"),
            Purpose::Client => ("certificate-no-client-auth", "clientAuth"),
        };
        findings.add(
            rule,
            &label,
            format!("its extended key usage does not include {usage}, which {} needs", shown.connector),
            format!("have it issued with {usage}; some public authorities no longer put clientAuth into certificates for servers"),
        );
    }
    if facts.self_signed {
        if shown.with_eop {
            findings.add(
                "certificate-self-signed",
                &label,
                format!("it is self-signed: on {} Exchange Online takes it for encryption only, and never as the organisation's", shown.connector),
                "use a certificate of a public authority",
            );
        }
        return;
    }
    order(&label, shown.identity.chain(), findings);
    let last = shown.identity.chain().last().and_then(|last| CertificateFacts::read(last).ok());
    match (judge_own(shown.identity.chain(), roots, shown.purpose, now), last) {
        (Err(problem), Some(last)) if problem.word == "UntrustedRoot" && !last.self_signed => findings.add(
            "certificate-chain-incomplete",
            &label,
            format!(
                "the chain ends at `{}`, issued by `{}`, which is neither in the file nor a trusted root; Exchange Online never fetches what is missing (450 4.4.317, 550 5.7.64)",
                last.subject, last.issuer
            ),
            "put the leaf and then all intermediate certificates into the chain file; if the authority is a private one, add its root to [tls] trusted_roots",
        ),
        (Err(problem), _) if problem.word == "UntrustedRoot" => findings.add(
            "certificate-untrusted-root",
            &label,
            format!("its chain leads to no trusted root: {}", problem.detail),
            "use a certificate of a public authority, or add the private root to [tls] trusted_roots",
        ),
        // Dates and usage were said above.
        (Err(problem), _) if !matches!(problem.word, "Expired" | "NotYetValid" | "WrongUsage") => findings.add(
            "certificate-invalid",
            &label,
            format!("its chain does not verify: {} ({})", problem.detail, problem.word),
            "have it issued anew",
        ),
        _ => {}
    }
}

fn dates(label: &str, der: &CertificateDer<'_>, now: SystemTime, findings: &mut Findings) {
    let Ok(facts) = CertificateFacts::read(der) else { return };
    let (subject, end) = (&facts.subject, crate::log::time::rfc3339(facts.not_after));
    let renew = "renew it; the new files are taken over by a reload";
    if now > facts.not_after {
        findings.add("certificate-expired", label, format!("`{subject}` expired at {end}"), renew);
    } else if now < facts.not_before {
        let begin = crate::log::time::rfc3339(facts.not_before);
        findings.add(
            "certificate-not-yet-valid",
            label,
            format!("`{subject}` is not valid before {begin}"),
            "check the clock of this machine, or use another certificate until then",
        );
    } else if now + EXPIRES_SOON > facts.not_after {
        let days = facts.not_after.duration_since(now).unwrap_or_default().as_secs() / 86_400;
        let problem = format!("`{subject}` expires in {days} days, at {end}");
        findings.add("certificate-expires-soon", label, problem, renew);
    }
}

/// Signatures with MD2 or MD5 anywhere fail with TLS 1.2 (exchange-edge.md 3.5); SHA-1 is no
/// better. A root's own signature proves nothing and is not looked at.
fn signature(label: &str, der: &CertificateDer<'_>, findings: &mut Findings) {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return };
    if certificate.subject().as_raw() == certificate.issuer().as_raw() {
        return;
    }
    let algorithm = &certificate.signature_algorithm.algorithm;
    let weak = [
        (oid_registry::OID_PKCS1_MD2WITHRSAENC, "MD2"),
        (oid_registry::OID_PKCS1_MD5WITHRSAENC, "MD5"),
        (oid_registry::OID_PKCS1_SHA1WITHRSA, "SHA-1"),
    ];
    if let Some((_, hash)) = weak.iter().find(|(oid, _)| oid == algorithm) {
        findings.add(
            "certificate-weak-signature",
            label,
            format!("`{}` is signed with {hash}, which peers refuse", certificate.subject()),
            "have it issued anew with SHA-256",
        );
    }
}

pub(super) fn order(label: &str, chain: &[CertificateDer<'_>], findings: &mut Findings) {
    let facts: Vec<CertificateFacts> =
        chain.iter().filter_map(|der| CertificateFacts::read(der).ok()).collect();
    if let Some([one, next]) = facts.array_windows().find(|[one, next]| one.issuer != next.subject) {
        findings.add(
            "certificate-chain-order",
            label,
            format!("in its file `{}`, issued by `{}`, is followed by `{}`; some peers read the chain in order only", one.subject, one.issuer, next.subject),
            "put the leaf first, then the certificate of its issuer, and so on",
        );
    }
}

fn names(facts: &CertificateFacts) -> String {
    let names: Vec<&str> = facts.all_names().take(5).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
