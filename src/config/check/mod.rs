//! What a file can get wrong beyond a single key: each check by its own name.

mod certificates;
mod general;
mod receive;
mod send;

use super::read::Draft;
use super::report::Report;

/// Runs every check over what was read; references to certificates are resolved on the way.
pub(super) fn check(report: &Report, draft: &mut Draft<'_>) {
    general::check(report, draft);
    receive::check(report, draft);
    send::check(report, draft);
    certificates::check(report, draft);
}
