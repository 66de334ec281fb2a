//! The dialogue.

use std::io::{self, Write};
use std::ops::Range;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use memchr::memchr;
use rustls::HandshakeKind;
use tokio::net::TcpStream;

use crate::Sink;
use crate::content::{Message, Unstuffer};
use crate::wire::Wire;

/// Input buffers: as much as is read at once, and how many are kept.
const BUFFER: usize = 64 << 10;
const SPARE: usize = 2048;

pub(crate) struct Session {
    sink: Arc<Sink>,
    /// Only missing while TLS is started.
    wire: Option<Wire>,
    input: Vec<u8>,
    /// Bytes of `input` that are dealt with.
    at: usize,
    output: Vec<u8>,
    /// Recipients taken, and who they are if that is written down.
    taken: usize,
    recipients: Vec<String>,
    in_transaction: bool,
    message: Option<Message>,
    /// The writes that had arrived when the client last spoke: once there are more, it speaks because of them.
    answered: u64,
    new_flight: bool,
}

impl Session {
    pub(crate) async fn serve(sink: Arc<Sink>, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let input = sink.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut session = Self {
            wire: Some(Wire::new(stream, Duration::from_millis(sink.args.round_trip))),
            sink,
            input: input.unwrap_or_else(|| Vec::with_capacity(BUFFER)),
            at: 0,
            output: Vec::with_capacity(256),
            taken: 0,
            recipients: Vec::new(),
            in_transaction: false,
            message: None,
            answered: 0,
            new_flight: false,
        };
        let ended = session.run().await;
        let mut input = session.input;
        let mut spare = session.sink.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE {
            input.clear();
            spare.push(input);
        }
        ended
    }

    async fn run(&mut self) -> io::Result<()> {
        if self.sink.args.silent {
            // Reads, so that the relay's writes succeed, and never answers.
            while self.fill().await? {
                self.at = self.input.len();
            }
            return Ok(());
        }
        self.wire()?.greet(b"220 sink.test ESMTP\r\n").await?;
        loop {
            while let Some(line) = self.line() {
                if !self.command(line).await? {
                    return self.flush().await;
                }
            }
            self.flush().await?;
            if !self.fill().await? {
                return Ok(());
            }
        }
    }

    /// The command in a part of the input. False: the session is over.
    async fn command(&mut self, at: Range<usize>) -> io::Result<bool> {
        let line = self.input[at].trim_ascii_end();
        let verb = line.split(|byte| *byte == b' ').next().unwrap_or_default();
        let is = |word: &str| verb.eq_ignore_ascii_case(word.as_bytes());
        if self.new_flight {
            self.new_flight = false;
            let in_transaction = is("MAIL") || is("RCPT") || is("DATA") || is("BDAT");
            self.count_flight(in_transaction);
        }
        if is("MAIL") {
            if let Some(code) = self.sink.args.refuse {
                self.output.extend_from_slice(format!("{code} refused as told\r\n").as_bytes());
            } else {
                self.reset();
                self.in_transaction = true;
                self.say("250 2.1.0 OK\r\n");
            }
        } else if is("RCPT") && !self.in_transaction {
            self.say("503 5.5.1 MAIL first\r\n");
        } else if is("RCPT") {
            let recipient = recipient(line);
            let (taken, reply) = self.sink.judge(&recipient);
            if taken {
                self.taken += 1;
                if self.sink.record.is_some() {
                    let recipient = recipient.into_owned();
                    self.recipients.push(recipient);
                }
            }
            self.say(reply);
        } else if is("DATA") && self.taken == 0 {
            self.say("554 5.5.1 No valid recipients\r\n");
        } else if is("DATA") {
            self.say("354 Go ahead\r\n");
            self.flush().await?;
            return self.data().await;
        } else if is("BDAT") {
            let words = String::from_utf8_lossy(line);
            let mut words = words.split_ascii_whitespace().skip(1);
            let size = words.next().and_then(|size| size.parse().ok());
            let last = words.next().is_some_and(|word| word.eq_ignore_ascii_case("LAST"));
            return self.bdat(size, last).await;
        } else if is("EHLO") {
            let inside = usize::from(matches!(self.wire, Some(Wire::Tls(..))));
            self.output.extend_from_slice(&self.sink.greetings[inside]);
        } else if is("STARTTLS") && self.sink.acceptor.is_some() {
            return self.start_tls().await;
        } else if is("HELO") || is("NOOP") {
            self.say("250 sink.test\r\n");
        } else if is("RSET") {
            self.reset();
            self.say("250 2.0.0 Reset\r\n");
        } else if is("QUIT") {
            self.say("221 2.0.0 Bye\r\n");
            return Ok(false);
        } else {
            self.say("500 5.5.1 What?\r\n");
        }
        Ok(true)
    }

    async fn data(&mut self) -> io::Result<bool> {
        let (mut message, mut unstuffer) = (Message::default(), Unstuffer::new());
        loop {
            let (used, ended) = unstuffer.take(&self.input[self.at..], &mut message);
            self.at += used;
            if ended {
                break;
            }
            if !self.fill().await? {
                return Ok(false);
            }
        }
        self.end_of_message(&message).await?;
        Ok(true)
    }

