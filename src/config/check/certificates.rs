//! Certificates, keys and roots: the files are there, readable, belong together, and every
//! reference leads to one of them.

use std::path::Path;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate};

use crate::config::model::{Certificate, TrustedRoots};
use crate::config::read::{Draft, Entry};
use crate::config::report::Report;
use crate::config::table::{Table, reason};
use crate::config::value::quoted;

/// The names a certificate answers to, lower-case.
struct Names(Vec<String>);

pub(super) fn check(report: &Report, draft: &Draft<'_>) {
    // None where a certificate could not be read: then no reference can be called wrong.
    let known: Option<Vec<Names>> = draft
        .certificates
        .iter()
        .map(|entry| names_of(report, entry))
        .collect::<Vec<_>>()
        .into_iter()
        .collect();
    let receive = draft.receive_connectors.iter().map(|c| (&c.table, &c.value.tls_certificate_name));
    let send = draft.send_connectors.iter().map(|c| (&c.table, &c.value.tls_certificate_name));
    for (table, reference) in receive.chain(send) {
        if let (Some(reference), Some(known)) = (reference, &known) {
            reference_leads_somewhere(report, table, reference, known);
        }
    }
    roots_can_be_read(draft);
}

fn reference_leads_somewhere(report: &Report, table: &Table<'_>, reference: &str, known: &[Names]) {
    let wanted = normalized(reference);
    if known.iter().any(|names| names.0.contains(&wanted)) {
        return;
    }
    let what = if known.is_empty() { "; there are no [[certificates]]" } else { "" };
    report.error(
        table.at("tls_certificate_name"),
        format!("`tls_certificate_name`: no certificate has the name, subject or subject alternative name {}{what}", quoted(reference)),
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
fn names_in(name: &str, certificate: &X509Certificate<'_>) -> Names {
    let (subject, issuer) = (certificate.subject(), certificate.issuer());
    let mut names = vec![name.to_lowercase()];
    // Windows prints the parts of a name from the last to the first, other tools from the first.
    let both = |dn: &x509_parser::x509::X509Name<'_>| {
        let parts: Vec<String> = dn
            .iter_rdn()
            .map(|rdn| x509_parser::x509::X509Name::new(vec![rdn.clone()], &[]).to_string())
            .collect();
        let reversed: Vec<String> = parts.iter().rev().cloned().collect();
        [normalized(&parts.join(", ")), normalized(&reversed.join(", "))]
    };
    let (subjects, issuers) = (both(subject), both(issuer));
    for (subject, issuer) in subjects.iter().zip(&issuers) {
        names.push(format!("<i>{issuer}<s>{subject}"));
        names.push(subject.clone());
    }
    names.extend(subject.iter_common_name().filter_map(|cn| cn.as_str().ok()).map(str::to_lowercase));
    for extension in certificate.extensions() {
        if let ParsedExtension::SubjectAlternativeName(alternatives) = extension.parsed_extension() {
            names.extend(alternatives.general_names.iter().filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(name.to_lowercase()),
                _ => None,
            }));
        }
    }
    Names(names)
}

/// Lower-case, and with the blanks around `,` and `=` that tools differ in taken out.
fn normalized(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for part in text.to_lowercase().split(',') {
        if !out.is_empty() {
            out.push(',');
        }
        let fields: Vec<&str> = part.split('=').map(str::trim).collect();
        out.push_str(&fields.join("="));
    }
    out
}
