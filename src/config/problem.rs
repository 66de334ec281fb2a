//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::PathBuf;

use super::model::Config;

/// One thing to correct, at its place in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file that holds it, an included one perhaps.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file.display(), self.line, self.column, self.message)
    }
}

/// Everything wrong with a configuration, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// A configuration that can run, and what its author should look at nevertheless.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Risky or ineffective settings.
    pub warnings: Vec<Problem>,
}

/// All that reading a configuration brought to light; `check` prints it whole.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// The configuration, when nothing is wrong with it.
    pub config: Option<Config>,
    /// What keeps it from running; empty when there is a `config`.
    pub errors: Vec<Problem>,
    /// Risky or ineffective settings.
    pub warnings: Vec<Problem>,
}
