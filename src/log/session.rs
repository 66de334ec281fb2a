//! The protocol log: one session's lines (exchange-edge.md 4.2).

use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::files::{Files, Format, Limits};
use super::line::push_field;
use super::time::{exchange_utc, push_exchange_utc};
use super::writer::{Clock, Writer};
use crate::config::Logging;

const FIELDS: &str =
    "date-time,connector-id,session-id,sequence-number,local-endpoint,remote-endpoint,event,data,context";

/// Room for lines that is made at once: those of most exchanges.
const ROOM: usize = 1024;

thread_local! {
    /// A buffer that the sessions of a thread take turns with.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A session hands its lines over when they grow beyond this, so that a long one stays small.
const MAX_BUFFERED: usize = 16 * 1024;

/// Which of the two protocol logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Sessions in: `ProtocolLog/SmtpReceive/RECV*.LOG`.
    Receive,
    /// Sessions out: `ProtocolLog/SmtpSend/SEND*.LOG`.
    Send,
}

impl Kind {
    fn directory(self) -> &'static str {
        match self {
            Self::Receive => "ProtocolLog/SmtpReceive",
            Self::Send => "ProtocolLog/SmtpSend",
        }
    }

    fn format(self) -> Format {
        let (prefix, log_type) = match self {
            Self::Receive => ("RECV", "SMTP Receive Protocol Log"),
            Self::Send => ("SEND", "SMTP Send Protocol Log"),
        };
        Format { prefix, version: "15.0.0.0", log_type, fields: FIELDS }
    }
}

/// A session's name in every log: 16 upper-case hex digits.
///
/// Seeded from the clock in ticks of 100 ns since the year 1, as Exchange's look (`08DAB133…`),
/// and counted up from there: unique in this process, and over restarts as long as fewer than ten
/// million sessions a second are served and the clock is not set back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

impl SessionId {
    /// The next one.
    pub fn next() -> Self {
        /// Seconds from 0001-01-01 to 1970-01-01.
        const EPOCH: u64 = 62_135_596_800;
        static NEXT: OnceLock<AtomicU64> = OnceLock::new();
        let next = NEXT.get_or_init(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let seconds = (EPOCH + now.as_secs()).wrapping_mul(10_000_000);
            AtomicU64::new(seconds.wrapping_add(u64::from(now.subsec_nanos() / 100)))
        });
        Self(next.fetch_add(1, Ordering::Relaxed))
    }
}

impl SessionId {
    fn digits(self) -> [u8; 16] {
        let mut left = self.0;
        let mut digits = [0; 16];
        for digit in digits.iter_mut().rev() {
            *digit = b"0123456789ABCDEF"[(left & 15) as usize];
            left >>= 4;
        }
        digits
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.digits().iter().try_for_each(|&digit| f.write_char(char::from(digit)))
    }
}

/// One of the two protocol logs. Cheap to clone.
#[derive(Clone, Default)]
pub struct ProtocolLog {
    inner: Option<Arc<Inner>>,
}

struct Inner {
    writer: Writer,
    clock: Clock,
}

impl ProtocolLog {
    /// Opens the log below `log_dir` (`server.log_dir`), in Exchange's directory for its kind,
    /// which is created when missing. Never fails: what cannot be written is reported through
    /// `tracing` and counted.
    pub fn open(log_dir: &Path, kind: Kind, logging: &Logging) -> Self {
        Self::with_clock(log_dir, kind, logging, Arc::new(SystemTime::now))
    }

    fn with_clock(log_dir: &Path, kind: Kind, logging: &Logging, clock: Clock) -> Self {
        let limits = Limits {
            file: logging.max_file_size,
            directory: logging.max_directory_size,
            age: logging.max_age,
        };
        let files = Files::new(log_dir.join(kind.directory()), kind.format(), limits);
        let writer = Writer::start(files, loss_line, clock.clone());
        Self { inner: Some(Arc::new(Inner { writer, clock })) }
    }

    /// A log that writes nothing, for connectors with `protocol_logging = "none"`.
    pub fn disabled() -> Self {
        Self::default()
    }

    /// Begins a session. `connector_id` is `<Server>\<Connector name>` for sessions in and the
    /// connector's name for sessions out.
    pub fn session(&self, connector_id: &str, peer: SocketAddr) -> SessionLog {
        let id = SessionId::next();
        let lines = self.inner.as_ref().map(|log| Box::new(Lines::new(log.clone(), connector_id, id, peer)));
        SessionLog { id, lines }
    }

    /// Waits until every flushed line was handed to the operating system; false when `limit` was
    /// too short. Blocks: for the end of the process and for tests.
    pub fn sync(&self, limit: Duration) -> bool {
        self.inner.as_ref().is_none_or(|log| log.writer.sync(limit))
    }
}

impl fmt::Debug for ProtocolLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProtocolLog").field("enabled", &self.inner.is_some()).finish_non_exhaustive()
    }
}

/// What stands in the log where lines are missing.
fn loss_line(lost: u64, now: SystemTime) -> String {
    let at = exchange_utc(now);
    format!("{at},,,0,,,*,,{lost} lines were lost: the log could not be written fast enough\r\n")
}

/// The lines of one session.
///
/// They are formatted into a buffer of the session's own and handed to the writer by
/// [`flush`](Self::flush), when the buffer is large, and when the session is dropped. Of a
/// disabled log every call returns at once.
pub struct SessionLog {
    id: SessionId,
    lines: Option<Box<Lines>>,
}

