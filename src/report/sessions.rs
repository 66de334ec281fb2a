//! The sessions whose end has not been read yet; a bounded number of them.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use super::line::Line;
use super::names::Names;
use super::session::Session;
use super::stamp::Stamp;
use crate::log::Direction;

/// A session's name within one of the two logs.
type Key = (bool, u64);

/// Sessions in flight, by their id.
#[derive(Debug)]
pub(super) struct Sessions {
    open: HashMap<Key, (u64, Session)>,
    /// By age, with the number each got; those ended meanwhile are skipped.
    order: VecDeque<(u64, Key)>,
    next: u64,
    most: usize,
    hasher: RandomState,
}

/// What a line did.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// The session the line ended.
    pub(super) session: Option<Session>,
    /// A session of the same id that was still open, and never will be ended now.
    pub(super) replaced: Option<Session>,
    /// The oldest session, for which there was no room any more.
    pub(super) evicted: Option<Session>,
}

impl Sessions {
    pub(super) fn new(most: usize) -> Self {
        Self {
            open: HashMap::new(),
            order: VecDeque::new(),
            next: 0,
            most: most.max(1),
            hasher: RandomState::new(),
        }
    }

    /// Takes a line in.
    pub(super) fn apply(
        &mut self,
        direction: Direction,
        line: &Line<'_>,
        at: Stamp,
        names: &mut Names,
    ) -> Ended {
        let key = (direction == Direction::In, self.id(line.session));
        let mut ended = Ended::default();
        if line.sequence == b"0" {
            // The number begins with the session.
            ended.replaced = self.open.remove(&key).map(|(_, session)| session);
        }
        if let Some((_, session)) = self.open.get_mut(&key) {
            if session.apply(line, at, names) {
                ended.session = self.open.remove(&key).map(|(_, session)| session);
            }
            return ended;
        }
        let mut session = Session::new(direction, line, at, names);
        if session.apply(line, at, names) {
            ended.session = Some(session);
            return ended;
        }
        if self.open.len() >= self.most {
            ended.evicted = self.oldest();
        }
        self.next += 1;
        self.order.push_back((self.next, key));
        self.open.insert(key, (self.next, session));
        if self.order.len() > 2 * self.most + 16 {
            self.order.retain(|(number, key)| self.open.get(key).is_some_and(|(n, _)| n == number));
        }
        ended
    }

    /// Those that are left at the end, by age.
    pub(super) fn drain(mut self) -> impl Iterator<Item = Session> {
        std::iter::from_fn(move || self.oldest())
    }

    fn oldest(&mut self) -> Option<Session> {
        while let Some((number, key)) = self.order.pop_front() {
            if self.open.get(&key).is_some_and(|(n, _)| *n == number) {
                return self.open.remove(&key).map(|(_, session)| session);
            }
        }
        None
    }

    /// 16 hex digits are a number; any other name is as good.
    fn id(&self, text: &[u8]) -> u64 {
        let number = |text: &[u8]| {
            text.iter().try_fold(0u64, |number, &byte| {
                let digit = char::from(byte).to_digit(16)?;
                Some(number << 4 | u64::from(digit))
            })
        };
        match text.len() {
            16 => number(text).unwrap_or_else(|| self.hasher.hash_one(text)),
            _ => self.hasher.hash_one(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<'a>(session: &'a str, sequence: &'a str, event: &'a str) -> Line<'a> {
        Line {
            session: session.as_bytes(),
            sequence: sequence.as_bytes(),
            event: event.as_bytes(),
            remote: b"192.0.2.1:1",
            ..Line::default()
        }
    }

    fn at() -> Stamp {
        Stamp::parse(b"2026-10-05T09:00:00").unwrap()
    }

    #[test]
    fn a_session_is_handed_out_when_it_ends() {
        let (mut sessions, mut names) = (Sessions::new(10), Names::new(10));
        let mut apply = |line: Line<'_>| sessions.apply(Direction::In, &line, at(), &mut names);
        assert!(apply(line("08DE00000000A001", "0", "+")).session.is_none());
        assert!(apply(line("08DE00000000A002", "0", "+")).session.is_none());
        assert!(apply(line("08DE00000000A001", "1", "-")).session.is_some());
        // The rest of one whose beginning is lost.
        assert!(apply(line("08DE00000000A001", "2", "-")).session.is_some());
        // The same file twice.
        assert!(apply(line("08DE00000000A002", "0", "+")).replaced.is_some());
        assert_eq!(sessions.drain().count(), 1);
    }

    #[test]
    fn the_oldest_goes_when_there_is_no_room() {
        let (mut sessions, mut names) = (Sessions::new(3), Names::new(10));
        let mut evicted = 0;
        for round in 0..1000 {
            let id = format!("{round}");
            let ended = sessions.apply(Direction::Out, &line(&id, "0", "*"), at(), &mut names);
            evicted += u32::from(ended.evicted.is_some());
            if round % 2 == 0 {
                let ended = sessions.apply(Direction::Out, &line(&id, "1", "-"), at(), &mut names);
                assert!(ended.session.is_some());
            }
            assert!(sessions.open.len() <= 3 && sessions.order.len() <= 22);
        }
        assert_eq!(evicted + sessions.drain().count() as u32, 500);
    }
}
