//! Both ends over memory: what is negotiated, recorded, refused and resumed.

use std::time::Duration;

use rcgen::ExtendedKeyUsagePurpose;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::test_pki::{Leaf, Pki, self_signed};
use super::*;
use crate::config::{DomainPattern, MinTlsVersion};

const LIMIT: Duration = Duration::from_secs(10);
const NAME: &str = "edge01.lab.test";

fn server(pki: &Pki, client_cert: bool, tickets: bool) -> ServerTls {
    ServerTls::new(&pki.identity(&Leaf::default()), MinTlsVersion::Tls12, client_cert, tickets).unwrap()
}

type Outcome = (Result<TlsFacts, HandshakeFailure>, Result<TlsFacts, HandshakeFailure>);

/// Shakes hands and says a word each way, which is when TLS 1.3 tickets travel.
async fn shake(server: &ServerTls, client: &ClientTls, name: &str) -> Outcome {
    let (near, far) = duplex(1 << 16);
    let serve = async {
        let (mut stream, facts) = server.accept(far, LIMIT).await?;
        stream.write_all(b"220 hello\r\n").await.unwrap();
        stream.flush().await.unwrap();
        let mut word = [0; 6];
        let _ = stream.read_exact(&mut word).await;
        Ok(facts)
    };
    let connect = async {
        let (mut stream, facts) = client.connect(near, name, LIMIT).await?;
        let mut word = [0; 11];
        let _ = stream.read_exact(&mut word).await;
        let _ = stream.write_all(b"QUIT\r\n").await;
        let _ = stream.shutdown().await;
        Ok(facts)
    };
    tokio::join!(serve, connect)
}

#[tokio::test]
async fn both_sides_know_what_was_negotiated() {
    let pki = Pki::new();
    let client = ClientTls::new(None, MinTlsVersion::Tls12).unwrap();
    let (served, connected) = shake(&server(&pki, false, true), &client, NAME).await;
    let (served, connected) = (served.unwrap(), connected.unwrap());
    for facts in [&served, &connected] {
        assert_eq!(facts.version.to_string(), "TLS1_3");
        assert_eq!(facts.cipher, "TLS_AES_256_GCM_SHA384");
        assert_eq!(facts.group, Some("x25519"));
        assert_eq!(facts.server_name.as_deref(), Some(NAME));
        assert!(!facts.resumed);
    }
    assert!(served.peer_chain.is_empty());
    assert_eq!(connected.peer_chain.len(), 2, "the intermediate is sent along");
    assert_eq!(connected.peer_certificate().unwrap().subject, "CN=edge01.lab.test");
    let name = DomainPattern::parse(NAME).unwrap();
    let verified = judge_server(&connected, &pki.roots(), Some(&name), std::time::SystemTime::now());
    assert_eq!(verified.unwrap().as_deref(), Some(NAME));
}

#[tokio::test]
async fn tickets_resume_and_are_judged_again() {
    let pki = Pki::new();
    let server = server(&pki, false, true);
    let client = ClientTls::new(None, MinTlsVersion::Tls13).unwrap();
    let (_, first) = shake(&server, &client, NAME).await;
    assert!(!first.unwrap().resumed);
    let (served, connected) = shake(&server, &client, NAME).await;
    let connected = connected.unwrap();
    assert!(served.unwrap().resumed && connected.resumed);
    assert_eq!(connected.peer_chain.len(), 2);
    let wrong = DomainPattern::parse("other.test").unwrap();
    let problem =
        judge_server(&connected, &pki.roots(), Some(&wrong), std::time::SystemTime::now()).unwrap_err();
    assert_eq!(problem.word, "SubjectMismatch");
}

