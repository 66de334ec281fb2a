//! Magic recipients: `fault+451-4.7.500@any.domain` asks for a fault without any configuration.

use std::time::Duration;

use super::catalogue;
use crate::config::{FaultAction, FaultAt, parse_duration};
use crate::smtp::{Address, EnhancedCode};

/// What the local part of a magic recipient begins with.
const PREFIX: &str = "fault+";
/// Behind it: the fault strikes at the end of data instead of at RCPT.
const AT_DATA: &str = "data-";
/// The longest stall that a recipient may ask for.
const LONGEST_STALL: Duration = Duration::from_mins(10);
/// The answer to one that asks for nothing known.
const UNKNOWN: &str = "501 5.1.3 Invalid address: a magic recipient is fault+451-4.7.500, fault+drop, fault+reset, fault+half-close or fault+stall-30s, each also with data- behind the +";

/// Whether an address asks for a fault.
pub fn is_magic(address: &Address) -> bool {
    let local = address.local_part();
    local.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// The fault that `address` asks for at a stage; none: none there.
pub fn magic(address: &Address, at: FaultAt) -> Option<FaultAction> {
    if !is_magic(address) {
        return None;
    }
    let wanted = address.local_part()[PREFIX.len()..].to_ascii_lowercase();
    let (wanted, then) = match wanted.strip_prefix(AT_DATA) {
        Some(rest) => (rest, FaultAt::Data),
        None => (wanted.as_str(), FaultAt::Rcpt),
    };
    match action(wanted) {
        Some(action) => (at == then).then_some(action),
        None => (at == FaultAt::Rcpt).then(|| FaultAction::Reply(UNKNOWN.to_owned())),
    }
}

fn action(wanted: &str) -> Option<FaultAction> {
    match wanted {
        "drop" => return Some(FaultAction::Drop),
        "reset" => return Some(FaultAction::Reset),
        "half-close" => return Some(FaultAction::HalfClose),
        _ => {}
    }
    if let Some(length) = wanted.strip_prefix("stall-") {
        return Some(FaultAction::Stall(parse_duration(length).ok()?.min(LONGEST_STALL)));
    }
    reply(wanted).map(FaultAction::Reply)
}

/// `451-4.7.500`, or the code alone.
fn reply(wanted: &str) -> Option<String> {
    let (code, enhanced) = match wanted.split_once('-') {
        Some((code, enhanced)) => (code, Some(EnhancedCode::parse(enhanced)?)),
        None => (wanted, None),
    };
    let digits = code.as_bytes();
    let refusal = matches!(digits, [b'4' | b'5', b'0'..=b'9', b'0'..=b'9']);
    // A class that contradicts the code is legal and seen: `451 5.7.3`.
    refusal.then(|| match enhanced {
        Some(enhanced) => format!("{code} {enhanced} {}", catalogue::text(enhanced)),
        None => format!("{code} {}", catalogue::UNKNOWN),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str, at: FaultAt) -> Option<FaultAction> {
        magic(&Address::parse(address).unwrap(), at)
    }

    #[test]
    fn each_form_asks_for_its_fault_at_its_stage() {
        let stall = FaultAction::Stall(Duration::from_secs(30));
        for (local, action) in [
            ("drop", FaultAction::Drop),
            ("reset", FaultAction::Reset),
            ("half-close", FaultAction::HalfClose),
            ("stall-30s", stall),
            ("550-5.4.1", FaultAction::Reply("550 5.4.1 Recipient address rejected: Access denied".into())),
            ("421", FaultAction::Reply("421 Asked for by the recipient's address".into())),
        ] {
            assert_eq!(
                at(&format!("Fault+{local}@any.test"), FaultAt::Rcpt),
                Some(action.clone()),
                "{local}"
            );
            assert_eq!(at(&format!("fault+{local}@any.test"), FaultAt::Data), None, "{local}");
            assert_eq!(at(&format!("fault+data-{local}@any.test"), FaultAt::Data), Some(action), "{local}");
            assert_eq!(at(&format!("fault+data-{local}@any.test"), FaultAt::Rcpt), None, "{local}");
        }
    }

    #[test]
    fn what_asks_for_nothing_known_is_told_so_and_others_are_left_alone() {
        for local in ["fault+", "fault+250", "fault+451-9.9.9", "fault+stall-", "fault+dropp", "fault+451-"] {
            let Some(FaultAction::Reply(line)) = at(&format!("{local}@any.test"), FaultAt::Rcpt) else {
                panic!("{local} is no fault")
            };
            assert!(line.starts_with("501 5.1.3"), "{local}");
        }
        assert_eq!(at("fault@any.test", FaultAt::Rcpt), None);
        assert_eq!(at("x.fault+drop@any.test", FaultAt::Rcpt), None);
    }
}
