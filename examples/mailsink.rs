//! A next hop for tests and benchmarks: takes mail, checks what `mailload` sent, and writes down
//! every message it took.
//!
//! One line a message goes to the file of `--record` before its 250 goes out:
//! `MICROSECONDS ID VERDICT RECIPIENTS`, the time since 1970, the number in `X-Load-Id` (`-` where
//! there is none, as in a delivery report), `ok` or `bad` for the body against `X-Load-Crc` (`-`
//! without one), and the recipients taken, separated by commas.
//!
//! Local parts decide what becomes of a recipient: `reject…` is refused with 550, and `defer3-…`
//! with 451 the first three times. It never speaks unless spoken to, shares no code with Gatepost,
//! and prints one line of JSON when it is stopped by SIGTERM or SIGINT.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

/// Takes mail, checks it, and writes down what came.
#[derive(Parser)]
struct Args {
    /// Where to listen.
    listen: SocketAddr,
    /// File the messages taken are appended to.
    #[arg(long)]
    record: Option<String>,
    /// Wait this many milliseconds before each final 250.
    #[arg(long, default_value_t = 0)]
    delay: u64,
    /// Refuse every MAIL with this code.
    #[arg(long)]
    refuse: Option<u16>,
    /// Accept connections and never say anything.
    #[arg(long)]
    silent: bool,
    /// EHLO keywords to offer.
    #[arg(long, value_delimiter = ',', default_value = "PIPELINING,8BITMIME,CHUNKING,DSN,SMTPUTF8,SIZE")]
    offer: Vec<String>,
}

