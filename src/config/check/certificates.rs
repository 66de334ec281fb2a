//! Certificates, keys and roots: the files are there, readable, belong together, and every
//! reference leads to one of them.

use std::path::Path;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate, X509Name};

use crate::config::model::{Certificate, TrustedRoots};
use crate::config::read::{Draft, Entry};
use crate::config::report::Report;
use crate::config::table::{Table, reason};
use crate::config::value::quoted;

/// What a reference may say to mean a certificate.
struct Names {
    /// The `[[certificates]]` name.
    entry: String,
    /// Host names in it, lower-case, wildcards among them.
    hosts: Vec<String>,
    /// Subject, and issuer with subject, normalized.
    subjects: Vec<String>,
}

impl Names {
    fn carries(&self, reference: &str) -> bool {
        let host = reference.to_lowercase();
        self.hosts.iter().any(|name| *name == host || covers(name, &host))
            || self.subjects.contains(&normalized(reference))
    }
}

/// A wildcard in a certificate stands for one label (RFC 9525 section 6.3).
fn covers(name: &str, host: &str) -> bool {
    name.strip_prefix("*.").is_some_and(|rest| host.split_once('.').is_some_and(|(_, domain)| domain == rest))
}

pub(super) fn check(report: &Report, draft: &mut Draft<'_>) {
    let known: Vec<Option<Names>> = draft.certificates.iter().map(|entry| names_of(report, entry)).collect();
    roots_can_be_read(draft);
    // Where a certificate could not be read, no reference can be called wrong.
    let Some(known) = known.into_iter().collect::<Option<Vec<Names>>>() else { return };
    let receive = draft.receive_connectors.iter_mut().map(|c| (&c.table, &mut c.value.tls_certificate_name));
    let send = draft.send_connectors.iter_mut().map(|c| (&c.table, &mut c.value.tls_certificate_name));
    for (table, reference) in receive.chain(send) {
        let Some(wanted) = reference.as_deref() else { continue };
        match resolved(wanted, &known) {
            Some(name) => *reference = Some(name),
            None => reference_leads_nowhere(report, table, wanted, known.is_empty()),
        }
    }
}

/// The reference as the name of a `[[certificates]]` entry, so that the ways of writing a subject
/// are dealt with once. One that several certificates carry is left as it is: which of them is
/// best is for whoever presents it to say.
fn resolved(reference: &str, known: &[Names]) -> Option<String> {
    if let Some(names) = known.iter().find(|names| names.entry.to_lowercase() == reference.to_lowercase()) {
        return Some(names.entry.clone());
    }
    let mut carrying = known.iter().filter(|names| names.carries(reference));
    let first = carrying.next()?;
    Some(if carrying.next().is_none() { first.entry.clone() } else { reference.to_owned() })
}

fn reference_leads_nowhere(report: &Report, table: &Table<'_>, reference: &str, none: bool) {
    let none = if none { "; there are no [[certificates]]" } else { "" };
    report.error(
        table.at("tls_certificate_name"),
        format!(
            "`tls_certificate_name`: no certificate has the name, subject or subject alternative name {}{none}",
            quoted(reference)
        ),
    );
}

/// Reads chain and key, notes what is wrong with them, and returns the names.
fn names_of(report: &Report, entry: &Entry<'_, Certificate>) -> Option<Names> {
    let t = &entry.table;
    let chain =
        (t.is_set("chain") && !t.is_broken("chain")).then(|| read_chain(t, &entry.value.chain)).flatten();
    let key = (t.is_set("key") && !t.is_broken("key")).then(|| read_key(t, &entry.value.key)).flatten();
    let leaf = chain.as_ref()?.first()?.clone();
    let Ok((_, certificate)) = X509Certificate::from_der(&leaf) else {
        let path = entry.value.chain.display();
        report.error(t.at("chain"), format!("`chain`: the first certificate in {path} is damaged"));
        return None;
    };
    let names = names_in(&entry.value.name, &certificate);
    if let (Some(chain), Some(key)) = (chain, key) {
        match rustls::crypto::aws_lc_rs::sign::any_supported_type(&key) {
            Err(_) => t.refuse(
                "key",
                t.at("key"),
                format!(
                    "`key`: {} holds a key of no supported kind (RSA, ECDSA, Ed25519)",
                    entry.value.key.display()
                ),
            ),
            Ok(key) => {
                let mismatch = rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch);
                if CertifiedKey::new(chain, key).keys_match() == Err(mismatch) {
                    t.refuse(
                        "key",
                        t.at("key"),
                        format!(
                            "`key`: {} does not belong to the first certificate in {}",
                            entry.value.key.display(),
                            entry.value.chain.display()
                        ),
                    );
                }
            }
        }
    }
    Some(names)
}

