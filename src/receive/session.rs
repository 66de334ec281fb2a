//! One SMTP session in: reading commands, answering them, and ending well.
//!
//! The verbs that carry rules have files of their own (`starttls`, `transaction`, `data`); here
//! is what all of them share: buffers, timeouts, tarpit, error counting.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use tokio::time::timeout_at;

use crate::config::ReceiveTls;
use crate::eop::Visit;
use crate::log::SessionLog;
use crate::shutdown::Shutdown;
use crate::smtp::{Command, LineError, MAX_COMMAND_LINE, Verb, discard_line, take_line};
use crate::tls::TlsFacts;

use super::connector::{Connector, Place};
use super::ending::Ended;
use super::incoming::Incoming;
use super::replies::{self, ReplyLine};
use super::server::{Generation, Server};
use super::spare;
use super::stream::{Stream, make_room};
use super::transaction::Transaction;

/// Room to read commands into, and what may follow them in the same flight: all of most messages.
pub(super) const ROOM: usize = 8 << 10;
/// Room to read the beginning of a message into.
pub(super) const CONTENT_ROOM: usize = ROOM;
/// Replies held back are written once they reach this, whatever else is waiting.
pub(super) const MAX_HELD: usize = 16 << 10;
/// How long a client may take to read a reply before the session is given up.
const WRITE_TIMEOUT: Duration = Duration::from_mins(1);

/// What follows a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Continue,
    Close,
}

/// A session in progress.
pub(super) struct Session {
    pub(super) server: Arc<Server>,
    pub(super) generation: Arc<Generation>,
    pub(super) connector: Arc<Connector>,
    pub(super) place: Place,
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) stream: Stream,
    pub(super) input: BytesMut,
    output: Vec<u8>,
    pub(super) log: SessionLog,
    pub(super) started: Instant,
    pub(super) helo: Option<Box<str>>,
    pub(super) extended: bool,
    pub(super) tls: Option<TlsState>,
    pub(super) transaction: Option<Transaction>,
    pub(super) incoming: Option<Box<Incoming>>,
    errors: u32,
    pub(super) messages_begun: u32,
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) tried_tls: bool,
    pub(super) tried_mail: bool,
    /// AUTH was tried: what the client says next may be a secret.
    tried_auth: bool,
    pub(super) ended: Option<Ended>,
    pub(super) no_tls_reason: Option<String>,
    /// Where the instance stands in for Exchange Online.
    pub(super) eop: Option<Box<Visit>>,
    /// A message in it validates a connector.
    pub(super) validation: bool,
}

/// What the handshake of this session came to.
pub(super) struct TlsState {
    pub(super) facts: TlsFacts,
    /// With `mutual`: the verified name, or why there is none.
    pub(super) client: Option<Result<Option<String>, crate::tls::CertificateProblem>>,
    /// The two lines about the client certificate follow the next EHLO (exchange-edge.md 4.2).
    pub(super) report_client: bool,
}

impl Session {
    pub(super) fn new(
        server: Arc<Server>,
        generation: Arc<Generation>,
        connector: Arc<Connector>,
        place: Place,
        stream: Stream,
        (peer, local): (SocketAddr, SocketAddr),
        log: SessionLog,
    ) -> Self {
        Self {
            server,
            generation,
            connector,
            place,
            peer,
            local,
            stream,
            input: BytesMut::new(),
            output: Vec::new(),
            log,
            started: Instant::now(),
            helo: None,
            extended: false,
            tls: None,
            transaction: None,
            incoming: None,
            errors: 0,
            messages_begun: 0,
            messages: 0,
            bytes: 0,
            tried_tls: false,
            tried_mail: false,
            tried_auth: false,
            ended: None,
            no_tls_reason: None,
            eop: None,
            validation: false,
        }
    }

    /// Runs the session to its end.
    pub(super) async fn run(mut self: Box<Self>) {
        let _ = self.dialogue().await;
        self.finish().await;
    }

    fn greet(&mut self) {
        let config = &self.connector.config;
        let own = || {
            let now = crate::log::time::rfc5322(std::time::SystemTime::now());
            self.eop.as_ref().map_or_else(|| replies::banner(&config.fqdn, &now), |visit| visit.banner())
        };
        let banner = config.banner.clone().unwrap_or_else(own);
        self.reply(&banner);
    }