#[tokio::test]
async fn a_ticket_is_good_on_another_connector_of_the_same_rule_only() {
    let pki = Pki::new();
    let identity = pki.identity(&Leaf::default());
    let make = |client_cert| ServerTls::new(&identity, MinTlsVersion::Tls12, client_cert, true).unwrap();
    let client = ClientTls::new(None, MinTlsVersion::Tls12).unwrap();
    shake(&make(false), &client, NAME).await.1.unwrap();
    assert!(shake(&make(false), &client, NAME).await.1.unwrap().resumed);
    assert!(!shake(&make(true), &client, NAME).await.1.unwrap().resumed);
}

#[tokio::test]
async fn without_tickets_nothing_resumes() {
    let pki = Pki::new();
    let client = ClientTls::new(None, MinTlsVersion::Tls13).unwrap();
    let server = server(&pki, false, false);
    for _ in 0..2 {
        assert!(!shake(&server, &client, NAME).await.1.unwrap().resumed);
    }
}

#[tokio::test]
async fn asking_for_client_certificates_never_resumes() {
    let pki = Pki::new();
    let server = server(&pki, true, true);
    let identity = pki.identity(&Leaf { names: &["client.test"], ..Leaf::default() });
    for min in [MinTlsVersion::Tls12, MinTlsVersion::Tls13] {
        let client = ClientTls::new(Some(&identity), min).unwrap();
        for _ in 0..2 {
            let served = shake(&server, &client, NAME).await.0.unwrap();
            assert!(!served.resumed);
            assert_eq!(served.peer_chain.len(), 2);
        }
    }
}

#[tokio::test]
async fn a_client_certificate_is_wished_for_and_judged_afterwards() {
    let pki = Pki::new();
    let server = server(&pki, true, false);
    let domains = [DomainPattern::parse("*.contoso.com").unwrap()];
    let judged = async |identity: Option<Identity>| {
        let client = ClientTls::new(identity.as_ref(), MinTlsVersion::Tls12).unwrap();
        let facts = shake(&server, &client, NAME).await.0.unwrap();
        judge_client(&facts, &pki.roots(), &domains).map_err(|problem| problem.word)
    };
    assert_eq!(judged(None).await, Err("EmptyCertificate"));
    let good = pki.identity(&Leaf { names: &["mail.contoso.com"], ..Leaf::default() });
    assert_eq!(judged(Some(good)).await, Ok(Some("mail.contoso.com".into())));
    let other = pki.identity(&Leaf { names: &["mail.fabrikam.com"], ..Leaf::default() });
    assert_eq!(judged(Some(other)).await, Err("SubjectMismatch"));
    let own = self_signed(&Leaf { names: &["mail.contoso.com"], ..Leaf::default() }, false);
    assert_eq!(judged(Some(own)).await, Err("UntrustedRoot"));
    let server_only = pki.identity(&Leaf {
        names: &["mail.contoso.com"],
        usages: &[ExtendedKeyUsagePurpose::ServerAuth],
        ..Leaf::default()
    });
    assert_eq!(judged(Some(server_only)).await, Err("WrongUsage"));
}

#[tokio::test]
async fn a_client_of_tls_12_only_is_named_to_a_server_of_13() {
    let pki = Pki::new();
    let identity = pki.identity(&Leaf::default());
    let server = ServerTls::new(&identity, MinTlsVersion::Tls13, false, false).unwrap();
    let (near, far) = duplex(1 << 16);
    let client = tokio_rustls::TlsConnector::from(Arc::new(tls12_client()));
    let connect = client.connect(NAME.try_into().unwrap(), near);
    let (served, connected) = tokio::join!(server.accept(far, LIMIT), connect);
    let failure = served.map(|_| ()).unwrap_err();
    assert!(connected.is_err());
    assert_eq!(failure.word, "SocketError");
    let line = failure.to_string();
    assert!(line.starts_with("TLS negotiation failed with error SocketError (the peer offered "), "{line}");
    assert!(line.contains("TLS 1.2"), "{line}");
    assert_eq!(failure.offered.unwrap().server_name.as_deref(), Some(NAME));
}

