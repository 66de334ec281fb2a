//! A load generator for tests and benchmarks: sends messages that can be told apart and checked,
//! and writes down each one that was acknowledged.
//!
//! Every message has a number of its own (`X-Load-Id`), the CRC-32 of its body (`X-Load-Crc`) and
//! a body of random text that differs from message to message and has lines that begin with dots.
//! `mailsink` reads these fields and checks the body. A number goes to the file of `--acked` as
//! soon as the 250 for its message has arrived; one without a 250 is never sent again, so that
//! whatever arrives twice was sent twice by the relay. Ends with one line of JSON on stdout.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Sends numbered, checkable messages to a relay.
#[derive(Parser)]
struct Args {
    /// Where to.
    target: SocketAddr,
    /// Stop after this many acknowledged messages.
    #[arg(long, default_value_t = u64::MAX)]
    count: u64,
    /// Stop after this many seconds.
    #[arg(long, default_value_t = 3600.0)]
    seconds: f64,
    /// Connections at once.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Messages sent over one connection before the next one is opened.
    #[arg(long, default_value_t = 50)]
    per_connection: usize,
    /// Bytes of body.
    #[arg(long, default_value_t = 4096)]
    size: usize,
    /// How commands go out.
    #[arg(long, value_enum, default_value_t = Style::Pipeline)]
    style: Style,
    /// Number of the first message.
    #[arg(long, default_value_t = 1)]
    first_id: u64,
    /// Reverse path; `{id}` is the message's number.
    #[arg(long, default_value = "load@fabrikam.test")]
    from: String,
    /// Recipient; `{id}` is the message's number. May be given several times.
    #[arg(long = "to", default_value = "sink@contoso.test")]
    to: Vec<String>,
    /// File the numbers of acknowledged messages are appended to.
    #[arg(long)]
    acked: Option<String>,
    /// Keep on when connections fail or messages are refused.
    #[arg(long)]
    persistent: bool,
    /// Pause of a connection after a failure, in milliseconds.
    #[arg(long, default_value_t = 10)]
    pause: u64,
    /// Address to connect from.
    #[arg(long)]
    source: Option<std::net::IpAddr>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Style {
    /// One command at a time, as RFC 821 had it.
    Step,
    /// MAIL, RCPT and DATA in one write, then the message.
    Pipeline,
    /// MAIL, RCPT, BDAT and the message in one write.
    Bdat,
}

struct Run {
    args: Args,
    next: AtomicU64,
    acked: AtomicU64,
    /// Messages begun and not settled, so that no more than `count` are acknowledged.
    reserved: AtomicU64,
    until: Instant,
    record: Option<Mutex<File>>,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    /// Microseconds from MAIL to the 250.
    latencies: Vec<u32>,
    /// Refusals by code, of messages and connections; 0 stands for a connection that failed or broke.
    refused: BTreeMap<u16, u64>,
    error: Option<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let record = match &args.acked {
        None => None,
        Some(path) => match OpenOptions::new().create(true).append(true).open(path) {
            Ok(file) => Some(Mutex::new(file)),
            Err(error) => {
                eprintln!("mailload: {path}: {error}");
                return ExitCode::FAILURE;
            }
        },
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("mailload: {error}");
            return ExitCode::FAILURE;
        }
    };
    let started = Instant::now();
    let run = Arc::new(Run {
        next: AtomicU64::new(args.first_id),
        acked: AtomicU64::new(0),
        reserved: AtomicU64::new(0),
        until: started + Duration::from_secs_f64(args.seconds),
        record,
        told: Mutex::default(),
        args,
    });
    runtime.block_on(async {
        let workers: Vec<_> =
            (0..run.args.connections).map(|_| tokio::spawn(work(Arc::clone(&run)))).collect();
        for worker in workers {
            let _ = worker.await;
        }
    });
    run.report(started.elapsed())
}

impl Run {
    /// A number for one more message, unless there are enough.
    fn begin(&self) -> Option<u64> {
        if Instant::now() >= self.until {
            return None;
        }
        let mine = self.reserved.fetch_add(1, Ordering::SeqCst);
        if mine >= self.args.count {
            self.reserved.fetch_sub(1, Ordering::SeqCst);
            return None;
        }
        Some(self.next.fetch_add(1, Ordering::SeqCst))
    }