    /// Reads and answers commands until the session ends. The `Err` is a broken connection.
    async fn dialogue(&mut self) -> std::io::Result<()> {
        if self.fault_at_connect().await?.is_some() {
            return self.flush().await;
        }
        self.greet();
        loop {
            match take_line(&mut self.input, MAX_COMMAND_LINE) {
                Ok(Some(line)) => {
                    let flow = self.command(&line).await?;
                    if flow == Flow::Close {
                        return self.flush().await;
                    }
                    if self.output.len() >= MAX_HELD {
                        self.flush().await?;
                    }
                }
                Ok(None) => {
                    self.flush().await?;
                    if self.fill(ROOM).await? == Flow::Close {
                        return self.flush().await;
                    }
                }
                Err(error) => {
                    self.log.received("<unreadable line>");
                    let text = match error {
                        LineError::TooLong => {
                            while !discard_line(&mut self.input) {
                                if self.fill(ROOM).await? == Flow::Close {
                                    return self.flush().await;
                                }
                            }
                            replies::LINE_TOO_LONG
                        }
                        LineError::BareLf => replies::UNRECOGNIZED,
                    };
                    if self.protocol_error(text.into()).await? == Flow::Close {
                        return self.flush().await;
                    }
                }
            }
        }
    }

    async fn command(&mut self, line: &[u8]) -> std::io::Result<Flow> {
        let parsed = Command::parse(line);
        self.log_command(line, parsed.as_ref().ok());
        let command = match parsed {
            Ok(command) => command,
            // The octets behind a BDAT that cannot be read cannot be told from commands.
            Err(error) if is_bdat(line) => {
                return Ok(self.close(&error.reply().to_string(), "unreadable BDAT"));
            }
            Err(error) => return self.protocol_error(error.reply().to_string().into()).await,
        };
        // Between the chunks of a message only what carries it on, ends it, or has nothing to do
        // with it (RFC 3030 section 2, RFC 5321 section 4.1.4).
        if self.incoming.is_some()
            && matches!(
                command,
                Command::Mail(_)
                    | Command::Rcpt(_)
                    | Command::Data
                    | Command::StartTls
                    | Command::Auth { .. }
            )
        {
            return self.protocol_error(replies::BAD_SEQUENCE.into()).await;
        }
        if let Some(flow) = self.fault_at(&command).await? {
            return Ok(flow);
        }
        match command {
            Command::Ehlo(name) => Ok(self.hello(name, true)),
            Command::Helo(name) => Ok(self.hello(name, false)),
            // Boxed, as they are large and a session waits for a command most of its life: a future
            // has room for the largest it may wait for.
            Command::StartTls => Box::pin(self.starttls()).await,
            Command::Data => Box::pin(self.data()).await,
            Command::Bdat { size, last } => Box::pin(self.bdat(size, last)).await,
            Command::Mail(mail) => self.mail(mail).await,
            Command::Rcpt(rcpt) => self.rcpt(rcpt).await,
            Command::Rset => {
                self.reset();
                Ok(self.reply(replies::RESETTING))
            }
            Command::Noop => Ok(self.reply(replies::NOOP_OK)),
            Command::Vrfy | Command::Expn => Ok(self.reply(replies::CANNOT_VRFY)),
            Command::Help => Ok(self.reply(replies::HELP)),
            Command::Auth { .. } => self.protocol_error(replies::UNKNOWN_AUTH.into()).await,
            Command::Quit => {
                self.ended = Some(Ended::Quit);
                self.reply(replies::CLOSING);
                Ok(Flow::Close)
            }
        }
    }