#[tokio::test]
async fn tls_12_works_and_is_named() {
    let pki = Pki::new();
    let server = server(&pki, false, false);
    let client = tokio_rustls::TlsConnector::from(Arc::new(tls12_client()));
    for resumed in [false, true] {
        let (near, far) = duplex(1 << 16);
        let connect = client.connect(NAME.try_into().unwrap(), near);
        let (served, connected) = tokio::join!(server.accept(far, LIMIT), connect);
        assert!(connected.is_ok());
        let facts = served.unwrap().1;
        assert_eq!(facts.version, TlsVersion::Tls12);
        assert_eq!(facts.cipher, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384");
        assert_eq!(facts.resumed, resumed);
        assert_eq!(facts.group, (!resumed).then_some("x25519"));
        assert!(facts.exchange_line(Side::Server).contains("SP_PROT_TLS1_2_SERVER"));
    }
}

fn tls12_client() -> rustls::ClientConfig {
    rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier::AnyChain::new()))
        .with_no_client_auth()
}

#[tokio::test]
async fn a_server_of_tls_12_only_is_named_to_a_client_of_13() {
    let pki = Pki::new();
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(pki.identity(&Leaf::default()).resolver());
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let client = ClientTls::new(None, MinTlsVersion::Tls13).unwrap();
    let (near, far) = duplex(1 << 16);
    let (_, connected) = tokio::join!(acceptor.accept(far), client.connect(near, NAME, LIMIT));
    assert_eq!(
        connected.map(|_| ()).unwrap_err().to_string(),
        "TLS negotiation failed with error SocketError (the peer sent the alert protocol_version, as it \
         takes none of our TLS versions)"
    );
}

/// Feeds bytes to a server and returns its log line.
async fn refused(bytes: &[u8]) -> String {
    let pki = Pki::new();
    let server = server(&pki, false, false);
    let (mut near, far) = duplex(1 << 16);
    near.write_all(bytes).await.unwrap();
    near.shutdown().await.unwrap();
    let failure = server.accept(far, LIMIT).await.map(|_| ()).unwrap_err();
    failure.to_string()
}

#[tokio::test]
async fn peers_that_speak_something_else_are_named() {
    let prefix = "TLS negotiation failed with error SocketError (the peer ";
    assert_eq!(refused(b"EHLO mta.example.net\r\n").await, format!("{prefix}sent no TLS)"));
    assert_eq!(refused(&hello_bytes(0x0302, &[])).await, format!("{prefix}offered at most TLS 1.1)"));
    assert_eq!(refused(&hello_bytes(0x0301, &[])).await, format!("{prefix}offered TLS 1.0)"));
    assert_eq!(
        refused(&hello_bytes(0x0303, &[0x0302, 0x0301])).await,
        format!("{prefix}offered TLS 1.0 and TLS 1.1)")
    );
    assert!(refused(b"").await.contains("SocketError (the peer sent nothing: the peer closed"));
}

