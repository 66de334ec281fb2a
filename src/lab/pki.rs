//! The lab's certificate authority and the certificates it signs, made anew for each lab.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// A CA of the lab's own (ECDSA P-256), which also signs for its servers.
pub struct LabCa(CertifiedIssuer<'static, KeyPair>);

impl LabCa {
    /// Makes the CA and writes its certificate to `dir/ca.pem`.
    pub fn create(dir: &Path) -> Result<Self, String> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Gatepost Lab CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        valid_for_days(&mut params, 3650);
        let key = KeyPair::generate().map_err(|e| e.to_string())?;
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(|e| e.to_string())?;
        write(&dir.join("ca.pem"), &issuer.pem())?;
        Ok(Self(issuer))
    }

    /// Signs a certificate for `names`, the first of which is its CN, good for both ends of a
    /// session; writes `dir/<file>.pem` (leaf, then CA) and `dir/<file>.key`.
    pub fn issue(&self, dir: &Path, file: &str, names: &[&str]) -> Result<(), String> {
        let list: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(list).map_err(|e| e.to_string())?;
        params.distinguished_name.push(DnType::CommonName, names.first().copied().unwrap_or_default());
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        valid_for_days(&mut params, 397);
        let key = KeyPair::generate().map_err(|e| e.to_string())?;
        let certificate = params.signed_by(&key, &self.0).map_err(|e| e.to_string())?;
        write(&dir.join(format!("{file}.pem")), &(certificate.pem() + &self.0.pem()))?;
        write(&dir.join(format!("{file}.key")), &key.serialize_pem())
    }
}

/// Valid from yesterday, so that a clock that is a little off does no harm.
fn valid_for_days(params: &mut CertificateParams, days: i64) {
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let at = |offset: i64| {
        let date = today.saturating_add(jiff::Span::new().days(offset));
        rcgen::date_time_ymd(i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    params.not_before = at(-1);
    params.not_after = at(days);
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let failed = |e: std::io::Error| format!("{}: {e}", path.display());
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(failed)
}
