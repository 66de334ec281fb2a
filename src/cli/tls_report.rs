//! `gatepost tls report`: counts by TLS version, and what stricter rules would break.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use crate::config::{Config, parse_duration};
use crate::report::{self, By, Limits, Rule, Source, Stamp, Style};

/// Columns where there is no terminal.
const WIDTH: usize = 140;

/// What to report, and how.
#[derive(Debug, clap::Args)]
pub struct TlsReportArgs {
    /// Protocol logs to read, files or directories, gzip too; `-` is standard input. Without any,
    /// those of the configuration's `log_dir`.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Only sessions that ended since then: a duration such as 7d, or an RFC 3339 time.
    #[arg(long, value_name = "D", value_parser = since)]
    since: Option<SystemTime>,
    /// Sum up by this.
    #[arg(long, value_enum)]
    by: Option<Grouping>,
    /// Only sessions that this rule would break, or that fail as it is.
    #[arg(long, value_enum, value_name = "RULE")]
    would_fail: Option<RuleName>,
    /// List so many peers; 0 = all.
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Print JSON.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV.
    #[arg(long)]
    csv: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Grouping {
    Version,
    Peer,
    Connector,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum RuleName {
    #[value(name = "min-1.2")]
    MinTls12,
    #[value(name = "min-1.3")]
    MinTls13,
    NoPlainText,
    VerifiedNames,
}

impl From<RuleName> for Rule {
    fn from(name: RuleName) -> Self {
        match name {
            RuleName::MinTls12 => Self::MinTls12,
            RuleName::MinTls13 => Self::MinTls13,
            RuleName::NoPlainText => Self::NoPlainText,
            RuleName::VerifiedNames => Self::VerifiedNames,
        }
    }
}

/// Reads the logs and prints the report; exit code 1 if some of them could not be read.
pub fn tls_report(args: &TlsReportArgs, config: &std::path::Path) -> ExitCode {
    match print(args, config) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("gatepost: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print(args: &TlsReportArgs, config: &std::path::Path) -> Result<bool, String> {
    let sources = sources(args, config)?;
    let counts = report::read(&sources, args.since.map(Stamp::of), Limits::default());
    let mut out = BufWriter::new(io::stdout().lock());
    let style = Style { width: width(), top: args.top };
    let rule = args.would_fail.map(Rule::from);
    let by = match args.by {
        None => By::All,
        Some(Grouping::Version) => By::Version,
        Some(Grouping::Peer) => By::Peer,
        Some(Grouping::Connector) => By::Connector,
    };
    let written = if args.json || args.csv {
        let rows = report::rows(&counts, by, rule);
        let write = if args.json { report::json } else { report::csv };
        // A program that reads the rows does not look for remarks among them.
        for remark in report::remarks(&counts.notes) {
            eprintln!("gatepost: note: {remark}");
        }
        write(&rows, &counts.names, &mut out)
    } else if by == By::All && rule.is_none() {
        report::overview(&counts, style, &mut out)
    } else {
        report::counted(&counts, by, rule, style, &mut out)
    };
    match written.and_then(|()| out.flush()) {
        // As in `tls report | head`.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
        Err(e) => return Err(format!("cannot write the report: {e}")),
        Ok(()) => {}
    }
    for failure in &counts.notes.failed {
        eprintln!("gatepost: {failure}; what could be read of it is counted");
    }
    Ok(counts.notes.failed.is_empty())
}

/// The logs named, or those of the configuration.
fn sources(args: &TlsReportArgs, config: &std::path::Path) -> Result<Vec<Source>, String> {
    if !args.paths.is_empty() {
        let sources = report::find(&args.paths, args.since)?;
        if sources.is_empty() && args.since.is_none() {
            let paths: Vec<_> = args.paths.iter().map(|path| path.display().to_string()).collect();
            eprintln!("gatepost: note: no logs (*.LOG, *.gz) in {}", paths.join(", "));
        }
        return Ok(sources);
    }
    let config = Config::load(config)
        .map_err(|problems| format!("{problems}\nname a configuration (-c FILE), or the logs to read"))?
        .config;
    let logs = config.server.log_dir.join("ProtocolLog");
    if !logs.exists() {
        eprintln!("gatepost: note: there is no {} yet; has the relay run?", logs.display());
        return Ok(Vec::new());
    }
    report::find(&[logs], args.since)
}

/// `7d` before now, or a time.
fn since(text: &str) -> Result<SystemTime, String> {
    if let Ok(ago) = parse_duration(text) {
        return SystemTime::now().checked_sub(ago).ok_or_else(|| "that is before all clocks".to_owned());
    }
    let time: jiff::Timestamp = text.parse().map_err(|_| {
        "neither a duration such as 90m, 12h or 7d nor a time such as 2026-10-05T09:00:00Z".to_owned()
    })?;
    Ok(time.into())
}

/// Columns to fill: the terminal's, and enough for most names where there is none.
fn width() -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let terminal = || rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col));
    said.or_else(terminal).filter(|&columns| columns > 0).unwrap_or(WIDTH).clamp(80, 250)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn since_takes_both() {
        let time = since("2026-10-05T09:00:00Z").unwrap();
        assert_eq!(Stamp::of(time).to_string(), "2026-10-05T09:00:00.000Z");
        assert_eq!(since("2026-10-05T11:00:00+02:00").unwrap(), time);
        let ago = since("2d").unwrap().elapsed().unwrap();
        assert!(ago >= Duration::from_hours(48) && ago < Duration::from_hours(49));
        assert!(since("yesterday").unwrap_err().contains("7d"));
    }
}
