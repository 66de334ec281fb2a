//! What the hot parsers cost in instructions, counted by callgrind: the same figure on every run,
//! so that a regression of two per cent shows where a clock would see noise.
//!
//! ```sh
//! cargo bench --bench instructions                      # compare with baseline.txt (needs valgrind)
//! cargo bench --bench instructions -- command reply     # only what has one of these in its name
//! cargo bench --bench instructions -- --bless           # what is measured becomes the baseline
//! ```
//!
//! The program runs itself under valgrind. Each case leaves a profile in `target/tmp/instructions/`,
//! for `callgrind_annotate`.

mod baseline;
mod cases;
mod input;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use baseline::Baseline;
use cases::Case;

/// How often a case runs while it is counted; its cost is the mean.
const RUNS: u64 = 10;

/// How often it runs before: tables that are built on first use, and memory the allocator has yet
/// to get from the kernel, are nobody's regression.
const WARM_UP: u64 = 3;

/// Told to the child under valgrind, before the name of a case.
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
    if let [flag, name] = arguments.as_slice()
        && flag == MEASURE
    {
        return measure(name);
    }
    // `cargo test --all-targets` runs this as well, without the word.
    if !arguments.iter().any(|a| a == "--bench") {
        return ExitCode::SUCCESS;
    }
    let bless = arguments.iter().any(|a| a == "--bless");
    arguments.retain(|a| !a.starts_with("--"));
    let wanted = |case: &Case| arguments.is_empty() || arguments.iter().any(|a| case.name.contains(a));
    let cases: Vec<Case> = cases::all().into_iter().filter(wanted).collect();
    if cases.is_empty() {
        eprintln!("no case has {} in its name", arguments.join(" or "));
        return ExitCode::FAILURE;
    }
    let whole = arguments.is_empty();
    match count(&cases) {
        Ok(counts) if bless => baseline::write(counts, whole),
        Ok(counts) => baseline::compare(&Baseline::read(), &counts, whole),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// What the child does.
fn measure(name: &str) -> ExitCode {
    let Some(case) = cases::all().into_iter().find(|case| case.name == name) else {
        return ExitCode::FAILURE;
    };
    let mut run = (case.prepare)();
    for _ in 0..WARM_UP {
        run();
    }
    measured(&mut run);
    ExitCode::SUCCESS
}

/// Instructions an operation, by name.
type Counts = BTreeMap<String, u64>;

/// Runs the cases under callgrind, each in a process of its own: what the allocator was left with by
/// one must not be counted with the next.
fn count(cases: &[Case]) -> Result<Counts, String> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("instructions");
    fs::create_dir_all(&directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    let counts = cases.iter().map(|case| Ok((case.name.to_owned(), count_one(case.name, &directory)?)));
    let counts = counts.collect::<Result<Counts, String>>()?;
    println!("profiles: callgrind_annotate --threshold=100 {}/NAME", directory.display());
    Ok(counts)
}

fn count_one(name: &str, directory: &Path) -> Result<u64, String> {
    let profile = directory.join(name.replace('/', "-"));
    // What an earlier run left must not be taken for this one's.
    let _ = fs::remove_file(&profile);
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(format!("--toggle-collect={MEASURED}"))
        .arg(std::env::current_exe().map_err(|e| e.to_string())?)
        .args([MEASURE, name])
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("valgrind cannot be run ({e}): install Debian's package valgrind"))?;
    if !output.status.success() {
        return Err(format!("valgrind: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    let text = fs::read_to_string(&profile).map_err(|e| format!("{}: {e}", profile.display()))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse::<u64>().ok());
    let total = total.filter(|total| *total > 0).ok_or(format!("{}: nothing counted", profile.display()))?;
    Ok(total / RUNS)
}
