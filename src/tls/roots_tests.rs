use std::fs;

use super::super::CertificateStore;
use super::super::test_pki::{Leaf, Pki};
use super::*;

/// A configuration below `base` with a TLS part; the files it names need not exist.
fn config(base: &Path, rest: &str) -> Config {
    let text = "[server]\nhostname = \"edge.contoso.com\"\nspool = \"spool\"\nlog_dir = \"logs\"\n";
    Config::from_toml(&format!("{text}{rest}"), base).unwrap().config
}

const ASKING: &str = "[[send_connectors]]\nname = \"To EOP\"\naddress_spaces = [\"*\"]\n\
     smart_hosts = [\"x.example\"]\ntls = \"validate_domain\"\n";

#[test]
fn roots_come_from_files() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("roots.pem");
    let (one, two) = (Pki::new(), Pki::new());
    fs::write(&file, format!("{}{}{}", one.root_pem(), two.root_pem(), one.root_pem())).unwrap();
    let both = config(directory.path(), "[tls]\ntrusted_roots = [\"roots.pem\", \"system\"]\n");
    assert!(Roots::load(&both).unwrap().len() >= 2);
    let only = config(directory.path(), &format!("[tls]\ntrusted_roots = \"roots.pem\"\n{ASKING}"));
    assert_eq!(Roots::load(&only).unwrap().len(), 2, "duplicates count once");
    fs::write(&file, "nothing").unwrap();
    let error = Roots::load(&only).unwrap_err();
    assert_eq!(error.to_string(), format!("{} holds no certificate in PEM form", file.display()));
}

#[test]
fn no_roots_are_fine_while_nobody_asks() {
    let mut quiet = config(Path::new("/base"), "");
    quiet.tls.trusted_roots.clear();
    assert!(Roots::load(&quiet).unwrap().is_empty());
    let mut asking = config(Path::new("/base"), ASKING);
    asking.tls.trusted_roots.clear();
    assert_eq!(
        Roots::load(&asking).unwrap_err().to_string(),
        "send connector `To EOP` (tls = \"validate_domain\") asks for certificates to be verified, but \
         `tls.trusted_roots` yields no trusted root certificate"
    );
    asking.send_connectors[0].enabled = false;
    assert!(Roots::load(&asking).is_ok());
}

#[test]
fn a_store_without_certificates_makes_its_own_for_every_name() {
    let base = tempfile::tempdir().unwrap();
    let config = config(base.path(), "");
    let place = base.path().join("spool/self-signed");
    assert_eq!(CertificateStore::inspect(&config).unwrap().identities().len(), 1);
    assert!(!place.exists(), "a look leaves nothing behind");
    let store = CertificateStore::load(&config).unwrap();
    assert_eq!(store.choose(None, "other.name.test").unwrap().facts.subject, "CN=edge.contoso.com");
    assert!(store.choose(Some("edge"), "edge.contoso.com").is_none());
    assert!(place.join("cert.pem").exists());
}

#[test]
fn configured_certificates_are_loaded_by_name() {
    let base = tempfile::tempdir().unwrap();
    let (chain, key) = Pki::new().pem(&Leaf::default());
    fs::write(base.path().join("c.pem"), chain).unwrap();
    fs::write(base.path().join("k.pem"), key).unwrap();
    let entry = "[[certificates]]\nname = \"mine\"\nchain = \"c.pem\"\nkey = \"k.pem\"\n";
    let store = CertificateStore::load(&config(base.path(), entry)).unwrap();
    assert_eq!(store.choose(Some("mine"), "x").unwrap().chain().len(), 2);
    assert!(!base.path().join("spool").exists());
}