    fn acknowledged(&self, id: u64, took: Duration) -> io::Result<()> {
        if let Some(record) = &self.record {
            let line = format!("{id}\n");
            record.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes())?;
        }
        self.acked.fetch_add(1, Ordering::SeqCst);
        self.told().latencies.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        Ok(())
    }

    /// A message came to nothing: another one may be sent in its place.
    fn failed(&self, code: u16) {
        self.reserved.fetch_sub(1, Ordering::SeqCst);
        *self.told().refused.entry(code).or_default() += 1;
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, took: Duration) -> ExitCode {
        let mut told = self.told();
        told.latencies.sort_unstable();
        let at = |part: f64| {
            let index = (told.latencies.len() as f64 * part) as usize;
            told.latencies.get(index).or(told.latencies.last()).map_or(0.0, |us| f64::from(*us) / 1000.0)
        };
        let acked = self.acked.load(Ordering::SeqCst);
        let report = serde_json::json!({
            "acked": acked,
            "begun": self.next.load(Ordering::SeqCst) - self.args.first_id,
            "seconds": took.as_secs_f64(),
            "per_second": acked as f64 / took.as_secs_f64(),
            "ms_median": at(0.5),
            "ms_p99": at(0.99),
            "ms_max": at(1.0),
            "refused": told.refused.iter().map(|(k, v)| (k.to_string(), *v)).collect::<BTreeMap<_, _>>(),
            "error": told.error,
        });
        println!("{report}");
        let complete = self.args.count == u64::MAX || acked >= self.args.count;
        if told.error.is_some() || !complete { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

async fn work(run: Arc<Run>) {
    let mut body = Vec::new();
    while Instant::now() < run.until && run.reserved.load(Ordering::SeqCst) < run.args.count {
        match session(&run, &mut body).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                if !run.args.persistent {
                    run.told().error.get_or_insert_with(|| error.to_string());
                    return;
                }
                tokio::time::sleep(Duration::from_millis(run.args.pause)).await;
            }
        }
    }
}

/// One connection. False: there is nothing more to send.
async fn session(run: &Run, scratch: &mut Vec<u8>) -> io::Result<bool> {
    let mut peer = match Peer::open(run).await {
        Ok(peer) => peer,
        Err((code, error)) => {
            *run.told().refused.entry(code).or_default() += 1;
            return Err(error);
        }
    };
    for _ in 0..run.args.per_connection {
        let Some(id) = run.begin() else {
            let _ = peer.say(b"QUIT\r\n").await;
            return Ok(false);
        };
        let began = Instant::now();
        let code = match message(run, &mut peer, id, scratch).await {
            Ok(code) => code,
            Err(error) => {
                run.failed(0);
                return Err(error);
            }
        };
        if code == 250 {
            run.acknowledged(id, began.elapsed())?;
        } else {
            run.failed(code);
            if !run.args.persistent {
                return Err(io::Error::other(format!("message {id} refused with {code}")));
            }
            tokio::time::sleep(Duration::from_millis(run.args.pause)).await;
            if code == 421 {
                return Ok(true);
            }
            if peer.say(b"RSET\r\n").await? != 250 {
                return Ok(true);
            }
        }
    }
    let _ = peer.say(b"QUIT\r\n").await;
    Ok(true)
}

/// Sends one message; the code of the reply that decided.
async fn message(run: &Run, peer: &mut Peer, id: u64, out: &mut Vec<u8>) -> io::Result<u16> {
    let args = &run.args;
    let number = id.to_string();
    let fill = |template: &str| template.replace("{id}", &number);
    let content = content(id, args.size, &fill(&args.from), &fill(&args.to[0]));
    let mail = format!("MAIL FROM:<{}>\r\n", fill(&args.from));
    let rcpts: Vec<String> = args.to.iter().map(|to| format!("RCPT TO:<{}>\r\n", fill(to))).collect();
    out.clear();
    if args.style == Style::Step {
        let code = peer.say(mail.as_bytes()).await?;
        if code != 250 {
            return Ok(code);
        }
        let mut last = 0;
        let mut taken = 0;
        for rcpt in &rcpts {
            last = peer.say(rcpt.as_bytes()).await?;
            taken += usize::from(last == 250);
        }
        if taken == 0 {
            return Ok(last);
        }
        let code = peer.say(b"DATA\r\n").await?;
        if code != 354 {
            return Ok(code);
        }
        stuff(&content, out);
        return peer.say(out).await;
    }
    out.extend_from_slice(mail.as_bytes());
    for rcpt in &rcpts {
        out.extend_from_slice(rcpt.as_bytes());
    }
    if args.style == Style::Bdat {
        out.extend_from_slice(format!("BDAT {} LAST\r\n", content.len()).as_bytes());
        out.extend_from_slice(&content);
    } else {
        out.extend_from_slice(b"DATA\r\n");
    }
    peer.stream.write_all(out).await?;
    let mut decided = peer.reply().await?;
    let mut refused = (decided != 250).then_some(decided);
    let mut taken = 0;
    for _ in &rcpts {
        decided = peer.reply().await?;
        taken += usize::from(decided == 250);
    }
    if taken == 0 {
        refused = refused.or(Some(decided));
    }
    let code = peer.reply().await?;
    if args.style == Style::Bdat || code != 354 {
        return Ok(refused.unwrap_or(code));
    }
    out.clear();
    stuff(&content, out);
    peer.say(out).await
}

