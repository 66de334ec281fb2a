//! A scripted next hop, and the pieces a session needs.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{
    ConnectFailure, Connection, ConnectorRuntime, Outcome, Outgoing, OutgoingContent, Resolver, SendContext,
    Target,
};
use crate::config::{Dns, Host, MinTlsVersion, ProtocolLogging, Routing, SendConnector, SendTls, SmartHost};
use crate::log::{Observers, ProtocolLog, SessionEvent};
use crate::message::Recipient;
use crate::smtp::{Address, BodyType, ContentScanner};
use crate::tls::{CertificateStore, Roots};

/// A send connector to a smart host, with TLS as asked for.
pub(crate) fn connector(tls: SendTls) -> SendConnector {
    SendConnector {
        name: "To next hop".to_owned(),
        address_spaces: Vec::new(),
        routing: Routing::SmartHosts(vec![SmartHost { host: Host::Name("mx.test".to_owned()), port: None }]),
        port: 25,
        fqdn: "edge.test".to_owned(),
        source_ip: None,
        tls,
        tls_domain: None,
        tls_certificate_name: None,
        auth: None,
        max_message_size: u64::MAX,
        max_connections: 40,
        max_messages_per_connection: 0,
        connection_inactivity_timeout: Duration::from_mins(10),
        protocol_logging: ProtocolLogging::Verbose,
        trusted: false,
        enabled: true,
        route_all_messages_via_on_premises: false,
    }
}

pub(crate) fn runtime(config: SendConnector) -> ConnectorRuntime {
    let store = CertificateStore::new([], std::time::SystemTime::now());
    let roots = Arc::new(Roots::from_certificates([]));
    ConnectorRuntime::new(config, &store, roots, MinTlsVersion::Tls12, "edge.test").unwrap()
}

pub(crate) fn plain() -> ConnectorRuntime {
    runtime(connector(SendTls::Off))
}

pub(crate) fn context() -> (SendContext, Receiver<SessionEvent>) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let mut observers = Observers::none();
    observers.add_channel(sender);
    let dns = Dns { servers: vec![SocketAddr::from(([127, 0, 0, 1], 9))], timeout: Duration::from_secs(1) };
    let context = SendContext {
        log: ProtocolLog::disabled(),
        observers,
        resolver: Arc::new(Resolver::new(&dns)),
        is_own_address: Arc::new(|_| false),
    };
    (context, receiver)
}

pub(super) fn target() -> Target {
    Target::new("mx.test", SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 25))
}

pub(super) fn recipient(address: &str) -> Recipient {
    Recipient { address: Address::parse(address).unwrap(), notify: None, orcpt: None }
}

pub(super) fn message(recipients: &[&str], content: &[u8]) -> Outgoing {
    let mut scanner = ContentScanner::new();
    scanner.feed(content);
    Outgoing {
        from: Some(Address::parse("a@edge.test").unwrap()),
        body: BodyType::SevenBit,
        smtputf8: false,
        ret: None,
        envid: None,
        recipients: recipients.iter().map(|address| recipient(address)).collect(),
        size: content.len() as u64,
        facts: scanner.facts(),
        content: OutgoingContent::Memory(vec![Bytes::copy_from_slice(content)]),
        message_id: "<id@edge.test>".to_owned(),
        record_id: 7,
    }
}

/// The greeting of a peer with these EHLO keywords.
pub(super) fn greeting(keywords: &str) -> String {
    let mut lines = vec!["mx.test Hello"];
    lines.extend(keywords.split_whitespace());
    let last = lines.len() - 1;
    let mut script = "S 220 mx.test ESMTP\nC EHLO edge.test\n".to_owned();
    for (index, line) in lines.iter().enumerate() {
        let separator = if index == last { ' ' } else { '-' };
        script.extend([format!("S 250{separator}{}\n", line.replace('=', " "))]);
    }
    script
}

/// How a session ends well.
pub(super) const BYE: &str = "C QUIT\nS 221 2.0.0 Bye\nCLOSE\n";

/// A whole session: greeting, these steps, goodbye.
pub(super) fn script(keywords: &str, steps: &str) -> String {
    format!("{}{steps}{BYE}", greeting(keywords))
}

