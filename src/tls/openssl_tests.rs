//! Against the openssl program, which speaks what our library does not: old versions, weak keys,
//! odd certificates. Skipped where it is not installed.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::test_pki::{Leaf, Pki};
use super::*;

const LIMIT: Duration = Duration::from_secs(20);

fn installed() -> bool {
    let found = Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("skipped: openssl is not installed");
    }
    found
}

/// Ends with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn client(address: SocketAddr, arguments: &[&str]) -> Program {
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &address.to_string(), "-quiet", "-no_ign_eof"])
        .args(["-servername", "mx.lab.test"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _ = child.stdin.as_mut().unwrap().write_all(b"NOOP\r\n");
    Program(child)
}

async fn accept(arguments: &[&str], client_cert: bool) -> Result<TlsFacts, HandshakeFailure> {
    let pki = Pki::new();
    let tls =
        ServerTls::new(&pki.identity(&Leaf::default()), MinTlsVersion::Tls12, client_cert, false).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _client = client(listener.local_addr().unwrap(), arguments);
    let (socket, _) = tokio::time::timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    let (mut stream, facts) = tls.accept(socket, LIMIT).await?;
    let mut line = [0; 6];
    stream.read_exact(&mut line).await.unwrap();
    assert_eq!(&line, b"NOOP\r\n");
    let _ = stream.shutdown().await;
    Ok(facts)
}

#[tokio::test]
async fn old_clients_are_named() {
    if !installed() {
        return;
    }
    let old = |version| ["-cipher", "ALL:@SECLEVEL=0", version];
    for (version, words, highest) in
        [("-tls1", "offered TLS 1.0)", "TLS1_0"), ("-tls1_1", "offered at most TLS 1.1)", "TLS1_1")]
    {
        let failure = accept(&old(version), false).await.unwrap_err();
        assert_eq!(
            failure.to_string(),
            format!("TLS negotiation failed with error SocketError (the peer {words}")
        );
        let offered = failure.offered.unwrap();
        assert_eq!(offered.highest(), Some(highest));
        assert_eq!(offered.server_name.as_deref(), Some("mx.lab.test"));
        assert!(offered.cipher_suites.len() > 3);
    }
}

#[tokio::test]
async fn clients_of_our_versions_are_served() {
    if !installed() {
        return;
    }
    for (version, spelled) in [("-tls1_2", "TLS1_2"), ("-tls1_3", "TLS1_3")] {
        // P-256 is always there: it is our certificate's.
        for curve in ["X25519:P-256", "P-256", "P-384:P-256"] {
            let facts = accept(&[version, "-curves", curve], true).await.unwrap();
            assert_eq!(facts.version.to_string(), spelled);
            assert_eq!(facts.server_name.as_deref(), Some("mx.lab.test"));
            assert!(facts.group.is_some() && facts.peer_chain.is_empty());
        }
    }
}

#[tokio::test]
async fn clients_without_an_algorithm_of_ours_are_named() {
    if !installed() {
        return;
    }
    for (arguments, reason) in [
        // Neither the key exchange nor the cipher is ours: what the client has is what counts.
        (
            ["-cipher", "AES128-SHA:AES256-GCM-SHA384"],
            "none of its 2 cipher suites is ours: TLS_RSA_WITH_AES_128_CBC_SHA, TLS_RSA_WITH_AES_256_GCM_SHA384",
        ),
        // Ours, but for a certificate with an RSA key, which we have not.
        (
            ["-cipher", "ECDHE-RSA-AES128-GCM-SHA256"],
            "none of its cipher suites goes with our certificate: TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        ),
        (["-curves", "P-521"], "no key exchange group in common"),
        (["-sigalgs", "RSA+SHA256"], "none of its cipher suites goes with our certificate: "),
    ] {
        let failure = accept(&[&["-tls1_2"][..], &arguments].concat(), false).await.unwrap_err();
        let line = failure.to_string();
        let start = "TLS negotiation failed with error AlgorithmMismatch (the peer offered at most TLS 1.2: ";
        assert!(line.strip_prefix(start).is_some_and(|rest| rest.starts_with(reason)), "{line}");
    }
}

/// Starts a server that sends `hello` to whoever comes.
fn server(directory: &Path, arguments: &[&str]) -> (Program, SocketAddr) {
    let mut child = Command::new("openssl")
        .args(["s_server", "-accept", "127.0.0.1:0", "-cert", "c.pem", "-key", "k.pem", "-naccept", "1"])
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let address =
        output.lines().map_while(Result::ok).find_map(|line| line.strip_prefix("ACCEPT ")?.parse().ok());
    (Program(child), address.expect("the server says where it listens"))
}

async fn connect(address: SocketAddr) -> Result<TlsFacts, HandshakeFailure> {
    let tls = ClientTls::new(None, MinTlsVersion::Tls12).unwrap();
    let socket = TcpStream::connect(address).await.unwrap();
    tls.connect(socket, "edge01.lab.test", LIMIT).await.map(|(_, facts)| facts)
}

fn make(directory: &Path, arguments: &[&str]) -> bool {
    let status =
        Command::new("openssl").args(arguments).current_dir(directory).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

#[tokio::test]
async fn old_servers_are_named() {
    if !installed() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (chain, key) = Pki::new().pem(&Leaf::default());
    fs::write(directory.path().join("c.pem"), chain).unwrap();
    fs::write(directory.path().join("k.pem"), key).unwrap();
    let (_server, address) = server(directory.path(), &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
    let failure = connect(address).await.unwrap_err();
    assert_eq!(failure.word, "SocketError");
    let line = failure.to_string();
    assert!(line.contains("protocol_version") || line.contains("chose TLS 1.1"), "{line}");
}

#[tokio::test]
async fn certificates_that_prove_nothing_encrypt_but_are_never_verified() {
    if !installed() {
        return;
    }
    // A key of 1024 bits, and a certificate of version 1.
    let weak =
        ["req", "-x509", "-newkey", "rsa:1024", "-nodes", "-days", "30", "-subj", "/CN=edge01.lab.test"];
    let files = ["-keyout", "k.pem", "-out", "c.pem"];
    // Not even when the very certificate is trusted: anyone can show a copy of it.
    for (version_1, word) in [(false, "WeakKey"), (true, "InvalidCertificate")] {
        let directory = tempfile::tempdir().unwrap();
        let made = if version_1 {
            let request = ["req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=edge01.lab.test"];
            let files = ["-keyout", "k.pem", "-out", "r.pem"];
            make(directory.path(), &[&request[..], &files[..]].concat())
                && make(
                    directory.path(),
                    &["x509", "-req", "-in", "r.pem", "-signkey", "k.pem", "-days", "30", "-out", "c.pem"],
                )
        } else {
            make(directory.path(), &[&weak[..], &files[..]].concat())
        };
        assert!(made);
        for version in ["-tls1_2", "-tls1_3"] {
            let (_server, address) = server(directory.path(), &[version, "-cipher", "ALL:@SECLEVEL=0"]);
            let facts = connect(address).await.unwrap();
            let pinned = Roots::from_certificates([facts.peer_chain[0].clone()]);
            let problem = judge_server(&facts, &pinned, None, SystemTime::now()).unwrap_err();
            assert_eq!(problem.word, word, "{}", problem.detail);
        }
    }
}