fn read_chain(t: &Table<'_>, path: &Path) -> Option<Vec<CertificateDer<'static>>> {
    match read_certificates(path) {
        Ok(chain) if chain.is_empty() => {
            t.refuse("chain", t.at("chain"), format!("`chain`: {} holds no PEM certificate", path.display()));
            None
        }
        Ok(chain) => Some(chain),
        Err(problem) => {
            t.refuse("chain", t.at("chain"), format!("`chain`: {problem}"));
            None
        }
    }
}

fn read_key(t: &Table<'_>, path: &Path) -> Option<PrivateKeyDer<'static>> {
    let problem = match PrivateKeyDer::from_pem_file(path) {
        Ok(key) => return Some(key),
        Err(pem::Error::NoItemsFound) if holds_encrypted_key(path) => {
            format!(
                "{} is encrypted with a password; store the key without one and guard the file",
                path.display()
            )
        }
        Err(pem::Error::NoItemsFound) => format!("{} holds no PEM private key", path.display()),
        Err(e) => pem_problem(path, &e),
    };
    t.refuse("key", t.at("key"), format!("`key`: {problem}"));
    None
}

fn holds_encrypted_key(path: &Path) -> bool {
    std::fs::read(path)
        .is_ok_and(|text| memchr::memmem::find(&text, b"-----BEGIN ENCRYPTED PRIVATE KEY").is_some())
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|e| pem_problem(path, &e))
}

fn pem_problem(path: &Path, error: &pem::Error) -> String {
    match error {
        pem::Error::Io(e) => format!("{}: {}", path.display(), reason(e)),
        _ => format!("{} is damaged PEM", path.display()),
    }
}

fn roots_can_be_read(draft: &Draft<'_>) {
    let t = &draft.tls.table;
    if t.is_broken("trusted_roots") {
        return;
    }
    for (i, root) in draft.tls.value.trusted_roots.iter().enumerate() {
        let TrustedRoots::File(path) = root else { continue };
        let problem = match read_certificates(path) {
            Ok(roots) if roots.is_empty() => format!("{} holds no PEM certificate", path.display()),
            Ok(_) => continue,
            Err(problem) => problem,
        };
        t.refuse("trusted_roots", t.at_element("trusted_roots", i), format!("`trusted_roots`: {problem}"));
    }
}

/// Everything `tls_certificate_name` may say: the entry's name, subject, common name, alternative
/// names, and Exchange's `<I>issuer<S>subject`.
fn names_in(entry: &str, certificate: &X509Certificate<'_>) -> Names {
    let (subject, issuer) = (certificate.subject(), certificate.issuer());
    let mut subjects = Vec::new();
    for (subject, issuer) in both_ways(subject).into_iter().zip(both_ways(issuer)) {
        subjects.push(format!("<i>{issuer}<s>{subject}"));
        subjects.push(subject);
    }
    let mut hosts: Vec<String> =
        subject.iter_common_name().filter_map(|cn| cn.as_str().ok()).map(str::to_lowercase).collect();
    for extension in certificate.extensions() {
        if let ParsedExtension::SubjectAlternativeName(alternatives) = extension.parsed_extension() {
            hosts.extend(alternatives.general_names.iter().filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(name.to_lowercase()),
                _ => None,
            }));
        }
    }
    Names { entry: entry.to_owned(), hosts, subjects }
}

/// Windows prints the parts of a name from the last to the first, other tools from the first.
fn both_ways(name: &X509Name<'_>) -> [String; 2] {
    let mut parts: Vec<String> =
        name.iter_rdn().map(|rdn| X509Name::new(vec![rdn.clone()], &[]).to_string()).collect();
    let forward = normalized(&parts.join(","));
    parts.reverse();
    [forward, normalized(&parts.join(","))]
}

/// Lower-case, and without what tools differ in: quotes, escapes, blanks around `,` and `=`, and
/// Windows' own abbreviations. `<I>issuer<S>subject` is taken apart for that.
fn normalized(text: &str) -> String {
    let plain = text.to_lowercase().replace(['"', '\\'], "");
    match plain.strip_prefix("<i>").and_then(|rest| rest.split_once("<s>")) {
        Some((issuer, subject)) => format!("<i>{}<s>{}", normalized_name(issuer), normalized_name(subject)),
        None => normalized_name(&plain),
    }
}

fn normalized_name(name: &str) -> String {
    let part = |part: &str| match part.split_once('=') {
        Some((key, value)) => {
            let key = match key.trim() {
                "s" => "st",
                "e" => "emailaddress",
                key => key,
            };
            format!("{key}={}", value.trim())
        }
        None => part.trim().to_owned(),
    };
    name.split(',').map(part).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_compared_whoever_printed_them() {
        let windows = "<I>CN=Lab CA, O=\"Contoso, Inc\", S=Bavaria, C=DE<S>CN=edge.contoso.com, C=DE";
        let rest = "<i>cn = lab ca,o=contoso\\, inc, st=bavaria, c=de<s>cn=edge.contoso.com,c=de";
        assert_eq!(normalized(windows), normalized(rest));
        assert_ne!(normalized("CN=a, O=b"), normalized("CN=b, O=a"));
    }

    #[test]
    fn a_reference_becomes_the_name_of_its_entry() {
        let names = |entry: &str, hosts: &[&str]| Names {
            entry: entry.into(),
            hosts: hosts.iter().map(|h| (*h).to_owned()).collect(),
            subjects: vec![format!("cn={entry}")],
        };
        let known =
            [names("edge", &["edge.contoso.com"]), names("old", &["edge.contoso.com", "*.fabrikam.com"])];
        let of = |reference| resolved(reference, &known);
        assert_eq!(of("EDGE").as_deref(), Some("edge"));
        assert_eq!(of("CN = old").as_deref(), Some("old"));
        assert_eq!(of("mail.fabrikam.com").as_deref(), Some("old"));
        assert_eq!(of("edge.contoso.com").as_deref(), Some("edge.contoso.com"));
        assert_eq!(of("a.b.fabrikam.com"), None);
    }
}