    async fn bdat(&mut self, size: Option<usize>, last: bool) -> io::Result<bool> {
        let Some(size) = size else {
            self.say("501 5.5.4 How much?\r\n");
            return Ok(false);
        };
        let mut message = self.message.take().unwrap_or_default();
        let mut left = size;
        while left > 0 {
            if self.at == self.input.len() && !self.fill().await? {
                return Ok(false);
            }
            let take = left.min(self.input.len() - self.at);
            message.feed(&self.input[self.at..self.at + take]);
            self.at += take;
            left -= take;
        }
        if self.taken == 0 {
            self.say("554 5.5.1 No valid recipients\r\n");
        } else if last {
            self.end_of_message(&message).await?;
        } else {
            self.message = Some(message);
            self.say("250 2.0.0 Go on\r\n");
        }
        Ok(true)
    }

    async fn end_of_message(&mut self, message: &Message) -> io::Result<()> {
        if self.new_flight {
            self.new_flight = false;
            self.count_flight(true);
        }
        self.sink.take(message, &self.recipients)?;
        self.reset();
        if self.sink.args.delay > 0 {
            tokio::time::sleep(Duration::from_millis(self.sink.args.delay)).await;
        }
        self.say("250 2.0.0 Taken\r\n");
        Ok(())
    }

    async fn start_tls(&mut self) -> io::Result<bool> {
        self.say("220 2.0.0 Go ahead\r\n");
        self.flush().await?;
        let (Some(Wire::Plain(stream, _)), Some(acceptor)) = (self.wire.take(), &self.sink.acceptor) else {
            return Ok(false);
        };
        // What came before the handshake does not count after it (RFC 3207 section 4.2).
        self.at = self.input.len();
        let stream = acceptor.accept(stream).await?;
        let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        self.wire = Some(Wire::Tls(Box::new(stream), 0));
        self.answered = 0;
        let mut counts = self.sink.tally.counts();
        counts.resumed_handshakes += u64::from(resumed);
        counts.full_handshakes += u64::from(!resumed);
        drop(counts);
        self.reset();
        Ok(true)
    }

    fn count_flight(&self, in_transaction: bool) {
        let mut counts = self.sink.tally.counts();
        counts.flights += u64::from(in_transaction);
        counts.setup_flights += u64::from(!in_transaction);
    }

    fn reset(&mut self) {
        self.taken = 0;
        self.recipients.clear();
        self.in_transaction = false;
        self.message = None;
    }

    fn say(&mut self, reply: &str) {
        self.output.extend_from_slice(reply.as_bytes());
    }

    /// Where the next whole line is in the input, its end included.
    fn line(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        self.at += memchr(b'\n', &self.input[start..])? + 1;
        Some(start..self.at)
    }

    fn wire(&mut self) -> io::Result<&mut Wire> {
        self.wire.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Everything said since the last time, in one write.
    async fn flush(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        let output = std::mem::take(&mut self.output);
        let written = self.wire()?.write(&output).await;
        self.output = output;
        self.output.clear();
        written
    }

    /// Reads more; false at the end of the connection.
    async fn fill(&mut self) -> io::Result<bool> {
        self.input.drain(..self.at);
        self.at = 0;
        // Otherwise a line that fills the buffer would leave nothing to read into.
        self.input.reserve(BUFFER / 2);
        let Some(wire) = &mut self.wire else { return Ok(false) };
        let came = wire.read(&mut self.input).await? > 0;
        let written = wire.written();
        if came && written > self.answered {
            self.answered = written;
            self.new_flight = true;
        }
        Ok(came)
    }
}

/// The address in `RCPT TO:<…>`.
fn recipient(line: &[u8]) -> std::borrow::Cow<'_, str> {
    let path = memchr(b'<', line).map_or(&[][..], |start| &line[start + 1..]);
    String::from_utf8_lossy(&path[..memchr(b'>', path).unwrap_or(0)])
}

impl Sink {
    /// Whether a recipient is taken, and the reply that says so.
    fn judge(&self, recipient: &str) -> (bool, &'static str) {
        if recipient.starts_with("reject") {
            return (false, "550 5.1.1 No such user\r\n");
        }
        if let Some((times, _)) = recipient.strip_prefix("defer").and_then(|rest| rest.split_once('-')) {
            let times: u32 = times.parse().unwrap_or(1);
            let mut counts = self.tally.counts();
            let so_far = counts.deferred.entry(recipient.to_owned()).or_default();
            if *so_far < times {
                *so_far += 1;
                return (false, "451 4.2.1 Mailbox is busy, come again\r\n");
            }
        }
        (true, "250 2.1.5 OK\r\n")
    }

    /// Writes a message down. After that it counts as received, whatever becomes of the 250.
    fn take(&self, message: &Message, recipients: &[String]) -> io::Result<()> {
        let good = message.good();
        self.tally.take(message.id, good, message.bytes);
        let Some(record) = &self.record else { return Ok(()) };
        let verdict = good.map_or("-", |good| if good { "ok" } else { "bad" });
        let id = message.id.map_or_else(|| "-".to_owned(), |id| id.to_string());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let line = format!("{now} {id} {verdict} {}\n", recipients.join(","));
        record.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes())
    }
}
