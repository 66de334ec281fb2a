//! One file a command. Commands print; they never decide.

pub mod check;
mod healthcheck;
mod lab;
mod lint;
mod run;

pub use check::check;
pub use healthcheck::healthcheck;
pub use lab::{LabArgs, lab};
pub use lint::lint;
pub use run::run;