/// Header and body of a message.
fn content(id: u64, size: usize, from: &str, to: &str) -> Vec<u8> {
    let body = body(id, size);
    let mut content = format!(
        "From: <{from}>\r\nTo: <{to}>\r\nSubject: load {id}\r\nMessage-ID: <{id}@load.test>\r\n\
         X-Load-Id: {id}\r\nX-Load-Crc: {:08x}\r\n\r\n",
        crc32fast::hash(&body)
    )
    .into_bytes();
    content.extend_from_slice(&body);
    content
}

/// Lines of text nobody has sent before, exactly `size` bytes of them (but at least a line end).
fn body(id: u64, size: usize) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .";
    const LINE: usize = 78;
    // SplitMix64: good enough to make every body differ, and fast.
    let mut state = id.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut body = Vec::with_capacity(size.max(2) + 16);
    while body.len() < size {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^= word >> 31;
        for _ in 0..10 {
            match body.len() % LINE {
                76 => body.push(b'\r'),
                77 => body.push(b'\n'),
                _ => body.push(LETTERS[(word & 63) as usize]),
            }
            word >>= 6;
        }
    }
    body.truncate(size.saturating_sub(2));
    // A cut after CR would leave one alone.
    if let Some(last) = body.last_mut().filter(|last| **last == b'\r') {
        *last = b'.';
    }
    body.extend_from_slice(b"\r\n");
    body
}

/// The message as DATA wants it (RFC 5321 section 4.5.2), with its final dot.
fn stuff(content: &[u8], out: &mut Vec<u8>) {
    out.reserve(content.len() + content.len() / 64 + 16);
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        if line.first() == Some(&b'.') {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    out.extend_from_slice(b".\r\n");
}

/// The relay at the other end.
struct Peer {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Peer {
    /// Connects and says EHLO. An error has the code it was refused with, or 0.
    async fn open(run: &Run) -> Result<Self, (u16, io::Error)> {
        let broken = |error| (0, error);
        let stream = Self::connect(run).await.map_err(broken)?;
        let mut peer = Self { stream, input: Vec::with_capacity(1024) };
        let banner = peer.reply().await.map_err(broken)?;
        if banner != 220 {
            return Err((banner, io::Error::other(format!("greeted with {banner}"))));
        }
        let code = peer.say(b"EHLO load.test\r\n").await.map_err(broken)?;
        if code != 250 {
            return Err((code, io::Error::other(format!("EHLO refused with {code}"))));
        }
        Ok(peer)
    }

    async fn connect(run: &Run) -> io::Result<TcpStream> {
        let target = run.args.target;
        let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(source) = run.args.source {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        let stream = socket.connect(target).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn say(&mut self, bytes: &[u8]) -> io::Result<u16> {
        self.stream.write_all(bytes).await?;
        self.reply().await
    }

    /// The code of the next whole reply.
    async fn reply(&mut self) -> io::Result<u16> {
        loop {
            while let Some(end) = memchr::memchr(b'\n', &self.input) {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                if line.get(3) == Some(&b'-') {
                    continue;
                }
                let code = line.get(..3).and_then(|code| std::str::from_utf8(code).ok()?.parse().ok());
                return code.ok_or_else(|| {
                    io::Error::other(format!("not a reply: {}", String::from_utf8_lossy(&line)))
                });
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}
