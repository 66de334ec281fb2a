use std::fs;

use super::super::test_pki::{Leaf, Pki};
use super::*;

fn load(chain: &str, key: &str) -> Result<Identity, String> {
    let directory = tempfile::tempdir().unwrap();
    let (chain_file, key_file) = (directory.path().join("chain.pem"), directory.path().join("key.pem"));
    fs::write(&chain_file, chain).unwrap();
    fs::write(&key_file, key).unwrap();
    let place = format!("{}/", directory.path().display());
    Identity::load("edge", &chain_file, &key_file).map_err(|error| error.to_string().replace(&place, ""))
}

#[test]
fn chain_and_key_are_loaded() {
    let (chain, key) = Pki::new().pem(&Leaf::default());
    let identity = load(&chain, &key).unwrap();
    assert_eq!(identity.name(), Some("edge"));
    assert_eq!(identity.chain().len(), 2);
    assert_eq!(identity.facts.subject, "CN=edge01.lab.test");
    assert!(!format!("{identity:?}").contains("key"));
    assert!(load(&format!("{chain}{key}"), &format!("{chain}{key}")).is_ok(), "both in one file");
}

#[test]
fn a_foreign_key_is_an_error_that_names_the_files() {
    let pki = Pki::new();
    let (chain, _) = pki.pem(&Leaf::default());
    let (_, key) = pki.pem(&Leaf::default());
    assert_eq!(
        load(&chain, &key).unwrap_err(),
        "the key in key.pem does not belong to the first certificate in chain.pem"
    );
}

#[test]
fn a_chain_in_the_wrong_order_is_explained() {
    let (chain, key) = Pki::new().pem(&Leaf::default());
    let cut = chain.find("-----END CERTIFICATE-----").unwrap() + "-----END CERTIFICATE-----\n".len();
    let turned = format!("{}\n{}", &chain[cut..], &chain[..cut]);
    assert!(load(&turned, &key).unwrap_err().ends_with("the leaf must come first"));
}

#[test]
fn files_without_what_they_should_hold_are_named() {
    let (chain, key) = Pki::new().pem(&Leaf::default());
    assert_eq!(load(&key, &key).unwrap_err(), "chain.pem holds no certificate in PEM form");
    assert!(load(&chain, &chain).unwrap_err().starts_with("key.pem holds no private key in PEM form"));
    let rubbish = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(load(rubbish, &key).unwrap_err().starts_with("chain.pem: not a readable X.509 certificate"));
    let rubbish = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert!(load(&chain, rubbish).unwrap_err().starts_with("key.pem: "));
    let absent = Identity::load("edge", Path::new("/nonexistent/a"), Path::new("/nonexistent/b"));
    assert!(absent.unwrap_err().to_string().starts_with("cannot read /nonexistent/a: "));
}
