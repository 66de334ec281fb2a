//! The `gatepost` program: reads the command line and calls one function of `cli`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use gatepost::cli;
use gatepost::log::{DiagnosticsFormat, init_diagnostics};

/// An SMTP relay for the edge of a mail network.
#[derive(Parser)]
#[command(name = "gatepost", version, about, max_term_width = 100)]
struct Cli {
    /// How diagnostics are written to stderr.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, global = true)]
    log_format: LogFormat,
    /// More diagnostics; twice for all.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(clap::Args)]
struct ConfigArg {
    /// Configuration file.
    #[arg(
        short,
        long,
        value_name = "FILE",
        env = "GATEPOST_CONFIG",
        default_value = "/etc/gatepost/gatepost.toml"
    )]
    config: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Run the relay in the foreground until SIGTERM or SIGINT; SIGHUP reloads.
    Run(ConfigArg),
    /// Check a configuration: every problem with its place, then what would run.
    Check {
        #[command(flatten)]
        config: ConfigArg,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Explain an error.
    Explain(cli::ExplainArgs),
    /// Look for what would go wrong with Exchange Online though the configuration is valid.
    Lint {
        #[command(flatten)]
        config: ConfigArg,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Run a whole lab on loopback: edge, EOP stand-in, mailbox server; send one message each way.
    Lab(cli::LabArgs),
    /// What sessions use which TLS.
    #[command(subcommand)]
    Tls(TlsCommand),
    /// Do what Exchange Online does to validate a connector, from here, over a send connector.
    Validate {
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        validate: cli::ValidateArgs,
    },
    /// Ask a running relay for its banner; exit 0 if it answers.
    Healthcheck(ConfigArg),
}

#[derive(Subcommand)]
enum TlsCommand {
    /// Count sessions by TLS version, cipher, peer and outcome from protocol logs, Gatepost's or
    /// Exchange's, and say what stricter rules would break.
    Report {
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        report: cli::TlsReportArgs,
    },
}

fn main() -> ExitCode {
    let args = Cli::parse();
    gatepost::tls::install_provider();
    let format = match args.log_format {
        LogFormat::Text => DiagnosticsFormat::Text,
        LogFormat::Json => DiagnosticsFormat::Json,
    };
    match args.command {
        Command::Run(file) => {
            init_diagnostics(format, args.verbose);
            cli::run(&file.config)
        }
        Command::Check { config, json } => {
            if cli::check(&config.config, json) {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Command::Explain(what) => cli::explain_command(&what),
        Command::Lint { config, json } => cli::lint(&config.config, json),
        Command::Lab(lab) => {
            // What the lab prints is its own output; only what goes wrong belongs beside it.
            if args.verbose > 0 || std::env::var_os("RUST_LOG").is_some() {
                init_diagnostics(format, args.verbose);
            }
            cli::lab(&lab)
        }
        Command::Tls(TlsCommand::Report { config, report }) => cli::tls_report(&report, &config.config),
        Command::Validate { config, validate } => cli::validate_command(&validate, &config.config),
        Command::Healthcheck(file) => cli::healthcheck(&file.config),
    }
}
