//! Tests that look at several parsers at once, or hold them against another implementation.

mod command;
mod data;
mod differential;
mod reference;
mod reply;