/// A client hello as openssl sends it: client version, and supported versions unless empty.
pub(super) fn hello_bytes(version: u16, supported: &[u16]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    body.extend([7; 32]);
    body.push(0);
    body.extend([0, 6, 0x0A, 0x0A, 0xC0, 0x0A, 0x00, 0x35]);
    body.extend([1, 0]);
    let mut extensions = vec![0, 0, 0, 13, 0, 11, 0, 0, 8];
    extensions.extend(b"mx.a.com");
    if !supported.is_empty() {
        let list: Vec<u8> = supported.iter().flat_map(|version| version.to_be_bytes()).collect();
        extensions.extend([0, 43, 0, list.len() as u8 + 1, list.len() as u8]);
        extensions.extend(list);
    }
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let mut record = vec![0x16, 3, 1];
    record.extend((body.len() as u16 + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_given_up() {
    let pki = Pki::new();
    let (_near, far) = duplex(1 << 16);
    let begun = tokio::time::Instant::now();
    let failure = server(&pki, false, false).accept(far, LIMIT).await.map(|_| ()).unwrap_err();
    assert_eq!(begun.elapsed(), LIMIT);
    assert_eq!(failure.word, "TimedOut");
    assert!(failure.to_string().contains("TimedOut (the peer sent nothing: "));
    let (_far, near) = duplex(1 << 16);
    let client = ClientTls::new(None, MinTlsVersion::Tls12).unwrap();
    let failure = client.connect(near, NAME, LIMIT).await.map(|_| ()).unwrap_err();
    assert_eq!(
        failure.to_string(),
        "TLS negotiation failed with error TimedOut (the handshake took too long)"
    );
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_dribbles_is_given_up_at_the_same_deadline() {
    let pki = Pki::new();
    let (mut near, far) = duplex(1 << 16);
    let begun = tokio::time::Instant::now();
    let dribble = async {
        for byte in hello_bytes(0x0303, &[0x0303]) {
            let _ = near.write_all(&[byte]).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let server = server(&pki, false, false);
    let (failure, ()) = tokio::join!(
        async {
            let failure = server.accept(far, LIMIT).await.map(|_| ()).unwrap_err();
            assert_eq!(begun.elapsed(), LIMIT);
            failure
        },
        async {
            let _ = tokio::time::timeout(LIMIT, dribble).await;
        }
    );
    assert_eq!(failure.word, "TimedOut");
}

#[tokio::test]
async fn an_old_server_is_named_to_our_client() {
    let client = ClientTls::new(None, MinTlsVersion::Tls12).unwrap();
    let answer = async |bytes: &[u8]| {
        let (near, mut far) = duplex(1 << 16);
        far.write_all(bytes).await.unwrap();
        let failure = client.connect(near, "[192.0.2.1]", LIMIT).await.map(|_| ()).unwrap_err();
        failure.to_string()
    };
    let prefix = "TLS negotiation failed with error SocketError (the peer ";
    let mut hello = vec![0x16, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0x00, 0x35, 0]);
    assert_eq!(answer(&hello).await, format!("{prefix}chose TLS 1.1)"));
    assert_eq!(answer(b"454 4.7.0 no\r\n").await, format!("{prefix}sent no TLS)"));
    assert!(answer(&[0x15, 3, 1, 0, 2, 2, 70]).await.contains("protocol_version"));
    assert!(
        answer(&[0x15, 3, 3, 0, 2, 2, 40])
            .await
            .starts_with("TLS negotiation failed with error AlgorithmMismatch")
    );
}

#[tokio::test]
async fn a_stolen_certificate_is_no_proof() {
    // A chain whose key the client does not have.
    let pki = Pki::new();
    let victim = pki.identity(&Leaf { names: &["mail.contoso.com"], ..Leaf::default() });
    let thief = pki.identity(&Leaf { names: &["thief.test"], ..Leaf::default() });
    let mixed = rustls::sign::CertifiedKey::new(victim.chain().to_vec(), thief.resolver_key());
    let config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions(MinTlsVersion::Tls12))
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier::AnyChain::new()))
        .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(mixed)));
    let (near, far) = duplex(1 << 16);
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let server = server(&pki, true, false);
    let (served, _) =
        tokio::join!(server.accept(far, LIMIT), connector.connect(NAME.try_into().unwrap(), near));
    assert_eq!(served.map(|_| ()).unwrap_err().word, "MessageAltered");
}

#[tokio::test]
async fn names_that_cannot_be_asked_for_fail_without_a_handshake() {
    let client = ClientTls::new(None, MinTlsVersion::Tls12).unwrap();
    for bad in ["", "a b", "*.x"] {
        let (near, _far) = duplex(64);
        assert!(client.connect(near, bad, LIMIT).await.is_err(), "{bad}");
    }
}
