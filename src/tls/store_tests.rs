use super::super::test_pki::{Leaf, Pki, self_signed};
use super::*;

fn chosen(store: &CertificateStore, name: Option<&str>, fqdn: &str) -> Option<String> {
    store.choose(name, fqdn).map(|identity| identity.name().unwrap_or("self-made").to_owned())
}

fn leaf<'a>(name: &'a str, names: &'a [&'a str], valid: (i32, i32)) -> Leaf<'a> {
    Leaf { names, valid, name, ..Leaf::default() }
}

#[test]
fn by_any_of_its_names() {
    let pki = Pki::new();
    let store = CertificateStore::new(
        [
            pki.identity(&leaf("one", &["one.test", "*.one.test"], (1, 30))),
            pki.identity(&leaf("two", &["two.test"], (1, 30))),
        ],
        SystemTime::now(),
    );
    let issued = "<I>CN=Lab Intermediate<S>CN=two.test";
    for name in ["two", "CN=two.test", "cn=TWO.test", "two.test", issued] {
        assert_eq!(chosen(&store, Some(name), "one.test").as_deref(), Some("two"), "{name}");
    }
    assert_eq!(chosen(&store, Some("*.one.test"), "x").as_deref(), Some("one"));
    assert_eq!(chosen(&store, Some("mx.one.test"), "x").as_deref(), Some("one"));
    assert_eq!(chosen(&store, Some("three"), "one.test"), None, "a name that is gone is not replaced");
}

#[test]
fn by_host_name() {
    let pki = Pki::new();
    let store = CertificateStore::new(
        [
            pki.identity(&leaf("exact", &["edge.contoso.com"], (1, 30))),
            pki.identity(&leaf("wild", &["*.fabrikam.com"], (1, 30))),
        ],
        SystemTime::now(),
    );
    assert_eq!(chosen(&store, None, "EDGE.contoso.com").as_deref(), Some("exact"));
    assert_eq!(chosen(&store, None, "mx.fabrikam.com").as_deref(), Some("wild"));
    assert_eq!(chosen(&store, None, "a.mx.fabrikam.com"), None);
    assert_eq!(chosen(&store, None, "other.test"), None);
}

#[test]
fn issued_before_self_signed_newest_first_and_expired_last() {
    let pki = Pki::new();
    let names: &[&str] = &["edge.test"];
    let mut identities = vec![
        pki.identity(&leaf("expired", names, (10, -1))),
        self_signed(&leaf("own", names, (1, 30)), false),
        pki.identity(&leaf("older", names, (20, 30))),
        pki.identity(&leaf("newer", names, (2, 30))),
    ];
    for expected in ["newer", "older", "own", "expired"] {
        let rest = identities.split_off(0);
        let store = CertificateStore::new(rest, SystemTime::now());
        assert_eq!(chosen(&store, None, "edge.test").as_deref(), Some(expected));
        identities = store
            .identities
            .into_iter()
            .map(|identity| Arc::into_inner(identity).unwrap())
            .filter(|identity| identity.name() != Some(expected))
            .collect();
    }
}
