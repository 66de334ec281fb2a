//! One file a command. Commands print; they never decide.

pub mod check;
