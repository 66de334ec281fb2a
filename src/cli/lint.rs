//! `gatepost lint`: what would go wrong with Exchange Online though the configuration is valid.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use serde_json::json;

use crate::config::Config;

use super::check::check_to;

/// Prints what is found; exit 0 when there is nothing. A configuration that is not valid is
/// reported as by `check`.
pub fn lint(path: &Path, json: bool) -> ExitCode {
    let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
    let inspection = Config::inspect(path);
    let Some(config) = inspection.config else {
        let _ = check_to(path, json, &mut out, &mut err);
        return ExitCode::FAILURE;
    };
    let findings = match crate::lint::lint(&config, SystemTime::now()) {
        Ok(findings) => findings,
        Err(error) => {
            let _ = writeln!(err, "gatepost: {error}");
            return ExitCode::FAILURE;
        }
    };
    // What a closed pipe does not take is lost, and changes nothing about the verdict.
    if json {
        let _ = writeln!(out, "{:#}", json!(findings));
    } else if findings.is_empty() {
        let _ = writeln!(out, "{}: nothing found.", path.display());
    } else {
        for finding in &findings {
            let _ = writeln!(
                out,
                "{}: {}\n    {}\n    Change: {}",
                finding.rule, finding.subject, finding.problem, finding.change
            );
        }
        let count = findings.len();
        let _ = writeln!(out, "{count} {}.", if count == 1 { "finding" } else { "findings" });
    }
    if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