struct Sink {
    args: Args,
    record: Option<Mutex<File>>,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    seen: HashSet<u64>,
    taken: u64,
    bytes: u64,
    repeats: u64,
    bad: u64,
    connections: u64,
    /// How often a `defer…` recipient was put off.
    deferred: HashMap<String, u32>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mailsink: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> io::Result<()> {
    let args = Args::parse();
    let record = match &args.record {
        None => None,
        Some(path) => Some(Mutex::new(OpenOptions::new().create(true).append(true).open(path)?)),
    };
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let listener = TcpListener::bind(args.listen).await?;
    let sink = Arc::new(Sink { args, record, told: Mutex::default() });
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = term.recv() => break,
            _ = int.recv() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                sink.told().connections += 1;
                let sink = Arc::clone(&sink);
                // How a session ends is the relay's business; what it brought is written down.
                tokio::spawn(async move { Session::new(sink, stream).serve().await });
            }
            Err(error) => {
                eprintln!("mailsink: accept: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    let told = sink.told();
    let report = serde_json::json!({
        "taken": told.taken, "distinct": told.seen.len(), "repeats": told.repeats,
        "bad": told.bad, "bytes": told.bytes, "connections": told.connections,
    });
    println!("{report}");
    Ok(())
}

impl Sink {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a recipient is taken, and the reply that says so.
    fn judge(&self, recipient: &str) -> (bool, &'static str) {
        if recipient.starts_with("reject") {
            return (false, "550 5.1.1 No such user\r\n");
        }
        if let Some((times, _)) = recipient.strip_prefix("defer").and_then(|rest| rest.split_once('-')) {
            let times: u32 = times.parse().unwrap_or(1);
            let mut told = self.told();
            let so_far = told.deferred.entry(recipient.to_owned()).or_default();
            if *so_far < times {
                *so_far += 1;
                return (false, "451 4.2.1 Mailbox is busy, come again\r\n");
            }
        }
        (true, "250 2.1.5 OK\r\n")
    }

    /// Writes a message down. After that it counts as received, whatever becomes of the 250.
    fn take(&self, message: &Message, recipients: &[String]) -> io::Result<()> {
        let good = message.crc.map(|crc| crc == message.hasher.clone().finalize());
        let verdict = good.map_or("-", |good| if good { "ok" } else { "bad" });
        let id = message.id.map_or_else(|| "-".to_owned(), |id| id.to_string());
        {
            let mut told = self.told();
            told.taken += 1;
            told.bytes += message.bytes;
            told.bad += u64::from(good == Some(false));
            if let Some(id) = message.id {
                told.repeats += u64::from(!told.seen.insert(id));
            }
        }
        let Some(record) = &self.record else { return Ok(()) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let line = format!("{now} {id} {verdict} {}\n", recipients.join(","));
        record.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes())
    }
}

/// What was read of a message.
#[derive(Default)]
struct Message {
    id: Option<u64>,
    crc: Option<u32>,
    hasher: crc32fast::Hasher,
    in_body: bool,
    bytes: u64,
    /// The start of a header line whose end has not come yet.
    partial: Vec<u8>,
}

impl Message {
    /// Takes content in, in pieces cut anywhere.
    fn feed(&mut self, mut piece: &[u8]) {
        self.bytes += piece.len() as u64;
        while !self.in_body {
            let Some(end) = memchr::memchr(b'\n', piece) else {
                self.partial.extend_from_slice(piece);
                return;
            };
            let (line, rest) = piece.split_at(end + 1);
            piece = rest;
            self.partial.extend_from_slice(line);
            let line = std::mem::take(&mut self.partial);
            let line = line.trim_ascii_end();
            self.in_body = line.is_empty();
            let text = std::str::from_utf8(line).unwrap_or_default();
            if let Some(id) = text.strip_prefix("X-Load-Id: ") {
                self.id = id.parse().ok();
            } else if let Some(crc) = text.strip_prefix("X-Load-Crc: ") {
                self.crc = u32::from_str_radix(crc, 16).ok();
            }
        }
        self.hasher.update(piece);
    }
}

struct Session {
    sink: Arc<Sink>,
    stream: TcpStream,
    input: Vec<u8>,
    /// Bytes of `input` that are dealt with.
    at: usize,
    output: Vec<u8>,
    recipients: Vec<String>,
    in_transaction: bool,
    message: Option<Message>,
}

impl Session {
    fn new(sink: Arc<Sink>, stream: TcpStream) -> Self {
        Self {
            sink,
            stream,
            input: Vec::with_capacity(64 << 10),
            at: 0,
            output: Vec::new(),
            recipients: Vec::new(),
            in_transaction: false,
            message: None,
        }
    }

    async fn serve(mut self) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        if self.sink.args.silent {
            // Reads, so that the relay's writes succeed, and never answers.
            while self.fill().await? {
                self.at = self.input.len();
            }
            return Ok(());
        }
        self.output.extend_from_slice(b"220 sink.test ESMTP\r\n");
        loop {
            while let Some(line) = self.line() {
                if !self.command(line.trim_ascii_end()).await? {
                    return self.flush().await;
                }
            }
            self.flush().await?;
            if !self.fill().await? {
                return Ok(());
            }
        }
    }

    /// A command. False: the session is over.
    async fn command(&mut self, line: &[u8]) -> io::Result<bool> {
        let line = String::from_utf8_lossy(line).into_owned();
        let verb = line.split_ascii_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        match verb.as_str() {
            "EHLO" => {
                let offer = &self.sink.args.offer;
                self.output.extend_from_slice(if offer.is_empty() { b"250 " } else { b"250-" });
                self.output.extend_from_slice(b"sink.test\r\n");
                for (i, keyword) in offer.iter().enumerate() {
                    let dash = if i + 1 < offer.len() { '-' } else { ' ' };
                    self.output.extend_from_slice(format!("250{dash}{keyword}\r\n").as_bytes());
                }
            }
            "HELO" | "NOOP" => self.say("250 sink.test\r\n"),
            "RSET" => {
                self.reset();
                self.say("250 2.0.0 Reset\r\n");
            }
            "MAIL" => {
                if let Some(code) = self.sink.args.refuse {
                    self.output.extend_from_slice(format!("{code} refused as told\r\n").as_bytes());
                } else {
                    self.reset();
                    self.in_transaction = true;
                    self.say("250 2.1.0 OK\r\n");
                }
            }
            "RCPT" if !self.in_transaction => self.say("503 5.5.1 MAIL first\r\n"),
            "RCPT" => {
                let path = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
                let recipient = path.map_or("", |(path, _)| path).to_owned();
                let (taken, reply) = self.sink.judge(&recipient);
                if taken {
                    self.recipients.push(recipient);
                }
                self.say(reply);
            }
            "DATA" if self.recipients.is_empty() => self.say("554 5.5.1 No valid recipients\r\n"),
            "DATA" => {
                self.say("354 Go ahead\r\n");
                self.flush().await?;
                let mut message = Message::default();
                loop {
                    let Some(line) = self.line() else {
                        if !self.fill().await? {
                            return Ok(false);
                        }
                        continue;
                    };
                    match line.strip_prefix(b".") {
                        Some(b"\r\n") => break,
                        Some(rest) => message.feed(rest),
                        None => message.feed(&line),
                    }
                }
                self.end_of_message(&message).await?;
            }
            "BDAT" => return self.bdat(&line).await,
            "QUIT" => {
                self.say("221 2.0.0 Bye\r\n");
                return Ok(false);
            }
            _ => self.say("500 5.5.1 What?\r\n"),
        }
        Ok(true)
    }

    async fn bdat(&mut self, line: &str) -> io::Result<bool> {
        let mut words = line.split_ascii_whitespace().skip(1);
        let Some(size) = words.next().and_then(|size| size.parse::<usize>().ok()) else {
            self.say("501 5.5.4 How much?\r\n");
            return Ok(false);
        };
        let last = words.next().is_some_and(|word| word.eq_ignore_ascii_case("LAST"));
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
        if self.recipients.is_empty() {
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
        self.sink.take(message, &self.recipients)?;
        self.reset();
        if self.sink.args.delay > 0 {
            tokio::time::sleep(Duration::from_millis(self.sink.args.delay)).await;
        }
        self.say("250 2.0.0 Taken\r\n");
        Ok(())
    }

    fn reset(&mut self) {
        self.recipients.clear();
        self.in_transaction = false;
        self.message = None;
    }

    fn say(&mut self, reply: &str) {
        self.output.extend_from_slice(reply.as_bytes());
    }

    /// The next whole line, its end included.
    fn line(&mut self) -> Option<Vec<u8>> {
        let rest = &self.input[self.at..];
        let end = memchr::memchr(b'\n', rest)? + 1;
        let line = rest[..end].to_vec();
        self.at += end;
        Some(line)
    }

    async fn flush(&mut self) -> io::Result<()> {
        let output = std::mem::take(&mut self.output);
        self.stream.write_all(&output).await
    }

    /// Reads more; false at the end of the connection.
    async fn fill(&mut self) -> io::Result<bool> {
        self.input.drain(..self.at);
        self.at = 0;
        self.input.reserve(64 << 10);
        Ok(self.stream.read_buf(&mut self.input).await? > 0)
    }
}
