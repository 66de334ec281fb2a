//! Names, accepted domains, timers, the admin surface and the user.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use crate::config::read::{Draft, Entry};
use crate::config::report::{Pos, Report};
use crate::config::value::quoted;

pub(super) fn check(report: &Report, draft: &Draft<'_>) {
    names_are_unique(report, "receive connector", &draft.receive_connectors, |c| &c.name);
    names_are_unique(report, "send connector", &draft.send_connectors, |c| &c.name);
    names_are_unique(report, "certificate", &draft.certificates, |c| &c.name);
    accepted_domains_are_unique(report, draft);
    delay_notice_comes_before_expiry(report, draft);
    connectors_fit_the_transport_limit(report, draft);
    admin_is_guarded(report, draft);
    user_exists(report, draft);
}

/// Names differ by more than case, as in Exchange.
fn names_are_unique<T>(report: &Report, what: &str, entries: &[Entry<'_, T>], name: impl Fn(&T) -> &String) {
    let mut first: HashMap<String, Pos> = HashMap::new();
    for entry in entries.iter().filter(|entry| entry.table.is_set("name") && !entry.table.is_broken("name")) {
        let (name, at) = (name(&entry.value), entry.table.at("name"));
        match first.entry(name.to_lowercase()) {
            Slot::Occupied(slot) => {
                let place = report.place(*slot.get(), at);
                report.error(at, format!("there is another {what} called {}, at {place}", quoted(name)));
            }
            Slot::Vacant(slot) => {
                slot.insert(at);
            }
        }
    }
}

fn accepted_domains_are_unique(report: &Report, draft: &Draft<'_>) {
    let mut first: HashMap<String, Pos> = HashMap::new();
    for entry in &draft.accepted_domains {
        let (domain, at) = (entry.value.domain.to_string(), entry.table.at("domain"));
        match first.entry(domain) {
            Slot::Occupied(slot) => {
                let place = report.place(*slot.get(), at);
                report.error(at, format!("{} is already an accepted domain, at {place}", quoted(slot.key())));
            }
            Slot::Vacant(slot) => {
                slot.insert(at);
            }
        }
    }
}

fn delay_notice_comes_before_expiry(report: &Report, draft: &Draft<'_>) {
    let (transport, t) = (&draft.transport.value, &draft.transport.table);
    if transport.delay_notification_timeout >= transport.message_expiration_timeout
        && !t.is_broken("delay_notification_timeout")
        && !t.is_broken("message_expiration_timeout")
    {
        let key = if t.is_set("delay_notification_timeout") {
            "delay_notification_timeout"
        } else {
            "message_expiration_timeout"
        };
        report.warn(
            t.at(key),
            "`delay_notification_timeout` is not shorter than `message_expiration_timeout`: no delay notice will be sent",
        );
    }
}

/// Only where the connector says a size itself: defaults need no comment.
fn connectors_fit_the_transport_limit(report: &Report, draft: &Draft<'_>) {
    let limit = draft.transport.value.max_message_size;
    let receive = draft.receive_connectors.iter().map(|c| (&c.table, c.value.max_message_size));
    let send = draft.send_connectors.iter().map(|c| (&c.table, c.value.max_message_size));
    for (table, size) in receive.chain(send) {
        if table.is_set("max_message_size") && size != u64::MAX && size > limit {
            report.warn(
                table.at("max_message_size"),
                "`max_message_size` is larger than the one of [transport], which therefore holds here",
            );
        }
    }
}

fn admin_is_guarded(report: &Report, draft: &Draft<'_>) {
    let Some(admin) = &draft.admin else { return };
    let open = admin.value.listen.is_some_and(|address| !address.ip().to_canonical().is_loopback());
    if open && !admin.table.is_set("token_file") {
        report.error(
            admin.table.at("listen"),
            "`listen` is not a loopback address: `token_file` is required, or anyone who reaches it rules the queue",
        );
    }
}

/// Whether the user exists is decided at the start, where the same file may find another user
/// list than here; so this only warns.
fn user_exists(report: &Report, draft: &Draft<'_>) {
    let Some(user) = &draft.server.value.user else { return };
    if let Ok(None) = nix::unistd::User::from_name(user) {
        let at = draft.server.table.at("user");
        report.warn(at, format!("there is no user {} on this machine; the start would fail", quoted(user)));
    }
}
