//! From an endpoint to a session ready for its first MAIL: connect, greeting, EHLO, STARTTLS by
//! the connector's rule, the judgement on the certificate, AUTH.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::time::{Instant, timeout};

use super::session::Session;
use super::starttls::{NOT_OFFERED, Security};
use super::transaction::Stop;
use super::wire::{Broken, Io, Wire};
use super::{ConnectFailure, Connection, ConnectorRuntime, Resolver, SendContext, Target, words};
use crate::config::{Routing, SendTls};
use crate::smtp::{Capabilities, Reply};

/// How long a SYN may go unanswered.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// RFC 5321 section 4.5.3.2.1, and the same for EHLO.
const GREETING: Duration = Duration::from_mins(5);

/// Why an attempt ended.
pub(super) enum Refused {
    /// For this target, this is it.
    Final(ConnectFailure),
    /// TLS came to nothing, and the rule allows one more attempt in clear text. The text says
    /// what happened.
    TryPlain(String),
}

/// A session on its way to being a [`Connection`].
pub(super) struct Opening<'a> {
    pub(super) connector: &'a ConnectorRuntime,
    pub(super) target: &'a Target,
    pub(super) resolver: Arc<Resolver>,
    pub(super) connection: Connection,
}

impl Connection {
    /// Connects and does everything up to the first MAIL.
    pub async fn open(
        connector: &ConnectorRuntime,
        target: &Target,
        context: &SendContext,
    ) -> Result<Self, ConnectFailure> {
        if target.socket.is_none() && (context.is_own_address)(&target.address) {
            return Err(permanent(target, words::own(words::OWN_ADDRESS)));
        }
        if connector.certificate_missing && connector.tls.is_some() {
            return Err(transient(target, words::own(words::CERTIFICATE_MISSING)));
        }
        match attempt(connector, target, context, None).await {
            Err(Refused::TryPlain(why)) => match attempt(connector, target, context, Some(&why)).await {
                Ok(connection) => Ok(connection),
                Err(Refused::Final(failure)) => Err(failure),
                // Without TLS nothing of it can fail.
                Err(Refused::TryPlain(_)) => Err(transient(target, words::own(words::SOCKET_ERROR))),
            },
            Err(Refused::Final(failure)) => Err(failure),
            Ok(connection) => Ok(connection),
        }
    }

    /// A session over a stream that is connected already.
    #[cfg(test)]
    pub(super) async fn over(
        io: impl Io + 'static,
        connector: &ConnectorRuntime,
        target: &Target,
        context: &SendContext,
    ) -> Result<Self, ConnectFailure> {
        let mut session = Session::begin(connector, target, context);
        session.connected(SocketAddr::from(([127, 0, 0, 1], 9)));
        match converse(connector, target, context, session, Box::new(io), None).await {
            Ok(connection) => Ok(connection),
            Err(Refused::Final(failure)) => Err(failure),
            Err(Refused::TryPlain(why)) => Err(transient(target, words::reply(499, (4, 9, 9), &why))),
        }
    }
}

async fn attempt(
    connector: &ConnectorRuntime,
    target: &Target,
    context: &SendContext,
    plain: Option<&str>,
) -> Result<Connection, Refused> {
    let mut session = Session::begin(connector, target, context);
    let limit = CONNECT_TIMEOUT.min(connector.config.connection_inactivity_timeout);
    let (io, local) = match timeout(limit, dial(connector, target)).await {
        Ok(Ok(connected)) => connected,
        failed => {
            let (reply, why) = match failed {
                Ok(Err(e)) if e.kind() != io::ErrorKind::TimedOut => {
                    (words::own(words::UNABLE_TO_CONNECT), e.to_string())
                }
                _ => (words::own(words::CONNECT_TIMED_OUT), "timed out".to_owned()),
            };
            session.log.info("", &format!("Failed to connect: {why}"));
            session.end("Local", &reply.to_string());
            return Err(Refused::Final(transient(target, reply)));
        }
    };
    session.connected(local);
    converse(connector, target, context, session, io, plain).await
}

