//! Sessions counted by what they have in common; a bounded number of counters.

use std::collections::HashMap;

use super::names::{Name, printable};
use super::session::{Outcome, Peer, Session, Verification};
use super::stamp::Stamp;
use super::verdict::{Rule, Verdict};
use super::words::Version;
use crate::log::Direction;

/// What sessions are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// Which way they ran.
    pub direction: Direction,
    /// The `connector-id` of the log.
    pub connector: Name,
    /// The other end.
    pub peer: Peer,
    /// Negotiated, or offered where the handshake failed.
    pub version: Version,
    /// What they came to.
    pub outcome: Outcome,
    /// IANA's name of the suite, or Windows' of its algorithms.
    pub cipher: Name,
    /// IANA's name of the group, or Windows' of the key exchange and its bits.
    pub group: Name,
    /// Why the handshake or the certificate failed.
    pub error: Name,
    /// Whether the peer's certificate was checked.
    pub verification: Verification,
    /// The name it was taken for.
    pub verified_name: Name,
}

impl Key {
    /// What a rule would do to these sessions.
    pub fn verdict(&self, rule: Rule) -> Verdict {
        rule.verdict(self.outcome, self.version, self.verification)
    }
}

/// How many, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// Sessions.
    pub sessions: u64,
    /// Messages taken in them.
    pub messages: u64,
    /// Begin of the first, as far as it is in the log.
    pub first: Stamp,
    /// Last line of the last.
    pub last: Stamp,
    /// The EHLO name, or the one in the next hop's greeting, of the last session that had one.
    pub helo: Option<Box<str>>,
    /// There were others.
    pub several_helos: bool,
}

impl Count {
    fn of(session: &Session) -> Self {
        Self {
            sessions: 1,
            messages: session.messages.into(),
            first: session.first,
            last: session.last,
            helo: session.helo.clone(),
            several_helos: false,
        }
    }

    /// Adds what another counted.
    pub(super) fn add(&mut self, other: &Self) {
        self.sessions += other.sessions;
        self.messages += other.messages;
        self.first = self.first.min(other.first);
        if let Some(helo) = &other.helo {
            self.several_helos |= other.several_helos || self.helo.as_ref().is_some_and(|mine| mine != helo);
            if self.helo.is_none() || (self.last <= other.last && self.helo.as_ref() != Some(helo)) {
                self.helo = Some(helo.clone());
            }
        }
        self.last = self.last.max(other.last);
    }
}

/// The counters.
#[derive(Debug)]
pub(super) struct Tally {
    rows: HashMap<Key, Count>,
    most: usize,
    /// When to fold next: what cannot be folded further must not be tried again at every session.
    limit: usize,
    /// Counters given up, their sessions counted as those of other peers.
    pub(super) folded: u64,
}

impl Tally {
    /// At most `most` counters; a few more where the connectors are many.
    pub(super) fn new(most: usize) -> Self {
        Self { rows: HashMap::new(), most: most.max(2), limit: most.max(2), folded: 0 }
    }

    /// Counts a session.
    pub(super) fn count(&mut self, session: &Session) {
        let (outcome, version) = session.outcome();
        let key = Key {
            direction: session.direction,
            connector: session.connector,
            peer: session.peer,
            version,
            outcome,
            cipher: session.cipher,
            group: session.group,
            error: session.error,
            verification: session.verification,
            verified_name: session.verified_name,
        };
        self.add(key, &Count::of(session));
        if self.rows.len() > self.limit {
            self.fold();
            self.limit = self.most.max(self.rows.len() + self.most / 2);
        }
    }

    fn add(&mut self, key: Key, count: &Count) {
        self.rows.entry(key).and_modify(|have| have.add(count)).or_insert_with(|| count.clone());
    }

    /// Makes room: the less telling half of the peers becomes "others". Those go first whom no rule
    /// but verified names would hit, then those with the fewest sessions.
    fn fold(&mut self) {
        let mut worth: Vec<(bool, u64, Key)> = self
            .rows
            .iter()
            .filter(|(key, _)| key.peer != Peer::Others)
            .map(|(key, count)| {
                let rules = [Rule::MinTls12, Rule::MinTls13, Rule::NoPlainText];
                let hit = rules.iter().any(|&rule| key.verdict(rule) != Verdict::Passes);
                (hit, count.sessions, *key)
            })
            .collect();
        let half = worth.len().div_ceil(2);
        if half < worth.len() {
            worth.select_nth_unstable_by_key(half, |&(hit, sessions, _)| (hit, sessions));
        }
        for (_, _, key) in worth.drain(..half) {
            let Some(mut count) = self.rows.remove(&key) else { continue };
            count.helo = None;
            self.folded += 1;
            let others = Key {
                peer: Peer::Others,
                cipher: Name::NONE,
                group: Name::NONE,
                error: Name::NONE,
                verified_name: Name::NONE,
                ..key
            };
            self.add(others, &count);
        }
    }

    /// The counters, in no order.
    pub(super) fn into_rows(self) -> Vec<(Key, Count)> {
        self.rows.into_iter().collect()
    }
}

/// A name to show for counters of several: the last, and a sign that there were others.
pub(super) fn helo_text(count: &Count) -> String {
    match &count.helo {
        Some(helo) if count.several_helos => format!("{}, …", printable(helo.as_bytes())),
        Some(helo) => helo.to_string(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::Line;
    use super::super::names::Names;
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn at() -> Stamp {
        Stamp::parse(b"2026-10-05T09:00:00").unwrap()
    }

    #[test]
    fn with_too_many_peers_the_rare_and_harmless_become_others() {
        let mut names = Names::new(10);
        let mut tally = Tally::new(100);
        let mut count = |number: u32, tls: bool, times: u32| {
            let remote = format!("10.0.{}.{}:5", number / 256, number % 256);
            let line = |event, data, context, sequence| Line {
                sequence,
                event,
                data,
                context,
                remote: remote.as_bytes(),
                ..Line::default()
            };
            let mut session = Session::new(Direction::In, &line(b"+", b"", b"", b"0"), at(), &mut names);
            if tls {
                let done = b"TLS protocol SP_PROT_TLS1_3_SERVER negotiation succeeded";
                session.apply(&line(b"*", b"", done, b"1"), at(), &mut names);
            }
            session.apply(&line(b"<", b"MAIL FROM:<>", b"", b"2"), at(), &mut names);
            session.apply(&line(b"-", b"", b"", b"3"), at(), &mut names);
            for _ in 0..times {
                tally.count(&session);
            }
        };
        for number in 0..10 {
            count(number, false, 1);
            count(1000 + number, true, 50);
        }
        for number in 2000..3000 {
            count(number, true, 1);
        }
        assert!(tally.folded > 900);
        let rows = tally.into_rows();
        assert!(rows.len() <= 151);
        assert_eq!(rows.iter().map(|(_, count)| count.sessions).sum::<u64>(), 10 + 500 + 1000);
        let address = |key: &Key| match key.peer {
            Peer::Ip(IpAddr::V4(ip)) => u32::from(ip) - u32::from(Ipv4Addr::new(10, 0, 0, 0)),
            _ => u32::MAX,
        };
        assert_eq!(rows.iter().filter(|(key, _)| address(key) < 10).count(), 10);
        let kept: Vec<_> = rows.iter().filter(|(key, _)| (1000..1010).contains(&address(key))).collect();
        assert!(kept.len() == 10 && kept.iter().all(|(_, count)| count.sessions == 50));
        assert!(rows.iter().any(|(key, _)| key.peer == Peer::Others));
    }
}
