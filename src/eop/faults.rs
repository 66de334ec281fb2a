//! `[[eop.faults]]`: when each strikes, and how often.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::config::{EopFault, FaultAction, FaultAt};
use crate::smtp::Address;

/// Where a session stands.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// The stage.
    pub at: FaultAt,
    /// The client.
    pub peer: IpAddr,
    /// The envelope sender, once it is known; the null one is none inside.
    pub sender: Option<Option<&'a Address>>,
    /// The recipient at RCPT, all of them at the end of data.
    pub recipients: &'a [&'a Address],
}

/// The faults, and how often each has struck.
#[derive(Debug)]
pub(super) struct Faults(Vec<(EopFault, AtomicU32)>);

impl Faults {
    pub(super) fn new(list: &[EopFault]) -> Self {
        Self(list.iter().map(|fault| (fault.clone(), AtomicU32::new(0))).collect())
    }

    pub(super) fn actions(&self) -> impl Iterator<Item = &FaultAction> {
        self.0.iter().map(|(fault, _)| &fault.action)
    }

    /// The first fault that strikes now. It is counted, so ask once a moment.
    pub(super) fn strike(&self, moment: &Moment<'_>) -> Option<&FaultAction> {
        let (fault, _) = self.0.iter().filter(|(fault, _)| fits(fault, moment)).find(|(fault, struck)| {
            let once_more = |n: u32| (fault.times == 0 || n < fault.times).then(|| n.saturating_add(1));
            struck.fetch_update(Ordering::Relaxed, Ordering::Relaxed, once_more).is_ok()
        })?;
        Some(&fault.action)
    }
}

fn fits(fault: &EopFault, moment: &Moment<'_>) -> bool {
    let peer =
        fault.remote_ip_ranges.is_empty() || fault.remote_ip_ranges.iter().any(|r| r.contains(moment.peer));
    let sender = fault.sender.as_deref().is_none_or(|pattern| {
        moment.sender.is_some_and(|sender| matches(pattern, sender.map_or("<>", Address::as_str)))
    });
    let recipient = fault
        .recipient
        .as_deref()
        .is_none_or(|pattern| moment.recipients.iter().any(|address| matches(pattern, address.as_str())));
    fault.at == moment.at && peer && sender && recipient
}

/// Whether `pattern`, with `*` for any text, covers all of `text`; letter case does not count.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_lowercase(), text.to_lowercase());
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text) in [
            ("busy@*", "Busy@contoso.com"),
            ("*@contoso.com", "a@contoso.com"),
            ("*", ""),
            ("a*b*c", "a-b-b-c"),
            ("<>", "<>"),
            ("a@b", "A@B"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("busy@*", "lazy@x"),
            ("*@b", "a@b.c"),
            ("a*a", "a"),
            ("a@b", "a@bc"),
            ("", "a"),
            ("ab*bc", "abc"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn a_fault_strikes_as_often_as_it_says_then_the_next_one_does() {
        let fault = |reply: &str, times| EopFault {
            recipient: Some("busy@*".into()),
            sender: None,
            remote_ip_ranges: vec![],
            at: FaultAt::Rcpt,
            action: FaultAction::Reply(reply.into()),
            times,
        };
        let faults = Faults::new(&[fault("451 first", 2), fault("451 second", 1)]);
        let (busy, idle) = (Address::parse("busy@x.test").unwrap(), Address::parse("idle@x.test").unwrap());
        let strike = |address: &Address| {
            let recipients = [address];
            let peer = "127.0.0.1".parse().unwrap();
            let moment = Moment { at: FaultAt::Rcpt, peer, sender: Some(None), recipients: &recipients };
            match faults.strike(&moment) {
                Some(FaultAction::Reply(line)) => Some(line.clone()),
                _ => None,
            }
        };
        assert_eq!(strike(&idle), None);
        let struck: Vec<_> = (0..4).map(|_| strike(&busy)).collect();
        let said = |text: &str| Some(text.to_owned());
        assert_eq!(struck, [said("451 first"), said("451 first"), said("451 second"), None]);
    }
}
