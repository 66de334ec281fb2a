//! The spool on the disk of this machine: how many messages a second become durable, at what CPU
//! cost, and how fast a full spool opens.
//!
//! `cargo bench --bench spool -- [DIR [MESSAGES [BYTES [PRODUCERS]]]]`

use std::{
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use gatepost::queue::spool::{Change, Content, Recovered, Spool, SpoolOptions};

fn main() {
    // `cargo test --all-targets` runs this as well, without the word.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let dir = args.next().map_or_else(|| std::env::temp_dir().join("gatepost-bench"), PathBuf::from);
    let mut number = |default: u64| args.next().and_then(|arg| arg.parse().ok()).unwrap_or(default);
    let (messages, bytes, producers) = (number(40_000), number(10_240), number(64));
    println!("{messages} messages of {bytes} bytes, {producers} producers, in {}", dir.display());
    let _ = std::fs::remove_dir_all(&dir);
    run(&dir.join("through"), messages, bytes, producers, true);
    run(&dir.join("fill"), messages, bytes, producers, false);
    reopen(&dir.join("fill"));
    let _ = std::fs::remove_dir_all(&dir);
}

/// How long until mail can be stored again, and until everything is back.
fn reopen(dir: &Path) {
    let start = Instant::now();
    let (_spool, mut recovery) = match Spool::open(dir, SpoolOptions::default()) {
        Ok(opened) => opened,
        Err(error) => return println!("reopen: {error}"),
    };
    let ready = start.elapsed();
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else { return };
    loop {
        match runtime.block_on(recovery.next()) {
            Ok(Recovered::Messages(_)) => {}
            Ok(Recovered::End(report)) => {
                return println!("reopen: ready after {ready:?}, read after {:?}, {report}", start.elapsed());
            }
            Err(error) => return println!("reopen: {error}"),
        }
    }
}

/// Every producer is one session: a message at a time, the next one once the last is durable.
fn run(dir: &Path, messages: u64, bytes: u64, producers: u64, remove: bool) {
    let Ok((spool, _)) = Spool::open(dir, SpoolOptions::default()) else {
        return println!("cannot open a spool in {}", dir.display());
    };
    let body: Bytes = (0..bytes).map(|n| ((n * 7919) >> 3) as u8).collect();
    let meta = Bytes::from(vec![b'm'; 200]);
    let waits = Mutex::new(Vec::new());
    let (start, cpu) = (Instant::now(), cpu_time());
    thread::scope(|scope| {
        for _ in 0..producers {
            scope.spawn(|| {
                let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else { return };
                let mut mine = Vec::with_capacity((messages / producers) as usize);
                runtime.block_on(async {
                    for _ in 0..messages / producers {
                        let id = spool.next_id();
                        let content = Content::Memory(vec![body.clone()]);
                        let began = Instant::now();
                        if let Err(error) = spool.append(id, meta.clone(), content, Vec::new()).await {
                            return println!("{error}");
                        }
                        mine.push(began.elapsed());
                        if remove {
                            spool.apply(Change::Remove(id));
                        }
                    }
                });
                if let Ok(mut waits) = waits.lock() {
                    waits.append(&mut mine);
                }
            });
        }
    });
    let (took, cpu) = (start.elapsed(), cpu_time().saturating_sub(cpu));
    let mut waits = waits.into_inner().unwrap_or_default();
    waits.sort_unstable();
    let quantile = |q: f64| waits.get((waits.len() as f64 * q) as usize).copied().unwrap_or_default();
    println!(
        "{}: {:.0} messages/s, {:.1} us CPU each, wait {:.1?} median, {:.1?} p99; {} MiB used",
        if remove { "store and remove" } else { "fill" },
        waits.len() as f64 / took.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / waits.len().max(1) as f64,
        quantile(0.5),
        quantile(0.99),
        spool.used_bytes() >> 20,
    );
}

/// User and system time of this process, from `/proc`, in ticks of a hundredth of a second.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
