//! `[[eop.faults]]`.

use std::time::Duration;

use crate::config::eop::{EopFault, FaultAction, FaultAt};
use crate::config::table::Table;
use crate::config::value::{self, quoted};

/// The keys that say what happens; a fault has one of them.
const DEEDS: [&str; 3] = ["reply", "action", "certificate"];

/// What `action` may say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Drop,
    Stall,
    HalfClose,
    Reset,
    SlowBanner,
    NoStartTls,
    BrokenHandshake,
}

pub(super) fn fault(t: &Table<'_>, certificates: &[String]) -> EopFault {
    let recipient = t.parsed("recipient", "an address with `*` for any text", value::words);
    let sender = t.parsed("sender", "an address with `*` for any text", value::words);
    let remote_ip_ranges =
        t.list("remote_ip_ranges", "a list of IP ranges", value::range).unwrap_or_default();
    let given = t.choice(
        "at",
        None,
        &[
            ("connect", Some(FaultAt::Connect)),
            ("ehlo", Some(FaultAt::Ehlo)),
            ("starttls", Some(FaultAt::StartTls)),
            ("mail", Some(FaultAt::Mail)),
            ("rcpt", Some(FaultAt::Rcpt)),
            ("data", Some(FaultAt::Data)),
        ],
    );
    let (action, only_at) = action(t, certificates);
    let at = match (given, only_at) {
        (given, Some(only)) => {
            if given.is_some_and(|at| at != only) {
                let problem =
                    format!("`at`: this fault strikes at \"{}\" only; leave `at` out", only.as_str());
                t.refuse("at", t.at("at"), problem);
            }
            only
        }
        (Some(at), None) => at,
        (None, None) => {
            if !["recipient", "sender", "at"].iter().any(|key| t.is_set(key)) {
                t.missing("recipient", "this, `sender` or `at` tells when the fault strikes");
            }
            if t.is_set("recipient") { FaultAt::Rcpt } else { FaultAt::Mail }
        }
    };
    known_by_then(t, at);
    EopFault {
        recipient,
        sender,
        remote_ip_ranges,
        at,
        action,
        times: u32::try_from(t.number("times", 0, (0, 1_000_000), None)).unwrap_or(0),
    }
}

/// A fault that asks for what is said only later would never strike.
fn known_by_then(t: &Table<'_>, at: FaultAt) {
    let early = |key: &'static str| {
        if t.is_set(key) && !t.is_broken("at") {
            let problem =
                format!("`{key}` is not known yet at \"{}\": the fault would never strike", at.as_str());
            t.refuse(key, t.at(key), problem);
        }
    };
    match at {
        FaultAt::Connect | FaultAt::Ehlo | FaultAt::StartTls => {
            early("recipient");
            early("sender");
        }
        FaultAt::Mail => early("recipient"),
        FaultAt::Rcpt | FaultAt::Data => {}
    }
}

/// What happens, and the only place where it can, if there is but one.
fn action(t: &Table<'_>, certificates: &[String]) -> (FaultAction, Option<FaultAt>) {
    let chosen: Vec<&'static str> = DEEDS.into_iter().filter(|key| t.is_set(key)).collect();
    if let [first, second, ..] = chosen[..] {
        let problem = format!("`{first}` and `{second}` exclude each other: a fault does one thing");
        t.refuse(second, t.at(second), problem);
    }
    let duration = t.parsed("duration", "a duration such as \"30s\"", value::positive_duration);
    let reply = t.parsed("reply", "a reply line", reply);
    let certificate = t.parsed("certificate", "the name of a [[certificates]] entry", |text| {
        let found = certificates.iter().find(|name| name.eq_ignore_ascii_case(text)).cloned();
        found.ok_or_else(|| format!("there is no [[certificates]] entry called {}", quoted(text)))
    });
    let word = t.choice(
        "action",
        Word::Drop,
        &[
            ("drop", Word::Drop),
            ("stall", Word::Stall),
            ("half_close", Word::HalfClose),
            ("reset", Word::Reset),
            ("slow_banner", Word::SlowBanner),
            ("no_starttls", Word::NoStartTls),
            ("broken_handshake", Word::BrokenHandshake),
        ],
    );
    let timed = matches!(word, Word::Stall | Word::SlowBanner) && t.is_set("action");
    if timed && !t.is_set("duration") {
        t.missing("duration", "how long nothing is said, as in \"30s\"");
    } else if !timed && t.is_set("duration") && !t.is_broken("action") {
        t.refuse(
            "duration",
            t.at("duration"),
            "`duration` goes with the actions \"stall\" and \"slow_banner\"",
        );
    }
    let length = duration.unwrap_or(Duration::ZERO);
    match chosen.first() {
        None => {
            t.missing("reply", "the line to answer with; or set `action` or `certificate`");
            (FaultAction::Reply(String::new()), None)
        }
        Some(&"reply") => (FaultAction::Reply(reply.unwrap_or_default()), None),
        Some(&"certificate") => {
            (FaultAction::Certificate(certificate.unwrap_or_default()), Some(FaultAt::StartTls))
        }
        Some(_) => match word {
            Word::Drop => (FaultAction::Drop, None),
            Word::Stall => (FaultAction::Stall(length), None),
            Word::HalfClose => (FaultAction::HalfClose, None),
            Word::Reset => (FaultAction::Reset, None),
            Word::SlowBanner => (FaultAction::Stall(length), Some(FaultAt::Connect)),
            Word::NoStartTls => (FaultAction::NoStartTls, Some(FaultAt::Ehlo)),
            Word::BrokenHandshake => (FaultAction::BrokenHandshake, Some(FaultAt::StartTls)),
        },
    }
}

fn reply(text: &str) -> Result<String, String> {
    let bytes = text.as_bytes();
    let code = matches!(bytes, [b'4' | b'5', b'0'..=b'9', b'0'..=b'9', b' ', _, ..]);
    if code && bytes.iter().all(|b| (0x20..0x7F).contains(b)) && bytes.len() <= 510 {
        Ok(text.to_owned())
    } else {
        Err(format!("{} is no refusal such as \"451 4.7.500 Server busy\"", quoted(text)))
    }
}