    /// EHLO or HELO (RFC 5321 section 4.1.1.1): the answer in Exchange's order of keywords.
    fn hello(&mut self, name: Box<str>, extended: bool) -> Flow {
        self.reset();
        self.helo = Some(name);
        self.extended = extended;
        self.report_client_certificate();
        let config = &self.connector.config;
        let greeting = format!("{} Hello [{}]", config.fqdn, self.peer.ip().to_canonical());
        if !extended {
            return self.reply(&format!("250 {greeting}"));
        }
        let mut keywords = vec![greeting];
        keywords.push(match self.max_message_size() {
            u64::MAX => "SIZE".to_owned(),
            limit => format!("SIZE {limit}"),
        });
        keywords.extend(["PIPELINING", "DSN", "ENHANCEDSTATUSCODES"].map(String::from));
        let offered = self.connector.tls.is_some() && config.tls != ReceiveTls::Off;
        if self.tls.is_none() && offered && !self.hides_starttls() {
            keywords.push("STARTTLS".into());
        }
        keywords.extend(["8BITMIME", "BINARYMIME", "CHUNKING", "SMTPUTF8"].map(String::from));
        let last = keywords.len() - 1;
        self.take_output();
        for (i, keyword) in keywords.iter().enumerate() {
            self.output.extend_from_slice(if i == last { b"250 " } else { b"250-" });
            self.output.extend_from_slice(keyword.as_bytes());
            self.output.extend_from_slice(b"\r\n");
        }
        // Exchange logs the whole reply as one line, two blanks behind the code.
        self.log.sent(&format!("250  {}", keywords.join(" ")));
        Flow::Continue
    }

    /// The connector's message size limit under the server's.
    pub(super) fn max_message_size(&self) -> u64 {
        self.connector.config.max_message_size.min(self.generation.max_message_size)
    }

    /// Forgets the transaction (RFC 5321 section 4.1.1.5).
    pub(super) fn reset(&mut self) {
        self.transaction = None;
        self.incoming = None;
    }

    fn take_output(&mut self) {
        if self.output.capacity() == 0 {
            self.output = spare::output();
        }
    }

    /// Holds a reply until the client is to see it.
    pub(super) fn reply(&mut self, line: &str) -> Flow {
        self.log.sent(line);
        self.take_output();
        self.output.extend_from_slice(line.as_bytes());
        self.output.extend_from_slice(b"\r\n");
        Flow::Continue
    }

    /// A refusal. A permanent one is held back for the tarpit interval, and every reply before
    /// it that is still waiting is held back with it (exchange-edge.md 1.6).
    pub(super) async fn refuse(&mut self, line: ReplyLine) -> std::io::Result<Flow> {
        let interval = self.connector.config.tarpit_interval;
        if line.starts_with('5') && !interval.is_zero() {
            self.log.info(&format!("Tarpit for '{}'", log_interval(interval)), "");
            let wake = tokio::time::Instant::now() + interval;
            tokio::select! {
                () = tokio::time::sleep_until(wake.min(self.deadline())) => {}
                () = self.server.shutdown.wait() => {}
            }
        }
        let line = self.traced(line);
        Ok(self.reply(&line))
    }

    /// Ends the session with a last reply.
    pub(super) fn close(&mut self, line: &str, why: &'static str) -> Flow {
        let line = self.traced(line.to_owned().into());
        self.reply(&line);
        self.ended = Some(Ended::Closed(why));
        Flow::Close
    }

    /// A refusal that counts towards the connector's protocol errors.
    pub(super) async fn protocol_error(&mut self, line: ReplyLine) -> std::io::Result<Flow> {
        self.errors += 1;
        self.refuse(line).await?;
        if self.errors > self.connector.config.max_protocol_errors {
            return Ok(self.close(replies::TOO_MANY_ERRORS, "too many protocol errors"));
        }
        Ok(Flow::Continue)
    }

