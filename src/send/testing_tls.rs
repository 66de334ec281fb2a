//! A scripted next hop that speaks TLS, and the log of a session with it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::io::DuplexStream;

use super::testing::{context, greeting, message, serve, target};
use super::{ConnectFailure, Connection, ConnectorRuntime, Outcome, Target};
use crate::config::{Logging, MinTlsVersion, SendConnector};
use crate::log::{Kind, ProtocolLog, SessionEvent};
use crate::tls::test_pki::{Leaf, Pki};
use crate::tls::{CertificateStore, Roots, ServerTls, TlsFacts};

/// One message to a peer without extensions.
pub(super) const STEP: &str = "C MAIL FROM:<a@edge.test>
    S 250 2.1.0 Sender OK
    C RCPT TO:<b@x.test>
    S 250 2.1.5 Recipient OK
    C DATA
    S 354 go
    TEXT
    S 250 2.6.0 queued
    ";

pub(super) fn upgrade() -> String {
    format!("{}C STARTTLS\nS 220 2.0.0 SMTP server ready\n", greeting("PIPELINING CHUNKING STARTTLS"))
}

/// EHLO inside TLS and what it offers then.
pub(super) fn hello(keywords: &str) -> String {
    greeting(keywords).split_once('\n').unwrap().1.to_owned()
}

/// A connector that trusts the authority of the test.
pub(super) fn trusting(pki: &Pki, config: SendConnector) -> ConnectorRuntime {
    let identity = pki.identity(&Leaf { names: &["edge.test"], ..Leaf::default() });
    let store = CertificateStore::new([identity], SystemTime::now());
    ConnectorRuntime::new(config, &store, Arc::new(pki.roots()), MinTlsVersion::Tls12, "edge.test").unwrap()
}

/// Serves STARTTLS with a certificate for `names`, then the script inside.
pub(super) async fn serve_tls(mut io: DuplexStream, pki: &Pki, names: &[&str], inside: &str) -> TlsFacts {
    serve(&mut io, &upgrade()).await;
    let identity = pki.identity(&Leaf { names, ..Leaf::default() });
    let tls = ServerTls::new(&identity, MinTlsVersion::Tls12, true, false).unwrap();
    let (stream, facts) = tls.accept(io, Duration::from_secs(10)).await.unwrap();
    serve(stream, inside).await;
    facts
}

/// Sends one message through STARTTLS.
pub(super) async fn through_tls(
    config: SendConnector,
    target: &Target,
    names: &[&str],
    inside: &str,
) -> (Result<Vec<Outcome>, ConnectFailure>, TlsFacts, SessionEvent) {
    let pki = Pki::new();
    let mut runtime = trusting(&pki, config);
    // Names behind a `!` are certified by somebody the connector does not know.
    let names = match names {
        ["!", rest @ ..] => {
            runtime.roots = Arc::new(Roots::from_certificates([]));
            rest
        }
        names => names,
    };
    let (context, events) = context();
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let client = async {
        let mut connection = Connection::over(ours, &runtime, target, &context).await?;
        let outcomes = connection.send(&message(&["b@x.test"], b"x\r\n")).await;
        connection.quit().await;
        Ok(outcomes)
    };
    let (result, facts) = tokio::join!(Box::pin(client), Box::pin(serve_tls(theirs, &pki, names, inside)));
    (result, facts, events.try_recv().unwrap())
}

/// The lines of a session's log: event, data, context.
pub(super) fn lines(directory: &std::path::Path) -> Vec<String> {
    let directory = directory.join("ProtocolLog/SmtpSend");
    let file = std::fs::read_dir(directory).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(file).unwrap();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.splitn(7, ',').nth(6).unwrap().to_owned())
        .collect()
}

pub(super) async fn logged(config: SendConnector, names: Option<&[&str]>, script: &str) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let logging = Logging {
        max_age: Duration::ZERO,
        max_directory_size: u64::MAX,
        max_file_size: u64::MAX,
        quiet_probes_from: Vec::new(),
    };
    let (mut context, _events) = context();
    context.log = ProtocolLog::open(directory.path(), Kind::Send, &logging);
    let pki = Pki::new();
    let runtime = trusting(&pki, config);
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let target = target();
    let client = async {
        if let Ok(mut connection) = Connection::over(ours, &runtime, &target, &context).await {
            connection.send(&message(&["b@x.test"], b"x\r\n")).await;
            connection.quit().await;
        }
    };
    match names {
        Some(names) => drop(tokio::join!(Box::pin(client), Box::pin(serve_tls(theirs, &pki, names, script)))),
        None => drop(tokio::join!(Box::pin(client), serve(theirs, script))),
    }
    assert!(context.log.sync(Duration::from_secs(10)));
    lines(directory.path())
}
