//! `gatepost validate`: what Exchange Online's "Validate this connector" does, from here.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use crate::config::{Config, parse_duration};
use crate::validate::{self, Options, Report, Step, StepResult, ValidateError};

use super::check::check_to;

/// What is to be validated.
#[derive(Debug, clap::Args)]
pub struct ValidateArgs {
    /// The send connector's name.
    #[arg(value_name = "CONNECTOR")]
    connector: String,
    /// Recipient of the test message, in a domain that the connector covers.
    #[arg(long, value_name = "ADDRESS")]
    to: String,
    /// Sender [default: `O365ConnectorValidation@` the first authoritative accepted domain].
    #[arg(long, value_name = "ADDRESS")]
    from: Option<String>,
    /// Subject of the test message.
    #[arg(long, value_name = "TEXT", default_value = validate::SUBJECT)]
    subject: String,
    /// Body of the test message [default: a sentence that says what it is for].
    #[arg(long, value_name = "TEXT")]
    body: Option<String>,
    /// How long each step may take.
    #[arg(long, value_name = "D", value_parser = limit, default_value = "30s")]
    timeout: Duration,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn limit(text: &str) -> Result<Duration, String> {
    let limit = parse_duration(text)?;
    if limit < Duration::from_secs(1) {
        return Err("a step needs some time: give `1s` or more".to_owned());
    }
    Ok(limit)
}

/// Walks the steps and prints each as it ends; exit 0 when all passed, 1 when one failed or
/// nothing could be tried.
pub fn validate_command(args: &ValidateArgs, path: &Path) -> ExitCode {
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    let Some(config) = Config::inspect(path).config else {
        let _ = check_to(path, false, &mut out, &mut err);
        return ExitCode::FAILURE;
    };
    match run(args, &config) {
        // What a closed pipe does not take is lost, and changes nothing about the verdict.
        Ok(report) => {
            let _ = if args.json {
                writeln!(out, "{:#}", json!(report))
            } else {
                write!(out, "{}", summary(&report))
            };
            if report.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            let _ = writeln!(err, "gatepost: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &ValidateArgs, config: &Config) -> Result<Report, Box<dyn std::error::Error>> {
    let options = Options {
        to: args.to.clone(),
        from: args.from.clone(),
        subject: Some(args.subject.clone()),
        body: args.body.clone(),
        limit: args.timeout,
    };
    let mut page = Page::default();
    let mut progress = |task: &str, step: &Step| {
        if !args.json {
            let _ = io::stdout().write_all(page.add(task, step).as_bytes());
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let walked: Result<Report, ValidateError> =
        runtime.block_on(validate::validate(config, &args.connector, &options, &mut progress));
    Ok(walked?)
}

/// The steps as a page: a heading where the task or the address changes.
#[derive(Default)]
struct Page {
    task: String,
    address: Option<String>,
}

impl Page {
    fn add(&mut self, task: &str, step: &Step) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(task, step, &mut text);
        text
    }

    fn write(&mut self, task: &str, step: &Step, out: &mut String) -> fmt::Result {
        if self.task != task {
            let gap = if self.task.is_empty() { "" } else { "\n" };
            writeln!(out, "{gap}{task}")?;
            task.clone_into(&mut self.task);
            self.address = None;
        }
        if self.address != step.address
            && let Some(address) = &step.address
        {
            writeln!(out, "  {}", validate::place(&step.host, address))?;
        }
        self.address.clone_from(&step.address);
        let Step { step: kind, result, duration_ms, detail, .. } = step;
        let time = if *result == StepResult::Skipped { String::new() } else { format!("{duration_ms} ms") };
        writeln!(out, "    {result:<7}  {kind:<17}  {time:>8}  {detail}")?;
        let Some(failure) = &step.failure else { return Ok(()) };
        let mut line = |label: &str, value: &str| writeln!(out, "             {label:<9} {value}");
        line("Change:", &failure.change)?;
        if let Some(error) = &failure.eop_error {
            line("EOP:", error)?;
        }
        if let Some(meaning) = &failure.meaning {
            line("Meaning:", meaning)?;
        }
        for (label, list) in [("Causes:", &failure.causes), ("Check:", &failure.checks)] {
            for (n, item) in list.iter().enumerate() {
                line(if n == 0 { label } else { "" }, item)?;
            }
        }
        Ok(())
    }
}

fn summary(report: &Report) -> String {
    let mut text = String::from("\n");
    // Writing to a String cannot fail.
    let _ = write_summary(report, &mut text);
    text
}

fn write_summary(report: &Report, out: &mut String) -> fmt::Result {
    for note in &report.notes {
        writeln!(out, "Note: {note}")?;
    }
    for task in &report.tasks {
        writeln!(out, "{}: {}", task.name, if task.passed { "Succeeded" } else { "Failed" })?;
    }
    let verdict = if report.passed { "validates" } else { "does not validate" };
    writeln!(
        out,
        "Send connector {} (tls = \"{}\") {verdict}; test message from {} to {}.",
        report.connector, report.tls, report.sender, report.recipient
    )
}
