use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::super::test_pki::{Leaf, Pki};
use super::super::{CertificateStore, Identity};
use super::*;
use crate::config::{Certificate, Config, Dns, Logging, MinTlsVersion, Server, Tls, Transport};

/// As little of a configuration as TLS needs.
fn config(spool: PathBuf, trusted_roots: Vec<TrustedRoots>, certificates: Vec<Certificate>) -> Config {
    Config {
        path: PathBuf::new(),
        server: Server {
            hostname: "edge.contoso.com".into(),
            log_dir: spool.clone(),
            spool,
            user: None,
            shutdown_grace: Duration::ZERO,
        },
        admin: None,
        certificates,
        tls: Tls { trusted_roots, min_version: MinTlsVersion::Tls12 },
        accepted_domains: Vec::new(),
        receive_connectors: Vec::new(),
        send_connectors: Vec::new(),
        transport: Transport {
            queue_glitch_retry_count: 4,
            queue_glitch_retry_interval: Duration::ZERO,
            transient_failure_retry_count: 6,
            transient_failure_retry_interval: Duration::ZERO,
            outbound_connection_failure_retry_interval: Duration::ZERO,
            message_expiration_timeout: Duration::ZERO,
            delay_notification_timeout: Duration::ZERO,
            message_retry_interval: Duration::ZERO,
            max_outbound_connections: 1,
            max_message_size: 0,
            poison_threshold: 2,
        },
        logging: Logging {
            max_age: Duration::ZERO,
            max_directory_size: 0,
            max_file_size: 0,
            quiet_probes_from: Vec::new(),
        },
        dns: Dns { servers: Vec::new(), timeout: Duration::ZERO },
    }
}

#[test]
fn roots_come_from_files() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("roots.pem");
    let (one, two) = (Pki::new(), Pki::new());
    fs::write(&file, format!("{}{}{}", one.root_pem(), two.root_pem(), one.root_pem())).unwrap();
    let sources = vec![TrustedRoots::File(file.clone()), TrustedRoots::System];
    let roots = Roots::load(&config(directory.path().into(), sources, Vec::new())).unwrap();
    assert!(roots.len() >= 2);
    let sources = vec![TrustedRoots::File(file.clone())];
    let roots = Roots::load(&config(directory.path().into(), sources.clone(), Vec::new())).unwrap();
    assert_eq!(roots.len(), 2, "duplicates count once");
    fs::write(&file, "nothing").unwrap();
    let error = Roots::load(&config(directory.path().into(), sources, Vec::new())).unwrap_err();
    assert_eq!(error.to_string(), format!("{} holds no certificate in PEM form", file.display()));
}

#[test]
fn no_roots_are_fine_while_nobody_asks() {
    let config = config(PathBuf::new(), Vec::new(), Vec::new());
    assert!(Roots::load(&config).unwrap().is_empty());
}

#[test]
fn a_store_without_certificates_makes_its_own_for_every_name() {
    let spool = tempfile::tempdir().unwrap();
    let config = config(spool.path().into(), Vec::new(), Vec::new());
    let looked = CertificateStore::inspect(&config).unwrap();
    assert_eq!(looked.identities().len(), 1);
    assert!(!spool.path().join("self-signed").exists());
    let store = CertificateStore::load(&config).unwrap();
    let chosen: Arc<Identity> = store.choose(None, "other.name.test").unwrap();
    assert_eq!(chosen.facts.subject, "CN=edge.contoso.com");
    assert!(store.choose(Some("edge"), "edge.contoso.com").is_none());
    assert!(spool.path().join("self-signed/cert.pem").exists());
}

#[test]
fn configured_certificates_are_loaded_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let (chain, key) = (directory.path().join("c.pem"), directory.path().join("k.pem"));
    let (chain_pem, key_pem) = Pki::new().pem(&Leaf::default());
    fs::write(&chain, chain_pem).unwrap();
    fs::write(&key, key_pem).unwrap();
    let entry = Certificate { name: "mine".into(), chain, key };
    let config = config(directory.path().into(), Vec::new(), vec![entry]);
    let store = CertificateStore::load(&config).unwrap();
    assert_eq!(store.choose(Some("mine"), "x").unwrap().chain().len(), 2);
    assert!(!directory.path().join("self-signed").exists());
}
