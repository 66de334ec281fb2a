//! One message through the lab, and what its sessions looked like on the way.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use crate::log::{Direction, SessionEvent};

/// One of the lab's servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// The edge.
    Edge,
    /// The stand-in for EOP.
    Eop,
    /// The internal mailbox server.
    Mailbox,
}

impl Host {
    /// As printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Eop => "EOP stand-in",
            Self::Mailbox => "mailbox server",
        }
    }
}

/// A session event, and whose.
pub type Seen = (Host, SessionEvent);

/// A message to send through the lab.
#[derive(Debug, Clone)]
pub struct Journey {
    /// `Inbound` or `Outbound`.
    pub title: &'static str,
    /// Sender.
    pub from: String,
    /// Recipient.
    pub to: String,
    /// The server it is given to.
    pub first: (Host, SocketAddr),
    /// The servers it passes behind that one, in order.
    pub then: [Host; 2],
    /// The Maildir it must end in.
    pub maildir: PathBuf,
}

/// One step of a journey.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Hop {
    /// Who sent.
    pub from: String,
    /// Who received.
    pub to: String,
    /// Send connector; none for the first step, which is the lab's own client.
    pub send_connector: Option<String>,
    /// Receive connector.
    pub receive_connector: String,
    /// TLS version, `none` for plain text.
    pub tls_version: String,
    /// Cipher suite.
    pub cipher: Option<String>,
    /// Key exchange group.
    pub group: Option<String>,
    /// The receiver's name as the sender verified it.
    pub verified_name: Option<String>,
    /// Whose mail the stand-in for EOP took it to be.
    pub attribution: Option<String>,
}

/// A journey that ended well.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Travelled {
    /// `Inbound` or `Outbound`.
    pub title: String,
    /// Sender.
    pub from: String,
    /// Recipient.
    pub to: String,
    /// Its steps.
    pub hops: Vec<Hop>,
    /// The file it ended in.
    pub delivered: PathBuf,
    /// From the first command to the Maildir, in milliseconds.
    pub milliseconds: u128,
}

/// How long a journey may take; on loopback it takes a fraction of a second.
const LIMIT: Duration = Duration::from_secs(30);

impl Journey {
    /// Sends the message and follows it. Blocks.
    pub fn travel(&self, events: &Receiver<Seen>) -> Result<Travelled, String> {
        let started = Instant::now();
        let token = uuid::Uuid::new_v4();
        submit(self.first.1, &self.from, &self.to, self.title, &token.to_string()).map_err(|e| {
            format!("{}: handing the message to the {}: {e}", self.title, self.first.0.name())
        })?;
        let mut seen: Vec<Seen> = Vec::new();
        // Every session of the journey ends by itself: connections carry one message each.
        let hosts = [self.first.0, self.then[0], self.then[1]];
        while !complete(hosts, &seen) {
            let left = LIMIT.saturating_sub(started.elapsed());
            let event = events.recv_timeout(left).map_err(|_| {
                let last = seen.last().map_or("nothing".to_owned(), |(host, e)| {
                    format!("{}, connector {}: {}", host.name(), e.connector, e.outcome)
                });
                format!("{}: the message did not arrive; the last session seen was {last}", self.title)
            })?;
            seen.push(event);
        }
        let delivered = loop {
            if let Some(file) = find(&self.maildir, &token.to_string()) {
                break file;
            }
            if started.elapsed() > LIMIT {
                return Err(format!("{}: nothing in {}", self.title, self.maildir.display()));
            }
            // Delivery into the Maildir follows the last session within milliseconds.
            std::thread::sleep(Duration::from_millis(5));
        };
        Ok(Travelled {
            title: self.title.to_owned(),
            from: self.from.clone(),
            to: self.to.clone(),
            hops: hops(hosts, &seen),
            delivered,
            milliseconds: started.elapsed().as_millis(),
        })
    }
}

fn session(seen: &[Seen], host: Host, direction: Direction) -> Option<&SessionEvent> {
    seen.iter().find(|(h, e)| *h == host && e.direction == direction && e.messages > 0).map(|(_, e)| e)
}

fn complete(hosts: [Host; 3], seen: &[Seen]) -> bool {
    hosts.iter().all(|h| session(seen, *h, Direction::In).is_some())
        && hosts[..2].iter().all(|h| session(seen, *h, Direction::Out).is_some())
}

fn hops(hosts: [Host; 3], seen: &[Seen]) -> Vec<Hop> {
    let mut hops = Vec::new();
    for (i, host) in hosts.iter().enumerate() {
        let Some(taken) = session(seen, *host, Direction::In) else { continue };
        let sender = i.checked_sub(1).map(|i| hosts[i]);
        let sent = sender.and_then(|h| session(seen, h, Direction::Out));
        let facts = sent.unwrap_or(taken);
        hops.push(Hop {
            from: sender.map_or("lab client", Host::name).to_owned(),
            to: host.name().to_owned(),
            send_connector: sent.map(|e| e.connector.clone()),
            receive_connector: taken.connector.clone(),
            tls_version: facts.tls_version.unwrap_or("none").to_owned(),
            cipher: facts.tls_cipher.map(str::to_owned),
            group: facts.tls_group.map(str::to_owned),
            verified_name: sent.filter(|e| e.tls_verified).and_then(|e| e.tls_peer_name.clone()),
            attribution: taken.attribution.clone(),
        });
    }
    hops
}

/// Gives a message to a server, in clear, as any simple client would.
fn submit(server: SocketAddr, from: &str, to: &str, title: &str, token: &str) -> Result<(), String> {
    let io = |e: std::io::Error| e.to_string();
    let stream = TcpStream::connect_timeout(&server, LIMIT).map_err(io)?;
    stream.set_read_timeout(Some(LIMIT)).map_err(io)?;
    stream.set_nodelay(true).map_err(io)?;
    let mut writer = stream.try_clone().map_err(io)?;
    let mut reader = BufReader::new(stream);
    let mut expect = |code: &str| -> Result<(), String> {
        let mut line = String::new();
        loop {
            line.clear();
            if reader.read_line(&mut line).map_err(io)? == 0 {
                return Err("the connection was closed".into());
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                break;
            }
        }
        if line.starts_with(code) { Ok(()) } else { Err(line.trim_end().to_owned()) }
    };
    let date = crate::log::time::rfc5322(std::time::SystemTime::now());
    let message = format!(
        "From: <{from}>\r\nTo: <{to}>\r\nSubject: Lab journey: {title}\r\nDate: {date}\r\n\
         Message-ID: <{token}@lab.invalid>\r\n\r\nThis message shows the way mail takes through the lab.\r\n.\r\n"
    );
    expect("220")?;
    for (command, code) in [
        ("EHLO client.lab.invalid\r\n".to_owned(), "250"),
        (format!("MAIL FROM:<{from}>\r\n"), "250"),
        (format!("RCPT TO:<{to}>\r\n"), "250"),
        ("DATA\r\n".to_owned(), "354"),
        (message, "250"),
        ("QUIT\r\n".to_owned(), "221"),
    ] {
        writer.write_all(command.as_bytes()).map_err(io)?;
        expect(code)?;
    }
    Ok(())
}

/// The file below a Maildir that holds `token`.
fn find(maildir: &Path, token: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(maildir.join("new")).ok()?;
    entries.flatten().map(|entry| entry.path()).find(|path| {
        std::fs::read(path).is_ok_and(|bytes| memchr::memmem::find(&bytes, token.as_bytes()).is_some())
    })
}