    /// Writes the replies that are held.
    pub(super) async fn flush(&mut self) -> std::io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        self.log.flush();
        let last = self.ended.is_some();
        let writing = async {
            if last {
                self.stream.write_last(&self.output).await
            } else {
                self.stream.write_all(&self.output).await
            }
        };
        let written = tokio::time::timeout(WRITE_TIMEOUT, writing).await;
        self.output.clear();
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => {
                self.ended = Some(Ended::Broken);
                Err(e)
            }
            Err(_) => {
                self.ended = Some(Ended::Closed("the client reads no replies"));
                Err(std::io::ErrorKind::TimedOut.into())
            }
        }
    }

    /// The moment the session's whole time is used up.
    pub(super) fn deadline(&self) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.started) + self.connector.config.connection_timeout
    }

    /// That moment, and the one at which the client has been silent for too long.
    fn deadlines(&self) -> (tokio::time::Instant, tokio::time::Instant) {
        let silence = self.connector.config.connection_inactivity_timeout;
        (self.deadline(), tokio::time::Instant::now() + silence)
    }

    /// Reads up to `room` bytes of input, within the idle timeout, the session's life and the
    /// server's.
    pub(super) async fn fill(&mut self, room: usize) -> std::io::Result<Flow> {
        let (life, idle) = self.deadlines();
        if room == ROOM && self.input.is_empty() {
            // The wait for a command may be long: without buffers.
            spare::give_input(std::mem::take(&mut self.input));
            spare::give_output(std::mem::take(&mut self.output));
        }
        let stop = self.transaction.is_none().then_some(&self.server.shutdown);
        let input = &mut self.input;
        let read = read_within(&mut self.stream, move || make_room(input, room), idle.min(life), stop).await;
        self.filled(read, idle < life)
    }

    /// The same for content, at most `limit` bytes of it, which is read to where it stays.
    pub(super) async fn fill_content(
        &mut self,
        incoming: &mut Incoming,
        limit: u64,
    ) -> std::io::Result<Flow> {
        let (life, idle) = self.deadlines();
        let stop = self.transaction.is_none().then_some(&self.server.shutdown);
        let read = read_within(&mut self.stream, || incoming.room(limit), idle.min(life), stop).await;
        self.filled(read, idle < life)
    }

    /// What a read came to.
    fn filled(&mut self, read: Read, may_be_idle: bool) -> std::io::Result<Flow> {
        match read {
            None => Ok(self.close(replies::SHUTTING_DOWN, "shutdown")),
            Some(Err(_)) if may_be_idle => Ok(self.close(replies::INPUT_TIMEOUT, "idle timeout")),
            Some(Err(_)) => Ok(self.close(replies::CONNECTION_TIMED_OUT, "connection timeout")),
            Some(Ok(Ok(0))) => {
                self.ended.get_or_insert(Ended::ByPeer);
                Err(std::io::ErrorKind::UnexpectedEof.into())
            }
            Some(Ok(Ok(_))) => Ok(Flow::Continue),
            Some(Ok(Err(e))) => {
                self.ended.get_or_insert(Ended::Broken);
                Err(e)
            }
        }
    }

    /// Logs a command; the data of AUTH stays out (exchange-edge.md 4.2), and so does what a client
    /// says that goes on with its secrets although AUTH was refused.
    fn log_command(&mut self, line: &[u8], parsed: Option<&Command>) {
        if !self.log.enabled() {
            return;
        }
        if line.trim_ascii_start().get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH")) {
            self.tried_auth = true;
            let mechanism = match parsed {
                Some(Command::Auth { mechanism, .. }) => mechanism,
                _ => "<malformed>",
            };
            self.log.received(&format!("AUTH {mechanism} <hidden>"));
        } else if self.tried_auth && parsed.is_none() {
            self.log.received("<hidden>");
        } else {
            self.log.received(&String::from_utf8_lossy(line));
        }
    }
}

/// A read: none if a shutdown came first.
type Read = Option<Result<std::io::Result<usize>, tokio::time::error::Elapsed>>;

/// Reads before `until`, and before the server stops if that is looked for. A shutdown waits for the
/// end of a running transaction; the grace period bounds it.
async fn read_within<B: BufMut>(
    stream: &mut Stream,
    room: impl FnOnce() -> B,
    until: tokio::time::Instant,
    stop: Option<&Shutdown>,
) -> Read {
    let stopped = async {
        match stop {
            Some(stop) => stop.wait().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        read = timeout_at(until, stream.read(room)) => Some(read),
        () = stopped => None,
    }
}

/// Whether a line was meant as BDAT, whatever is wrong with it.
fn is_bdat(line: &[u8]) -> bool {
    let line = line.trim_ascii_start();
    let end = line.iter().position(|b| !b.is_ascii_alphabetic()).unwrap_or(line.len());
    Verb::parse(&line[..end]) == Some(Verb::Bdat)
}

/// A duration as Exchange's protocol log writes it: `0.00:00:05`.
fn log_interval(interval: Duration) -> String {
    let s = interval.as_secs();
    format!("{}.{:02}:{:02}:{:02}", s / 86_400, s / 3600 % 24, s / 60 % 60, s % 60)
}
