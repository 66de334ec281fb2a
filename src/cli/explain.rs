//! `gatepost explain error`: what a reply or error means.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::explain::{Explanation, Origin, explain};

/// What is to be explained.
#[derive(Args)]
pub struct ExplainArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// What a reply of Exchange, Exchange Online or Gatepost means, its likely causes, and what to
    /// check.
    Error {
        /// The reply or error, in quotes; a whole line of a log or report will do.
        #[arg(required = true, value_name = "TEXT")]
        text: Vec<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Prints the explanation.
pub fn explain_command(args: &ExplainArgs) -> ExitCode {
    let What::Error { text, json } = &args.what;
    let text = text.join(" ");
    let explained = explain(&text);
    let mut out = std::io::stdout().lock();
    // What a closed pipe does not take is lost, and of no concern.
    let _ = if *json { writeln!(out, "{:#}", json!(explained)) } else { write!(out, "{}", page(&explained)) };
    ExitCode::SUCCESS
}

fn page(explained: &[Explanation<'_>]) -> String {
    let mut page = String::new();
    for (n, reply) in explained.iter().enumerate() {
        if n > 0 {
            page += "\nwhich stands in\n\n";
        }
        page += reply.reply;
        page += "\n\n";
        let from = match reply.from {
            Some(Origin::Eop) => "Exchange Online says: ",
            Some(Origin::Exchange) => "Exchange says (and Gatepost): ",
            Some(Origin::Gatepost) => "Gatepost says: ",
            Some(Origin::Any) | None => "",
        };
        page += from;
        page += &reply.meaning;
        page += "\n";
        for (title, list) in [("Likely causes", reply.causes), ("To check", reply.checks)] {
            if !list.is_empty() {
                // Writing to a String cannot fail.
                let _ = writeln!(page, "\n{title}:");
                for item in list {
                    let _ = writeln!(page, "  - {item}");
                }
            }
        }
    }
    page
}
