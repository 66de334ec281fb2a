//! The counts in `baseline.txt`, and what differs from them.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use super::Counts;

/// Growth up to this is let pass: how the compiler lays out a loop is nobody's doing.
const ALLOWED_PER_CENT: u64 = 2;

/// So is growth by up to this many instructions: the random seed of a hash map moves a look-up by
/// as much from run to run.
const ALLOWED: u64 = 25;

/// What the counts depend on besides our code. They are only judged against counts of the same.
const WHAT: &str = "# with: ";

/// The recorded counts.
#[derive(Default)]
pub(super) struct Baseline {
    with: String,
    counts: Counts,
}

fn path() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "benches", "instructions", "baseline.txt"].iter().collect()
}

impl Baseline {
    pub(super) fn read() -> Self {
        let mut this = Self::default();
        for line in fs::read_to_string(path()).unwrap_or_default().lines() {
            if let Some(with) = line.strip_prefix(WHAT) {
                with.clone_into(&mut this.with);
            } else if let Some((name, count)) = line.rsplit_once(' ')
                && let Ok(count) = count.parse()
            {
                this.counts.insert(name.trim().to_owned(), count);
            }
        }
        this
    }
}

/// Prints a table; fails when a count has grown by more than is allowed, under the same tools.
pub(super) fn compare(baseline: &Baseline, counts: &Counts, whole: bool) -> ExitCode {
    let with = tools();
    println!("\n{:32} {:>12} {:>12}", "instructions an operation", "now", "baseline");
    let mut grown = 0;
    for (name, &now) in counts {
        let Some(&before) = baseline.counts.get(name) else {
            println!("{name:32} {now:>12} {:>12}", "-");
            continue;
        };
        let per_cent = (now as f64 / before.max(1) as f64 - 1.0) * 100.0;
        let over = now > before + (before * ALLOWED_PER_CENT / 100).max(ALLOWED);
        grown += u32::from(over);
        let change = if now == before { String::new() } else { format!("{per_cent:>+8.1} %") };
        println!("{name:32} {now:>12} {before:>12} {change}{}", if over { "  GROWN" } else { "" });
    }
    for name in baseline.counts.keys().filter(|name| whole && !counts.contains_key(*name)) {
        println!("{name:32} {:>12} is in the baseline only", "-");
    }
    if baseline.with != with {
        println!("\nNot judged: counted with {with}; the baseline with {}.", baseline.with);
        return ExitCode::SUCCESS;
    }
    if grown == 0 {
        return ExitCode::SUCCESS;
    }
    println!(
        "\n{grown} grew by more than {ALLOWED_PER_CENT} %. Where it is worth that: cargo bench --bench instructions -- --bless"
    );
    ExitCode::FAILURE
}

/// Makes the counts the baseline; those of cases that did not run are kept.
pub(super) fn write(counts: Counts, whole: bool) -> ExitCode {
    let with = tools();
    let mut baseline = Baseline::read();
    if whole {
        baseline.counts.clear();
    } else if baseline.with != with {
        eprintln!("the baseline was counted with {}: bless all cases", baseline.with);
        return ExitCode::FAILURE;
    }
    baseline.counts.extend(counts);
    let head = "# Instructions an operation: cargo bench --bench instructions -- --bless\n";
    let lines = baseline.counts.iter().map(|(name, count)| format!("{name:32} {count}\n"));
    let text: String = [format!("{head}{WHAT}{with}\n")].into_iter().chain(lines).collect();
    match fs::write(path(), text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", path().display());
            ExitCode::FAILURE
        }
    }
}

/// Compiler, valgrind, C library and vector instructions: memchr and libc choose by the last.
fn tools() -> String {
    let first_line = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output();
        let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
        text.lines().next().unwrap_or("?").trim().to_owned()
    };
    let profile = if cfg!(debug_assertions) { ", without optimisation" } else { "" };
    format!(
        "{}, {}, {}, {}{profile}",
        first_line("rustc", "--version"),
        first_line("valgrind", "--version"),
        first_line("getconf", "GNU_LIBC_VERSION"),
        processor()
    )
}

#[cfg(target_arch = "x86_64")]
fn processor() -> &'static str {
    if std::arch::is_x86_feature_detected!("avx2") { "x86_64 with AVX2" } else { "x86_64" }
}

#[cfg(not(target_arch = "x86_64"))]
fn processor() -> &'static str {
    std::env::consts::ARCH
}
