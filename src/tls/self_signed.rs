//! The certificate of a relay that has none: made at the first start and kept in the spool, as
//! Exchange's setup does (exchange-edge.md 3.1).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::TlsError;
use super::identity::Identity;

/// Five years, as Exchange's own.
const LIFETIME: Duration = Duration::from_hours(5 * 365 * 24);

/// Loads `<spool>/self-signed/{cert,key}.pem`, making it first when it is missing, is out of
/// date, or was made for another host name.
pub(super) fn load_or_make(spool: &Path, hostname: &str) -> Result<Identity, TlsError> {
    let directory = spool.join("self-signed");
    let (certificate, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    if certificate.exists() && key.exists() {
        match Identity::load("", &certificate, &key) {
            Ok(identity) if usable(&identity, hostname) => {
                return Ok(identity.unnamed());
            }
            Ok(_) => tracing::info!(%hostname, "the self-signed certificate is renewed"),
            // Not readable is for the operator to mend; not usable is for us.
            Err(error @ TlsError::Read { .. }) => return Err(error),
            Err(error) => tracing::warn!(%error, "the self-signed certificate is made anew"),
        }
    }
    let (certificate_pem, key_pem) = make(hostname)?;
    let failed = |error: io::Error| TlsError::Write { file: directory.clone(), reason: error.to_string() };
    DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(failed)?;
    replace(&directory, "key.pem", &key_pem, 0o600).map_err(failed)?;
    replace(&directory, "cert.pem", &certificate_pem, 0o644).map_err(failed)?;
    File::open(&directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
    tracing::info!(
        file = %certificate.display(),
        "no certificate is configured: a self-signed one was made for {hostname}"
    );
    Ok(Identity::load("", &certificate, &key)?.unnamed())
}

/// The same in memory only, for looking without leaving anything behind.
pub(super) fn in_memory(hostname: &str) -> Result<Identity, TlsError> {
    let (key, certificate) = generate(hostname)?;
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Identity::from_parts(None, vec![certificate.der().clone()], private)
}

fn usable(identity: &Identity, hostname: &str) -> bool {
    identity.facts.valid_at(SystemTime::now())
        && identity.facts.names.iter().any(|name| name.eq_ignore_ascii_case(hostname))
}

fn make(hostname: &str) -> Result<(String, String), TlsError> {
    generate(hostname).map(|(key, certificate)| (certificate.pem(), key.serialize_pem()))
}

fn generate(hostname: &str) -> Result<(KeyPair, rcgen::Certificate), TlsError> {
    let failed = |error: rcgen::Error| {
        TlsError::Settings(rustls::Error::General(format!(
            "no self-signed certificate for {hostname}: {error}"
        )))
    };
    let mut params = CertificateParams::new(vec![hostname.to_owned()]).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, hostname);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let now = SystemTime::now();
    // A peer whose clock runs a little late should not find it in the future.
    params.not_before = (now - Duration::from_hours(1)).into();
    params.not_after = (now + LIFETIME).into();
    // rcgen's default is ECDSA P-256: every TLS 1.2 peer takes it, and it is five times as fast
    // as RSA.
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok((key, certificate))
}

/// Writes a file that is either the old or the new one, even after a crash.
fn replace(directory: &Path, name: &str, text: &str, mode: u32) -> io::Result<()> {
    let temporary = directory.join(format!("{name}.tmp"));
    // A leftover of an earlier crash may have any mode.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(temporary, directory.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_is_made_once_and_found_again() {
        let spool = tempfile::tempdir().unwrap();
        let made = load_or_make(spool.path(), "edge.contoso.com").unwrap();
        assert_eq!(made.facts.subject, "CN=edge.contoso.com");
        assert_eq!(made.facts.names, ["edge.contoso.com"]);
        assert!(made.facts.self_signed && made.name().is_none());
        let years = made.facts.not_after.duration_since(SystemTime::now()).unwrap().as_secs() / 86_400 / 364;
        assert_eq!(years, 5);
        let key = spool.path().join("self-signed/key.pem");
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        let found = load_or_make(spool.path(), "edge.contoso.com").unwrap();
        assert_eq!(found.facts, made.facts);
    }

    #[test]
    fn a_new_host_name_or_a_broken_file_asks_for_a_new_one() {
        let spool = tempfile::tempdir().unwrap();
        let made = load_or_make(spool.path(), "a.contoso.com").unwrap();
        let renamed = load_or_make(spool.path(), "b.contoso.com").unwrap();
        assert_eq!(renamed.facts.names, ["b.contoso.com"]);
        assert_ne!(made.facts.thumbprint, renamed.facts.thumbprint);
        fs::write(spool.path().join("self-signed/cert.pem"), "rubbish").unwrap();
        fs::write(spool.path().join("self-signed/key.pem.tmp"), "left behind").unwrap();
        assert!(load_or_make(spool.path(), "b.contoso.com").is_ok());
    }

    #[test]
    fn looking_leaves_nothing_behind() {
        assert_eq!(in_memory("edge.contoso.com").unwrap().facts.names, ["edge.contoso.com"]);
    }
}
