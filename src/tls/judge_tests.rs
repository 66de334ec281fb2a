use std::time::Duration;

use rcgen::ExtendedKeyUsagePurpose;

use super::super::identity::Identity;
use super::super::test_pki::{Leaf, Pki, self_signed};
use super::super::{TlsFacts, TlsVersion};
use super::*;

fn facts(identity: &Identity) -> TlsFacts {
    TlsFacts {
        version: TlsVersion::Tls13,
        cipher: "TLS_AES_256_GCM_SHA384",
        group: Some("x25519"),
        resumed: false,
        server_name: None,
        peer_chain: identity.chain().to_vec(),
    }
}

fn server(identity: &Identity, roots: &Roots, name: &str) -> Result<Option<String>, CertificateProblem> {
    let pattern = DomainPattern::parse(name).unwrap();
    judge_server(&facts(identity), roots, Some(&pattern), SystemTime::now())
}

#[test]
fn chain_and_name() {
    let pki = Pki::new();
    let good =
        pki.identity(&Leaf { names: &["*.mail.outlook.test", "mail.outlook.test"], ..Leaf::default() });
    let roots = pki.roots();
    for name in ["mail.outlook.test", "*.outlook.test", "contoso.mail.outlook.test"] {
        assert!(server(&good, &roots, name).unwrap().is_some(), "{name}");
    }
    let problem = server(&good, &roots, "mail.contoso.test").unwrap_err();
    assert_eq!(problem.to_string(), "454 4.7.5 Certificate validation failure, Reason:SubjectMismatch");
    assert_eq!(
        problem.detail,
        "the certificate does not carry mail.contoso.test; it carries *.mail.outlook.test, mail.outlook.test"
    );
    assert_eq!(judge_server(&facts(&good), &roots, None, SystemTime::now()), Ok(None));
}

#[test]
fn the_common_name_counts_beside_other_names() {
    let pki = Pki::new();
    let leaf = Leaf { names: &["san.test"], common_name: Some("cn.test"), ..Leaf::default() };
    let identity = pki.identity(&leaf);
    for name in ["san.test", "cn.test"] {
        assert_eq!(server(&identity, &pki.roots(), name), Ok(Some(name.into())));
    }
}

#[test]
fn a_missing_intermediate_is_said() {
    let pki = Pki::new();
    let lonely = pki.identity(&Leaf { whole_chain: false, ..Leaf::default() });
    let problem = server(&lonely, &pki.roots(), "edge01.lab.test").unwrap_err();
    assert_eq!(problem.word, "UntrustedRoot");
    assert!(problem.detail.ends_with("the peer sent no intermediate certificates"), "{}", problem.detail);
    let problem = server(&lonely, &Roots::default(), "edge01.lab.test").unwrap_err();
    assert!(problem.detail.ends_with("no trusted roots are configured"), "{}", problem.detail);
    let problem = server(&lonely, &Pki::new().roots(), "edge01.lab.test").unwrap_err();
    assert_eq!(problem.word, "UntrustedRoot");
}

#[test]
fn dates_are_said() {
    let pki = Pki::new();
    let word = |valid| {
        let identity = pki.identity(&Leaf { valid, ..Leaf::default() });
        server(&identity, &pki.roots(), "edge01.lab.test").map_err(|problem| problem.word)
    };
    assert_eq!(word((30, -1)), Err("Expired"));
    assert_eq!(word((-1, 30)), Err("NotYetValid"));
    let identity = pki.identity(&Leaf::default());
    let later = SystemTime::now() + Duration::from_hours(24 * 31);
    assert_eq!(judge_server(&facts(&identity), &pki.roots(), None, later).unwrap_err().word, "Expired");
}

#[test]
fn usage_is_asked_for() {
    let pki = Pki::new();
    let client_only =
        pki.identity(&Leaf { usages: &[ExtendedKeyUsagePurpose::ClientAuth], ..Leaf::default() });
    assert_eq!(server(&client_only, &pki.roots(), "edge01.lab.test").unwrap_err().word, "WrongUsage");
    let any = [DomainPattern::parse("*.lab.test").unwrap()];
    let now = SystemTime::now();
    assert!(judge_client_at(&facts(&client_only), &pki.roots(), &any, now).is_ok());
    let none = pki.identity(&Leaf { usages: &[], ..Leaf::default() });
    assert!(judge_client_at(&facts(&none), &pki.roots(), &any, now).is_ok(), "absent means any use");
    assert_eq!(judge_client_at(&facts(&none), &pki.roots(), &[], now), Ok(None));
}

#[test]
fn no_certificate_and_no_readable_certificate() {
    let pki = Pki::new();
    let mut facts = facts(&pki.identity(&Leaf::default()));
    facts.peer_chain.clear();
    let now = SystemTime::now();
    assert_eq!(judge_server(&facts, &pki.roots(), None, now).unwrap_err().word, "EmptyCertificate");
    facts.peer_chain.push(vec![1, 2, 3].into());
    assert_eq!(judge_server(&facts, &pki.roots(), None, now).unwrap_err().word, "InvalidCertificate");
    assert_eq!(judge_client(&facts, &pki.roots(), &[]).unwrap_err().word, "InvalidCertificate");
}

#[test]
fn a_self_signed_certificate_is_good_when_it_is_trusted_itself() {
    let name = "edge01.lab.test";
    for is_ca in [false, true] {
        let own = self_signed(&Leaf::default(), is_ca);
        let problem = server(&own, &Pki::new().roots(), name).unwrap_err();
        assert_eq!(problem.word, "UntrustedRoot");
        assert!(problem.detail.contains("self-signed"), "{}", problem.detail);
        let pinned = Roots::from_certificates([own.chain()[0].clone()]);
        assert_eq!(server(&own, &pinned, name), Ok(Some(name.into())));
        assert_eq!(server(&own, &pinned, "other.test").unwrap_err().word, "SubjectMismatch");
    }
    let old = self_signed(&Leaf { valid: (30, -1), ..Leaf::default() }, true);
    let pinned = Roots::from_certificates([old.chain()[0].clone()]);
    assert_eq!(server(&old, &pinned, name).unwrap_err().word, "Expired");
}

#[test]
fn an_address_must_be_carried_as_an_address() {
    let pki = Pki::new();
    let identity = pki.identity(&Leaf { names: &["192.0.2.7", "a.test"], ..Leaf::default() });
    let judge = |address: &str| {
        judge_server_address(&facts(&identity), &pki.roots(), address.parse().unwrap(), SystemTime::now())
    };
    assert_eq!(judge("192.0.2.7"), Ok(Some("192.0.2.7".into())));
    assert_eq!(judge("::ffff:192.0.2.7").unwrap().as_deref(), Some("::ffff:192.0.2.7"));
    assert_eq!(judge("192.0.2.8").unwrap_err().word, "SubjectMismatch");
}

#[test]
fn long_lists_are_cut() {
    assert_eq!(list([0; 0].iter()), "none");
    assert_eq!(list(0..3), "0, 1, 2");
    assert_eq!(list(0..12), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more");
}
