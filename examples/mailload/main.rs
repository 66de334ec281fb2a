//! A load generator for tests and benchmarks: sends messages that can be told apart and checked,
//! and writes down each one that was acknowledged.
//!
//! Every message has a number of its own (`X-Load-Id`), the CRC-32 of its body (`X-Load-Crc`) and
//! a body that no other message has, with lines that begin with dots. `mailsink` reads these fields
//! and checks the body. A number goes to the file of `--acked` as soon as the 250 for its message
//! has arrived; one without a 250 is never sent again, so that whatever arrives twice was sent twice
//! by the relay. Ends with one line of JSON on stdout.
//!
//! It runs on one thread, and makes its bodies before it starts, because a benchmark shares the
//! machine with it.

mod body;
mod peer;
mod session;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};

use body::Bodies;
use session::Templates;

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
    /// How commands go out. A server without PIPELINING gets them one at a time.
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
    /// Open the first connections over this many milliseconds instead of all at once.
    #[arg(long, default_value_t = 0)]
    ramp: u32,
    /// Insist on STARTTLS. Certificates are not looked at.
    #[arg(long)]
    starttls: bool,
    /// With STARTTLS: resume the session of the connection before.
    #[arg(long, requires = "starttls")]
    resume: bool,
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
    templates: Templates,
    bodies: Bodies,
    next: AtomicU64,
    acked: AtomicU64,
    /// Messages begun and not settled, so that no more than `count` are acknowledged.
    reserved: AtomicU64,
    /// Connections that were never greeted.
    unanswered: AtomicU64,
    until: Instant,
    record: Option<Mutex<File>>,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    /// Microseconds until the 250: from MAIL, and for the first message of a connection from
    /// connecting, which is what its sender waits for.
    latencies: Vec<u32>,
    /// Refusals by code, of messages and connections; 0 stands for a connection that failed or broke.
    refused: BTreeMap<u16, u64>,
    full_handshakes: u64,
    resumed_handshakes: u64,
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
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("mailload: {error}");
            return ExitCode::FAILURE;
        }
    };
    // Each worker has its own, so that what it resumes was its own session.
    let connectors: Result<Vec<_>, _> = (0..args.connections)
        .map(|_| args.starttls.then(|| peer::connector(args.resume)).transpose())
        .collect();
    let connectors = match connectors {
        Ok(connectors) => connectors,
        Err(error) => {
            eprintln!("mailload: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (templates, bodies) = (Templates::new(&args), Bodies::new(args.size));
    let started = Instant::now();
    let run = Arc::new(Run {
        next: AtomicU64::new(args.first_id),
        acked: AtomicU64::new(0),
        reserved: AtomicU64::new(0),
        unanswered: AtomicU64::new(0),
        until: started + Duration::from_secs_f64(args.seconds),
        record,
        told: Mutex::default(),
        templates,
        bodies,
        args,
    });
    runtime.block_on(async {
        let step = Duration::from_millis(run.args.ramp.into())
            / u32::try_from(connectors.len().max(1)).unwrap_or(u32::MAX);
        let mut workers = Vec::new();
        for (tls, number) in connectors.into_iter().zip(0..) {
            let run = Arc::clone(&run);
            workers.push(tokio::spawn(async move {
                tokio::time::sleep(step * number).await;
                session::work(run, tls).await;
            }));
        }
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

    fn told(&self) -> MutexGuard<'_, Told> {
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
            "handshakes": { "full": told.full_handshakes, "resumed": told.resumed_handshakes },
            "unanswered": self.unanswered.load(Ordering::SeqCst),
            "refused": told.refused.iter().map(|(k, v)| (k.to_string(), *v)).collect::<BTreeMap<_, _>>(),
            "error": told.error,
        });
        println!("{report}");
        let complete = self.args.count == u64::MAX || acked >= self.args.count;
        if told.error.is_some() || !complete { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}
