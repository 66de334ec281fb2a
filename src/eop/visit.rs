//! One session with the stand-in: who it is, what was decided, which faults it suffers.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::{Attribution, Moment, Shown, StandIn, magic, replies};
use crate::config::{FaultAction, FaultAt, lies_below};
use crate::smtp::Address;

/// Recipients of one domain in a transaction (exchange-edge.md 8.10).
const MAX_OF_A_DOMAIN: usize = 200;
/// A host that calls itself something below this is not who it says.
const OWN_NAMES: &str = "mail.protection.outlook.com";

/// A session.
#[derive(Debug)]
pub struct Visit {
    stand_in: Arc<StandIn>,
    peer: IpAddr,
    fqdn: String,
    session: String,
    /// The client is one of the tenant's cloud mailboxes.
    cloud: bool,
    attribution: Option<Attribution>,
    /// The last decision, for the session event.
    decided: Option<String>,
    /// When the running transaction began.
    began: Instant,
    no_starttls: bool,
    handshake: Option<FaultAction>,
}

/// A fault that strikes now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strike {
    /// What to do; a reply is ready to be sent.
    pub action: FaultAction,
    /// For the log.
    pub text: String,
}

impl Visit {
    /// A session from `peer`. `cloud`: its receive connector lets it relay anywhere, so it stands
    /// for the tenant's cloud mailboxes.
    pub fn new(stand_in: Arc<StandIn>, peer: IpAddr, fqdn: &str, session: String, cloud: bool) -> Self {
        Self {
            stand_in,
            peer,
            fqdn: fqdn.to_owned(),
            session,
            cloud,
            attribution: None,
            decided: None,
            began: Instant::now(),
            no_starttls: false,
            handshake: None,
        }
    }

    /// The banner.
    pub fn banner(&self) -> String {
        replies::banner(&self.fqdn, SystemTime::now(), &self.session)
    }

    /// A refusal with the suffix that every one has.
    pub fn traced(&self, line: &str) -> String {
        format!("{line} {}", replies::trace(&self.fqdn, SystemTime::now(), &self.session))
    }

    /// The middle of the reply to an accepted message.
    pub fn rate(&self, bytes: u64) -> String {
        replies::rate(bytes, self.began.elapsed())
    }

    /// Begins a transaction: whose mail it is. The text is the decision; with it comes the reply,
    /// if it is to be refused.
    pub fn attribute(
        &mut self,
        shown: &Shown<'_>,
        sender: Option<&Address>,
    ) -> (String, Option<&'static str>) {
        self.began = Instant::now();
        let (attribution, refusal) = if self.cloud {
            (Attribution::Cloud, None)
        } else {
            match self.stand_in.attribute(self.peer, shown, sender) {
                Ok(attribution) => (attribution, None),
                Err((attribution, refusal)) => (attribution, Some(refusal)),
            }
        };
        let mut text = format!("{attribution}; tenant {}", self.stand_in.tenant);
        if refusal.is_some() {
            text.push_str("; refused, as that connector requires TLS");
        }
        self.decided = Some(text.clone());
        self.attribution = Some(attribution);
        (text, refusal)
    }

    /// Why `recipient` is refused, given those that the transaction has already.
    pub fn refusal<'a>(
        &self,
        helo: &str,
        recipient: &Address,
        others: impl Iterator<Item = &'a Address>,
    ) -> Option<&'static str> {
        let is = |name: &str| name.eq_ignore_ascii_case(helo);
        let own = is(&self.fqdn) || is(OWN_NAMES) || lies_below(helo, OWN_NAMES);
        if own && !self.cloud {
            return Some(replies::BAD_HELO);
        }
        let same = |other: &&Address| other.domain().eq_ignore_ascii_case(recipient.domain());
        if others.filter(same).count() >= MAX_OF_A_DOMAIN {
            return Some(replies::TOO_MANY_RECIPIENTS);
        }
        match &self.attribution {
            Some(attribution) => self.stand_in.refusal(attribution, recipient),
            None => Some(replies::RELAY_DENIED),
        }
    }

    /// The last decision, for the session event.
    pub fn decided(&self) -> Option<&str> {
        self.decided.as_deref()
    }

    /// Whether STARTTLS is neither offered nor known.
    pub fn hides_starttls(&self) -> bool {
        self.no_starttls
    }

    /// The fault of the handshake to come: broken, or another certificate.
    pub fn handshake(&self) -> Option<&FaultAction> {
        self.handshake.as_ref()
    }

    /// The fault that strikes at a stage. Ask once a stage: faults are counted.
    pub fn strike(
        &mut self,
        at: FaultAt,
        sender: Option<Option<&Address>>,
        recipients: &[&Address],
    ) -> Option<Strike> {
        let moment = Moment { at, peer: self.peer, sender, recipients };
        let configured = self.stand_in.faults.strike(&moment).cloned();
        let (action, asked) = match configured {
            Some(action) => (action, false),
            None => (recipients.iter().find_map(|address| magic(address, at))?, true),
        };
        let action = match action {
            FaultAction::Reply(line) => {
                let line = line.replace("%ip", &self.peer.to_string());
                // What a file says is the whole reply.
                FaultAction::Reply(if asked { self.traced(&line) } else { line })
            }
            FaultAction::NoStartTls => {
                self.no_starttls = true;
                FaultAction::NoStartTls
            }
            FaultAction::BrokenHandshake | FaultAction::Certificate(_) => {
                self.handshake = Some(action.clone());
                action
            }
            other => other,
        };
        let by = if asked { "asked for by the recipient" } else { "by configuration" };
        let text = format!("{} at {}, {by}", name(&action), at.as_str());
        Some(Strike { action, text })
    }
}

/// A fault as the log names it.
fn name(action: &FaultAction) -> String {
    match action {
        FaultAction::Reply(_) => "reply".into(),
        FaultAction::Drop => "drop".into(),
        FaultAction::Stall(length) => format!("stall for {length:?}"),
        FaultAction::HalfClose => "half_close".into(),
        FaultAction::Reset => "reset".into(),
        FaultAction::NoStartTls => "no_starttls".into(),
        FaultAction::BrokenHandshake => "broken_handshake".into(),
        FaultAction::Certificate(name) => format!("certificate '{name}'"),
    }
}
