//! The counters as a report shows them: summed up, chosen, in order.

use std::collections::{HashMap, HashSet};

use super::names::{Name, Names};
use super::scan::Counts;
use super::session::{Outcome, Peer, Verification};
use super::tally::{Count, Key};
use super::verdict::{Rule, Verdict};

/// What to count by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Everything.
    All,
    /// Direction, version, cipher, group and outcome.
    Version,
    /// Direction, connector, peer, version and outcome; the error of a failed handshake.
    Peer,
    /// Direction, connector, version and outcome.
    Connector,
}

impl By {
    fn key(self, key: &Key) -> Key {
        let any = Key {
            cipher: Name::ANY,
            group: Name::ANY,
            error: Name::ANY,
            verification: Verification::Any,
            verified_name: Name::ANY,
            ..*key
        };
        match self {
            Self::All => *key,
            Self::Version => {
                Key { connector: Name::ANY, peer: Peer::Any, cipher: key.cipher, group: key.group, ..any }
            }
            // Why a handshake fails is what its peer's admin asks first.
            Self::Peer if key.outcome == Outcome::Failed => Key { error: key.error, ..any },
            Self::Peer => any,
            Self::Connector => Key { peer: Peer::Any, ..any },
        }
    }
}

/// The counters that a rule would hit (all, without one), summed up, the largest first.
pub fn rows(counts: &Counts, by: By, would_fail: Option<Rule>) -> Vec<(Key, Count)> {
    let chosen = counts.rows.iter().filter(|(key, _)| would_fail.is_none_or(|rule| is_hit(key, rule)));
    let mut sums: HashMap<Key, Count> = HashMap::new();
    for (key, count) in chosen {
        sums.entry(by.key(key)).and_modify(|sum| sum.add(count)).or_insert_with(|| count.clone());
    }
    let mut rows: Vec<_> = sums.into_iter().collect();
    if !matches!(by, By::All | By::Peer) {
        // A name of one peer of many says nothing.
        for (_, count) in &mut rows {
            count.helo = None;
        }
    }
    rows.sort_by_cached_key(|(key, count)| (std::cmp::Reverse(count.sessions), order(key, &counts.names)));
    rows
}

/// Whether the rule would break these sessions, or they are broken as it is.
fn is_hit(key: &Key, rule: Rule) -> bool {
    matches!(key.verdict(rule), Verdict::Fails | Verdict::FailsAlready)
}

fn order(key: &Key, names: &Names) -> (bool, std::cmp::Reverse<super::Version>, Outcome, Peer, String) {
    let texts = [key.connector, key.cipher, key.group, key.error, key.verified_name];
    let texts = texts.map(|name| names.text(name)).join("\0");
    let out = key.direction == crate::log::Direction::Out;
    (out, std::cmp::Reverse(key.version), key.outcome, key.peer, texts)
}

/// What a rule would do to all that was counted.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Effect {
    /// Sessions that would have failed.
    pub fails: u64,
    /// Messages in them.
    pub messages: u64,
    /// Peers of them, as far as they are known one by one.
    pub peers: u64,
    /// Sessions that failed as it is.
    pub fails_already: u64,
    /// Sessions of which the log does not show enough.
    pub cannot_tell: u64,
}

/// What a rule would do.
pub fn effect(counts: &Counts, rule: Rule) -> Effect {
    let mut effect = Effect::default();
    let mut peers = HashSet::new();
    for (key, count) in &counts.rows {
        match key.verdict(rule) {
            Verdict::Passes => {}
            Verdict::Fails => {
                effect.fails += count.sessions;
                effect.messages += count.messages;
                peers.insert(key.peer);
            }
            Verdict::FailsAlready => effect.fails_already += count.sessions,
            Verdict::CannotTell => effect.cannot_tell += count.sessions,
        }
    }
    effect.peers = peers.len() as u64;
    effect
}

/// A peer as text; none for a sum of several.
pub(super) fn peer_text(peer: Peer, names: &Names) -> Option<String> {
    match peer {
        Peer::Ip(ip) => Some(ip.to_string()),
        Peer::Text(name) => Some(names.text(name).to_owned()),
        Peer::Others => Some("(others)".to_owned()),
        Peer::Any => None,
    }
}

/// `EDGE01\Default` as server and connector; the log of sessions out names no server.
pub(super) fn connector_parts(text: &str) -> (Option<&str>, &str) {
    match text.split_once('\\') {
        Some((server, connector)) => (Some(server), connector),
        None => (None, text),
    }
}
