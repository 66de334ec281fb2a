//! One file a command. Commands print; they never decide.

pub mod check;
mod explain;
mod healthcheck;
mod lab;
mod lint;
mod run;
mod tls_report;
mod validate;

pub use check::check;
pub use explain::{ExplainArgs, explain_command};
pub use healthcheck::healthcheck;
pub use lab::{LabArgs, lab};
pub use lint::lint;
pub use run::run;
pub use tls_report::{TlsReportArgs, tls_report};
pub use validate::{ValidateArgs, validate_command};
