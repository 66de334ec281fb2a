//! What the hot parsers cost in instructions, counted by callgrind: the same figure on every run,
//! so that a regression of two per cent shows where a clock would see noise.
//!
//! ```sh
//! cargo bench --bench instructions                      # compare with baseline.txt (needs valgrind)
//! cargo bench --bench instructions -- command reply     # only what has one of these in its name
//! cargo bench --bench instructions -- --bless           # what is measured becomes the baseline
//! ```
//!
//! The program runs itself under valgrind, once, and each case becomes a profile of its own in
//! `target/tmp/instructions/`, for `callgrind_annotate`.

mod baseline;
mod cases;
mod input;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use baseline::Baseline;
use cases::Case;

/// How often a case runs while it is counted; its cost is the mean.
const RUNS: u64 = 10;

/// How often it runs before: tables that are built on first use, and memory the allocator has yet
/// to get from the kernel, are nobody's regression.
const WARM_UP: u64 = 3;

/// Told to the child under valgrind: measure, and nothing else.
const MEASURE: &str = "--measure";

/// What each case is measured in; callgrind counts from its entry to its return, and finds it by
/// this path.
const MEASURED: &str = "instructions::measured";

#[inline(never)]
fn measured(run: &mut dyn FnMut()) {
    for _ in 0..RUNS {
        run();
    }
}

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --all-targets` runs this as well, without the first word.
    if !arguments.iter().any(|a| a == "--bench" || a == MEASURE) {
        return ExitCode::SUCCESS;
    }
    arguments.retain(|a| a != "--bench");
    let mut take = |flag: &str| {
        let before = arguments.len();
        arguments.retain(|a| a != flag);
        arguments.len() < before
    };
    let (measure, bless) = (take(MEASURE), take("--bless"));
    let wanted = |case: &&Case| arguments.is_empty() || arguments.iter().any(|a| case.name.contains(a));
    let cases: Vec<Case> = cases::all().into_iter().filter(|case| wanted(&case)).collect();
    if measure {
        measure_all(cases);
        return ExitCode::SUCCESS;
    }
    if cases.is_empty() {
        eprintln!("no case has {} in its name", arguments.join(" or "));
        return ExitCode::FAILURE;
    }
    let whole = arguments.is_empty();
    match count(&cases, &arguments) {
        Ok(counts) if bless => baseline::write(counts, whole),
        Ok(counts) => baseline::compare(&Baseline::read(), &counts, whole),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure_all(cases: Vec<Case>) {
    for case in cases {
        let mut run = (case.prepare)();
        for _ in 0..WARM_UP {
            run();
        }
        measured(&mut run);
    }
}

/// Instructions an operation, by name.
type Counts = BTreeMap<String, u64>;

/// Runs the cases under callgrind.
fn count(cases: &[Case], filter: &[String]) -> Result<Counts, String> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("instructions");
    // What an earlier run left must not be taken for this one's.
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    let profile = directory.join("profile");
    let this = std::env::current_exe().map_err(|e| e.to_string())?;
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(format!("--toggle-collect={MEASURED}"))
        .arg(format!("--dump-after={MEASURED}"))
        .arg(this)
        .arg(MEASURE)
        .args(filter)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("valgrind cannot be run ({e}): install Debian's package valgrind"))?;
    if !output.status.success() {
        return Err(format!("valgrind: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    let mut counts = Counts::new();
    for (case, number) in cases.iter().zip(1..) {
        let written = PathBuf::from(format!("{}.{number}", profile.display()));
        let kept = directory.join(case.name.replace('/', "-"));
        let text = fs::rename(&written, &kept).and_then(|()| fs::read_to_string(&kept));
        let text = text.map_err(|e| format!("{}: {e}", written.display()))?;
        let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse::<u64>().ok());
        let total = total.ok_or_else(|| format!("{}: no totals", kept.display()))?;
        counts.insert(case.name.to_owned(), total / RUNS);
    }
    println!("profiles: callgrind_annotate {}/NAME", directory.display());
    Ok(counts)
}
