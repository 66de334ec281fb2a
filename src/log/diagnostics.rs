//! What an operator reads in journald or `docker logs`.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// Form of the diagnostics on stderr (`--log-format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DiagnosticsFormat {
    /// One readable line an event.
    #[default]
    Text,
    /// One JSON object an event.
    Json,
}

/// Sends diagnostics to stderr: our own from `info` on, others' from `warn` on, one step more of
/// ours for each `-v`. `RUST_LOG` overrules both. A second call does nothing.
pub fn init_diagnostics(format: DiagnosticsFormat, verbose: u8) {
    let filter = EnvFilter::builder().try_from_env().unwrap_or_else(|_| default_filter(verbose));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        // The complaint about a stderr that cannot be written would go to stderr, and panic there:
        // a full disk or a reader that went away would end sessions and the spool's threads.
        .log_internal_errors(false);
    // An error means that a subscriber is set already, which is then the one to keep.
    let _ = match format {
        DiagnosticsFormat::Text => builder.try_init(),
        DiagnosticsFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}

fn default_filter(verbose: u8) -> EnvFilter {
    EnvFilter::new(match verbose {
        0 => "warn,gatepost=info",
        1 => "warn,gatepost=debug",
        2 => "info,gatepost=trace",
        _ => "trace",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_shows_our_own_information() {
        assert_eq!(default_filter(0).to_string(), "gatepost=info,warn");
        assert_eq!(default_filter(1).to_string(), "gatepost=debug,warn");
    }
}