/// Connects, from `source_ip` if there is one.
async fn dial(connector: &ConnectorRuntime, target: &Target) -> io::Result<(Box<dyn Io>, SocketAddr)> {
    if let Some(path) = &target.socket {
        let stream = UnixStream::connect(path).await?;
        return Ok((Box::new(stream), target.address));
    }
    let stream = match connector.config.source_ip {
        None => TcpStream::connect(target.address).await?,
        Some(source) => {
            let socket = if source.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.bind(SocketAddr::new(source, 0))?;
            socket.connect(target.address).await?
        }
    };
    // Without it the tail of every message waits for an acknowledgement of what went before.
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    if stream.peer_addr()? == local {
        // A port of the ephemeral range that nobody listens on may connect to itself.
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok((Box::new(stream), local))
}

async fn converse(
    connector: &ConnectorRuntime,
    target: &Target,
    context: &SendContext,
    session: Session,
    io: Box<dyn Io>,
    plain: Option<&str>,
) -> Result<Connection, Refused> {
    let config = &connector.config;
    let connection = Connection {
        wire: Wire::new(io),
        session,
        target: target.clone(),
        remote: target.remote(),
        peer: Capabilities::default(),
        lmtp: matches!(config.routing, Routing::Lmtp(_)),
        inactivity: config.connection_inactivity_timeout,
        max_transactions: config.max_messages_per_connection,
        transactions: 0,
        opened: Instant::now(),
        out: Vec::new(),
        marks: Vec::new(),
        stuffed: Vec::new(),
        needs_reset: false,
        refused_early: false,
        answered: false,
        broken: false,
    };
    let mut opening = Opening { connector, target, resolver: Arc::clone(&context.resolver), connection };
    opening.greet().await?;
    opening.hello().await?;
    match opening.security(plain) {
        Security::Plain(why) => opening.connection.session.plain(&why),
        Security::Missing => {
            opening.connection.session.plain(NOT_OFFERED);
            return Err(opening.give_up(words::own(words::STARTTLS_REQUIRED), "").await);
        }
        Security::StartTls => {
            opening.secure().await?;
            opening.hello().await?;
        }
    }
    opening.authenticate().await?;
    opening.connection.session.log.flush();
    Ok(opening.connection)
}

impl Opening<'_> {
    /// The banner (RFC 5321 section 3.1).
    async fn greet(&mut self) -> Result<(), Refused> {
        let banner = self.read(GREETING).await?;
        self.connection.session.received(&banner);
        if banner.code == 421 {
            return Err(self.closed(banner));
        }
        if !banner.is_positive() {
            return Err(self.refuse(banner).await);
        }
        let name = banner.first_line().split_ascii_whitespace().next();
        self.check_name(name.unwrap_or_default()).await
    }

    /// EHLO, or HELO for a peer that knows no better (RFC 5321 section 3.2); LHLO in LMTP.
    async fn hello(&mut self) -> Result<(), Refused> {
        let verb = if self.connection.lmtp { "LHLO" } else { "EHLO" };
        // What was known is forgotten, also after TLS (RFC 3207 section 4.2).
        self.connection.peer = Capabilities::default();
        let mut reply = self.ask(&format!("{verb} {}", self.connector.config.fqdn), GREETING).await?;
        self.connection.session.received_folded(&reply);
        if reply.is_permanent() && !self.connection.lmtp {
            reply = self.ask(&format!("HELO {}", self.connector.config.fqdn), GREETING).await?;
            self.connection.session.received_folded(&reply);
            // The name is all that HELO tells.
            reply.keep_first_line();
        }
        if reply.code == 421 {
            return Err(self.closed(reply));
        }
        if !reply.is_positive() {
            return Err(self.refuse(reply).await);
        }
        self.connection.peer = Capabilities::from_ehlo(&reply);
        let name = self.connection.peer.name.clone();
        self.connection.session.helo = Some(name.clone());
        self.check_name(&name).await
    }

    /// A peer with our own name is ourselves, by whatever address. Not so in LMTP, which we do not
    /// serve: a mailbox server on this host has every right to this host's name. Such mail is
    /// returned for good, so where the rule demands TLS a name said in clear, which anyone on the
    /// line could have said, does not count: it is said again inside.
    async fn check_name(&mut self, name: &str) -> Result<(), Refused> {
        let proven = match self.rule() {
            SendTls::Off | SendTls::Opportunistic => true,
            _ => self.connection.session.tls.is_some(),
        };
        if proven && !self.connection.lmtp && name.eq_ignore_ascii_case(&self.connector.hostname) {
            let line = format!("the next hop greets with our own name, {name}");
            self.connection.session.log.info("", &line);
            let reply = words::own(words::OWN_NAME);
            self.connection.say_goodbye(&reply.to_string()).await;
            return Err(Refused::Final(permanent(self.target, reply)));
        }
        Ok(())
    }

    /// One command, logged, and its reply, not yet logged.
    pub(super) async fn ask(&mut self, command: &str, limit: Duration) -> Result<Reply, Refused> {
        self.connection.session.log.sent(command);
        self.ask_unlogged(command, limit).await
    }

    /// One command that is logged otherwise, if at all.
    pub(super) async fn ask_unlogged(&mut self, command: &str, limit: Duration) -> Result<Reply, Refused> {
        let limit = self.connection.limit(limit);
        let line = format!("{command}\r\n");
        match self.connection.wire.write(line.as_bytes(), limit).await {
            // The peer may have said why it closes.
            Ok(()) | Err(Broken::Closed(_)) => self.read(limit).await,
            Err(broken) => Err(self.lost(broken)),
        }
    }

    async fn read(&mut self, limit: Duration) -> Result<Reply, Refused> {
        let limit = self.connection.limit(limit);
        match self.connection.wire.reply(limit).await {
            Ok(reply) => Ok(reply),
            Err(broken) => Err(self.lost(broken)),
        }
    }

    /// The connection broke.
    pub(super) fn lost(&mut self, broken: Broken) -> Refused {
        let reply = broken.reply();
        self.connection.stop(Stop::Broken(broken));
        Refused::Final(transient(self.target, reply))
    }

    /// The peer said 421.
    pub(super) fn closed(&mut self, reply: Reply) -> Refused {
        self.connection.stop(Stop::Closing(reply.clone()));
        Refused::Final(ConnectFailure { reply, target: self.target.clone(), permanent: false, local: false })
    }

    /// This session leads nowhere: QUIT. What a peer says to a session says nothing about a
    /// message, so it is worth another try, be it 5yz.
    pub(super) async fn refuse(&mut self, reply: Reply) -> Refused {
        self.connection.say_goodbye(&reply.to_string()).await;
        Refused::Final(ConnectFailure { reply, target: self.target.clone(), permanent: false, local: false })
    }

    /// The same for a verdict of our own, which the log would not show otherwise.
    pub(super) async fn give_up(&mut self, reply: Reply, detail: &str) -> Refused {
        let text = reply.to_string();
        self.connection.session.log.info(detail, &text);
        self.connection.say_goodbye(&text).await;
        Refused::Final(transient(self.target, reply))
    }

    /// The rule of the connector.
    pub(super) fn rule(&self) -> SendTls {
        self.connector.config.effective_tls()
    }
}

pub(super) fn transient(target: &Target, reply: Reply) -> ConnectFailure {
    ConnectFailure { reply, target: target.clone(), permanent: false, local: true }
}

fn permanent(target: &Target, reply: Reply) -> ConnectFailure {
    ConnectFailure { reply, target: target.clone(), permanent: true, local: true }
}

#[cfg(test)]
#[path = "open_tests.rs"]
mod tests;