struct Lines {
    log: Arc<Inner>,
    /// `,connector-id,session-id,`
    head: Vec<u8>,
    /// `,local-endpoint,remote-endpoint,`
    endpoints: Vec<u8>,
    peer: SocketAddr,
    sequence: u32,
    /// Text, as bytes: it is only ever appended to, and written.
    buffer: Vec<u8>,
    buffered: u64,
    held: bool,
}

impl SessionLog {
    /// This session's name.
    pub fn session_id(&self) -> SessionId {
        self.id
    }

    /// False when every call is for nothing, so that a caller can spare itself the formatting.
    pub fn enabled(&self) -> bool {
        self.lines.is_some()
    }

    /// `+`: the connection is established.
    pub fn connect(&mut self, local: SocketAddr) {
        self.set_local(local);
        self.line(b'+', "", "");
    }

    /// The local end, which a session out learns only with its connection.
    pub fn set_local(&mut self, local: SocketAddr) {
        if let Some(lines) = &mut self.lines {
            lines.set_local(Some(local));
        }
    }

    /// `>`: a command or reply we sent, without its CRLF.
    pub fn sent(&mut self, data: &str) {
        self.line(b'>', data, "");
    }

    /// `<`: a command or reply we received, without its CRLF.
    pub fn received(&mut self, data: &str) {
        self.line(b'<', data, "");
    }

    /// `*`: information.
    pub fn info(&mut self, data: &str, context: &str) {
        self.line(b'*', data, context);
    }

    /// `-`: the end, with who closed: `Local`, `Remote`, `Remote(SocketError)`.
    pub fn disconnect(&mut self, context: &str) {
        self.line(b'-', "", context);
    }

    /// Keeps lines back, [`flush`](Self::flush) or not, until [`release`](Self::release): for
    /// peers of `logging.quiet_probes_from`, whose sessions may yet leave no trace.
    pub fn hold(&mut self) {
        if let Some(lines) = &mut self.lines {
            lines.held = true;
        }
    }

    /// Ends [`hold`](Self::hold).
    pub fn release(&mut self) {
        if let Some(lines) = &mut self.lines {
            lines.held = false;
        }
    }

    /// Forgets the lines not handed over yet, and all later ones.
    pub fn discard(&mut self) {
        if let Some(lines) = &mut self.lines {
            lines.empty();
        }
        self.lines = None;
    }

    /// Hands the lines to the writer. A copy under a lock and nothing more, so it may be called
    /// after every exchange.
    pub fn flush(&mut self) {
        if let Some(lines) = &mut self.lines
            && !lines.held
        {
            lines.flush();
        }
    }

    fn line(&mut self, event: u8, data: &str, context: &str) {
        if let Some(lines) = &mut self.lines {
            lines.push(event, data, context);
        }
    }
}

impl fmt::Debug for SessionLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLog").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Lines {
    fn new(log: Arc<Inner>, connector_id: &str, id: SessionId, peer: SocketAddr) -> Self {
        let mut head = Vec::with_capacity(connector_id.len() + 20);
        head.push(b',');
        push_field(&mut head, connector_id);
        head.push(b',');
        head.extend_from_slice(&id.digits());
        head.push(b',');
        let mut lines = Self {
            log,
            head,
            endpoints: Vec::with_capacity(64),
            peer,
            sequence: 0,
            buffer: Vec::new(),
            buffered: 0,
            held: false,
        };
        lines.set_local(None);
        lines
    }

    fn set_local(&mut self, local: Option<SocketAddr>) {
        self.endpoints.clear();
        self.endpoints.push(b',');
        if let Some(local) = local {
            push_endpoint(&mut self.endpoints, local);
        }
        self.endpoints.push(b',');
        push_endpoint(&mut self.endpoints, self.peer);
        self.endpoints.push(b',');
    }

    fn push(&mut self, event: u8, data: &str, context: &str) {
        let out = &mut self.buffer;
        if out.capacity() == 0 {
            *out = SPARE.try_with(Cell::take).unwrap_or_default();
            out.reserve(ROOM);
        }
        push_exchange_utc(out, (self.log.clock)());
        out.extend_from_slice(&self.head);
        out.extend_from_slice(itoa::Buffer::new().format(self.sequence).as_bytes());
        out.extend_from_slice(&self.endpoints);
        out.extend_from_slice(&[event, b',']);
        push_field(out, data);
        out.push(b',');
        push_field(out, context);
        out.extend_from_slice(b"\r\n");
        self.sequence = self.sequence.wrapping_add(1);
        self.buffered += 1;
        if out.len() >= MAX_BUFFERED {
            // Held or not: memory a session is bounded, and no mere probe says so much.
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.buffered > 0 {
            self.log.writer.submit(&self.buffer, self.buffered);
            self.empty();
        }
    }

    /// Forgets what is in the buffer and gives it to the thread: most calls come before a wait, and
    /// thousands of sessions may be waiting.
    fn empty(&mut self) {
        self.buffered = 0;
        let mut spare = std::mem::take(&mut self.buffer);
        spare.clear();
        // An error means that the thread is ending.
        let _ = SPARE.try_with(|cell| cell.set(spare));
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.flush();
    }
}

/// `203.0.113.9:41022`, `[2001:db8::25]:25`.
fn push_endpoint(out: &mut Vec<u8>, endpoint: SocketAddr) {
    if let SocketAddr::V4(v4) = endpoint {
        let mut separator = [].as_slice();
        for octet in v4.ip().octets() {
            out.extend_from_slice(separator);
            out.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
            separator = b".";
        }
        out.push(b':');
        out.extend_from_slice(itoa::Buffer::new().format(v4.port()).as_bytes());
    } else {
        // Writing to a Vec does not fail.
        let _ = write!(out, "{endpoint}");
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