/// Plays the server's part. `S text` says a line, `C text` expects one, `BODY n` takes n bytes,
/// `TEXT` takes everything to the final dot, `TWO` says 220 and more in one
/// packet, `WAIT n`
/// sleeps n seconds, `CLOSE` ends, `EOF` expects the client to. Returns the content.
pub(super) async fn serve(io: impl AsyncRead + AsyncWrite + Unpin, script: &str) -> Vec<u8> {
    let mut peer = Peer { io, input: Vec::new() };
    let mut content = Vec::new();
    for step in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (verb, rest) = step.split_once(' ').unwrap_or((step, ""));
        match verb {
            "S" => peer.say(&format!("{rest}\r\n")).await,
            "TWO" => peer.say("220 go\r\n250 mx.test\r\n").await,
            "C" => assert_eq!(peer.line().await, rest, "at `{step}` of\n{script}"),
            "BODY" => content.extend(peer.take(rest.parse().unwrap()).await),
            "TEXT" => content.extend(peer.text().await),
            "WAIT" => tokio::time::sleep(Duration::from_secs(rest.parse().unwrap())).await,
            "CLOSE" => return content,
            "EOF" => assert!(
                !peer.fill().await,
                "expected the end, got {:?}",
                String::from_utf8_lossy(&peer.input)
            ),
            other => panic!("unknown step {other}"),
        }
    }
    content
}

struct Peer<IO> {
    io: IO,
    input: Vec<u8>,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Peer<IO> {
    async fn say(&mut self, text: &str) {
        // A client that went away is for its own side of the test to judge.
        let _ = self.io.write_all(text.as_bytes()).await;
    }

    async fn fill(&mut self) -> bool {
        let mut room = [0; 8192];
        let got = self.io.read(&mut room).await.unwrap_or(0);
        self.input.extend_from_slice(&room[..got]);
        got > 0
    }

    async fn line(&mut self) -> String {
        let line = self.until(b"\r\n").await;
        String::from_utf8_lossy(line.strip_suffix(b"\r\n").unwrap_or(&line)).into_owned()
    }

    async fn text(&mut self) -> Vec<u8> {
        if self.input.len() < 3 {
            self.fill().await;
        }
        if self.input.starts_with(b".\r\n") {
            return self.take(3).await;
        }
        self.until(b"\r\n.\r\n").await
    }

    async fn until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.input.windows(end.len()).position(|window| window == end) {
                return self.input.drain(..at + end.len()).collect();
            }
            if !self.fill().await {
                return std::mem::take(&mut self.input);
            }
        }
    }

    async fn take(&mut self, count: usize) -> Vec<u8> {
        while self.input.len() < count && self.fill().await {}
        self.input.drain(..count.min(self.input.len())).collect()
    }
}

/// What a dialogue came to.
pub(super) struct Played {
    pub(super) result: Result<Vec<Outcome>, ConnectFailure>,
    pub(super) content: Vec<u8>,
    pub(super) event: SessionEvent,
}

impl Played {
    pub(super) fn outcomes(&self) -> &[Outcome] {
        self.result.as_ref().unwrap()
    }

    /// Each outcome in short: its kind and reply.
    pub(super) fn told(&self) -> Vec<String> {
        self.outcomes().iter().map(told).collect()
    }

    pub(super) fn failure(&self) -> &ConnectFailure {
        self.result.as_ref().unwrap_err()
    }
}

pub(super) fn told(outcome: &Outcome) -> String {
    let kind = match outcome {
        Outcome::Delivered(_) => "delivered",
        Outcome::Relayed(_) => "relayed",
        Outcome::Stored(_) => "stored",
        Outcome::Failed(_) => "failed",
        Outcome::Deferred(_) => "deferred",
    };
    format!("{kind} {}", outcome.reply())
}

/// Opens a session, sends the messages one after the other, and quits, against the script.
pub(super) async fn play(runtime: &ConnectorRuntime, messages: &[Outgoing], script: &str) -> Played {
    let (ours, theirs) = tokio::io::duplex(16 * 1024);
    let (context, events) = context();
    let client = async {
        let mut connection = Connection::over(ours, runtime, &target(), &context).await?;
        let mut outcomes = Vec::new();
        for message in messages {
            outcomes.extend(connection.send(message).await);
        }
        connection.quit().await;
        Ok(outcomes)
    };
    let (result, content) = tokio::join!(client, serve(theirs, script));
    let event = events.try_recv().expect("every session ends in one event");
    assert!(events.try_recv().is_err(), "one session, one event");
    Played { result, content, event }
}
