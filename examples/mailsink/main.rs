//! A next hop for tests and benchmarks: takes mail, checks what `mailload` sent, and counts or
//! writes down every message it took.
//!
//! With `--record`, one line a message goes to that file before its 250 goes out:
//! `MICROSECONDS ID VERDICT RECIPIENTS`, the time since 1970, the number in `X-Load-Id` (`-` where
//! there is none, as in a delivery report), `ok` or `bad` for the body against `X-Load-Crc` (`-`
//! without one), and the recipients taken, separated by commas.
//!
//! Local parts decide what becomes of a recipient: `reject…` is refused with 550, and `defer3-…`
//! with 451 the first three times. It never speaks unless spoken to, shares no code with Gatepost,
//! and prints one line of JSON with its counts when it is stopped by SIGTERM or SIGINT. With
//! `--control` it prints such a line also for every line on stdin: at once for `counts`, and for
//! `wait N` once it has taken N different messages.
//!
//! It runs on one thread and makes few system calls, because a benchmark shares the machine with it.

mod content;
mod session;
mod tally;
mod wire;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use clap::Parser;
use tokio::net::TcpSocket;
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;

use session::Session;
use tally::Tally;

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
    /// Be as far away as this many milliseconds there and back: what is sent here is read at once,
    /// and every reply arrives that much later, however many are on their way.
    #[arg(long, default_value_t = 0, conflicts_with = "starttls")]
    round_trip: u64,
    /// Refuse every MAIL with this code.
    #[arg(long)]
    refuse: Option<u16>,
    /// Accept connections and never say anything.
    #[arg(long)]
    silent: bool,
    /// EHLO keywords to offer.
    #[arg(long, value_delimiter = ',', default_value = "PIPELINING,8BITMIME,CHUNKING,DSN,SMTPUTF8,SIZE")]
    offer: Vec<String>,
    /// Offer STARTTLS, with an ECDSA P-256 certificate made at the start and tickets to resume by.
    #[arg(long)]
    starttls: bool,
    /// Answer `counts` and `wait N` on stdin.
    #[arg(long)]
    control: bool,
}

struct Sink {
    args: Args,
    record: Option<Mutex<File>>,
    acceptor: Option<TlsAcceptor>,
    /// The replies to EHLO in clear text and inside TLS.
    greetings: [Vec<u8>; 2],
    tally: Tally,
    /// Input buffers of sessions that have ended.
    spare: Mutex<Vec<Vec<u8>>>,
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(run())) {
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
    let acceptor = if args.starttls { Some(wire::acceptor()?) } else { None };
    let socket = if args.listen.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(args.listen)?;
    // A thousand relays' connections may come at once.
    let listener = socket.listen(4096)?;
    let greetings = [greeting(&args.offer, args.starttls), greeting(&args.offer, false)];
    let (tally, spare) = (Tally::default(), Mutex::default());
    let sink = Arc::new(Sink { args, record, acceptor, greetings, tally, spare });
    if sink.args.control {
        let sink = Arc::clone(&sink);
        thread::spawn(move || sink.tally.answer(io::stdin().lines()));
    }
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = term.recv() => break,
            _ = int.recv() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                sink.tally.counts().connections += 1;
                let sink = Arc::clone(&sink);
                // How a session ends is the relay's business; what it brought is written down.
                tokio::spawn(async move { Session::serve(sink, stream).await });
            }
            Err(error) => {
                eprintln!("mailsink: accept: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    // Whoever wanted to know may be gone.
    let _ = writeln!(io::stdout(), "{}", sink.tally.counts().report());
    Ok(())
}

/// The reply to EHLO.
fn greeting(offer: &[String], starttls: bool) -> Vec<u8> {
    let mut lines = vec!["sink.test"];
    lines.extend(offer.iter().map(String::as_str));
    if starttls {
        lines.push("STARTTLS");
    }
    let last = lines.len() - 1;
    let line = |(i, text): (usize, &&str)| format!("250{}{text}\r\n", if i < last { '-' } else { ' ' });
    lines.iter().enumerate().map(line).collect::<String>().into_bytes()
}
