//! The spool against a model of what it promised, over crashes at random points.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use proptest::prelude::*;

use super::{
    body, meta,
    sim::{Dice, SimDisk},
    small, wait,
};
use crate::queue::spool::{
    Change, Content, MessageId, Recovery, Spool, SpoolError, SpoolOptions, StoredContent, disk::Area, names,
};

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Append so many messages at once; wait for their answers or not.
    Append {
        count: usize,
        len: usize,
        wait: bool,
    },
    Big {
        len: usize,
        wait: bool,
    },
    /// Append one that also removes another, and gives a third a state.
    Replace {
        remove: usize,
        state: usize,
        wait: bool,
    },
    State(usize),
    Remove {
        which: usize,
        durable: bool,
    },
    Pause,
    FailSync,
    FailWrite,
    Full,
    Kill,
    PowerCut(u64),
    Close,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1..6usize, 0..9000usize, any::<bool>())
            .prop_map(|(count, len, wait)| Step::Append { count, len, wait }),
        1 => (0..9000usize, any::<bool>()).prop_map(|(len, wait)| Step::Big { len, wait }),
        2 => (any::<usize>(), any::<usize>(), any::<bool>())
            .prop_map(|(remove, state, wait)| Step::Replace { remove, state, wait }),
        4 => any::<usize>().prop_map(Step::State),
        6 => (any::<usize>(), any::<bool>()).prop_map(|(which, durable)| Step::Remove { which, durable }),
        1 => Just(Step::Pause),
        1 => Just(Step::FailSync),
        1 => Just(Step::FailWrite),
        1 => Just(Step::Full),
        1 => Just(Step::Kill),
        2 => any::<u64>().prop_map(Step::PowerCut),
        1 => Just(Step::Close),
    ];
    proptest::collection::vec(step, 1..70)
}

/// What is known of a message.
struct Known {
    seed: u64,
    len: usize,
    /// It was promised.
    acked: bool,
    /// A removal was asked for.
    may_be_gone: bool,
    /// A removal was promised.
    gone: bool,
    /// The states it may have; the first is the last one promised.
    states: Vec<Option<Bytes>>,
}

/// What a promise covers.
#[derive(Clone)]
enum Effect {
    Stored(u64),
    State(u64, usize),
    Removed(u64),
}

type Answer = Pin<Box<dyn Future<Output = Result<Option<StoredContent>, SpoolError>>>>;

struct World {
    disk: SimDisk,
    spool: Spool,
    known: BTreeMap<u64, Known>,
    /// Lazy changes since the last promise: the next one covers them.
    lazy: Vec<Effect>,
    waiting: Vec<(Answer, Vec<Effect>)>,
    highest: u64,
    seed: u64,
}

fn options() -> SpoolOptions {
    SpoolOptions { lazy_write: Duration::from_millis(1), lazy_sync: Duration::from_millis(4), ..small() }
}

impl World {
    fn new() -> Self {
        let disk = SimDisk::default();
        let (spool, _) = Spool::open_on(Arc::new(disk.clone()), options(), None).unwrap();
        let (known, lazy, waiting) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { disk, spool, known, lazy, waiting, highest: 0, seed: 0 }
    }

    fn pick(&self, which: usize) -> Option<u64> {
        let live: Vec<u64> =
            self.known.iter().filter(|(_, k)| k.acked && !k.may_be_gone).map(|(id, _)| *id).collect();
        (!live.is_empty()).then(|| live[which % live.len()])
    }

    fn fresh(&mut self, len: usize) -> (MessageId, u64) {
        self.seed += 1;
        let id = self.spool.next_id();
        assert!(id.0 > self.highest, "id {id} came again");
        self.highest = id.0;
        let known =
            Known { seed: self.seed, len, acked: false, may_be_gone: false, gone: false, states: vec![None] };
        self.known.insert(id.0, known);
        (id, self.seed)
    }

    fn append(&mut self, content: Option<Content>, len: usize, also: Vec<Change>, mut effects: Vec<Effect>) {
        let (id, seed) = match &content {
            Some(Content::Staged(staged)) => (MessageId(staged.id()), self.seed),
            _ => self.fresh(len),
        };
        let content = content.unwrap_or_else(|| Content::Memory(vec![body(seed, len)]));
        // Changes of messages that hinge on this one count from now on as possible.
        effects.push(Effect::Stored(id.0));
        effects.append(&mut self.lazy.clone());
        let future = self.spool.append(id, meta(seed), content, also);
        self.waiting.push((Box::pin(async move { future.await.map(Some) }), effects));
    }

    fn new_state(&mut self, id: u64) -> (Bytes, Effect) {
        let states = &mut self.known.get_mut(&id).unwrap().states;
        let state: Bytes = format!("state {} of {id}", states.len()).into();
        states.push(Some(state.clone()));
        (state, Effect::State(id, states.len() - 1))
    }

    fn promise(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Stored(id) => self.known.get_mut(&id).unwrap().acked = true,
                Effect::State(id, at) => {
                    for older in &mut self.known.get_mut(&id).unwrap().states[..at] {
                        *older = Some(Bytes::from_static(b"overwritten"));
                    }
                }
                Effect::Removed(id) => self.known.get_mut(&id).unwrap().gone = true,
            }
        }
    }

    /// Takes the answers that are there; with `wait`, all of them.
    fn answers(&mut self, block: bool) {
        for (mut answer, effects) in std::mem::take(&mut self.waiting) {
            let result = if block {
                Poll::Ready(wait(answer.as_mut()))
            } else {
                answer.as_mut().poll(&mut Context::from_waker(Waker::noop()))
            };
            match result {
                Poll::Ready(Ok(stored)) => {
                    if let Some(stored) = stored {
                        let known = &self.known[&stored.id().0];
                        match stored.read() {
                            Ok(bytes) => assert_eq!(bytes, body(known.seed, known.len)),
                            Err(SpoolError::Gone(_)) => assert!(known.may_be_gone),
                            Err(error) => panic!("{error}"),
                        }
                    }
                    self.promise(effects);
                }
                // Refused: it may be there or not.
                Poll::Ready(Err(SpoolError::Full | SpoolError::Poisoned | SpoolError::Io { .. })) => {}
                Poll::Ready(Err(error)) => panic!("{error}"),
                Poll::Pending => self.waiting.push((answer, effects)),
            }
        }
    }

    fn reopen(&mut self, disk: SimDisk) {
        self.waiting.clear();
        self.lazy.clear();
        disk.set_capacity(None);
        let (spool, recovery) = Spool::open_on(Arc::new(disk.clone()), options(), None).unwrap();
        // The old spool ends on the old disk, which nobody looks at again.
        self.spool = spool;
        self.disk = disk;
        self.check(recovery);
    }

    fn check(&mut self, recovery: Recovery) {
        let segments = self.disk.names(Area::Log);
        assert!(segments.iter().all(|name| names::segment_number(name).is_some()), "{segments:?}");
        let mut present = BTreeMap::new();
        for message in recovery.messages {
            let id = message.id.0;
            let known = self.known.get(&id).unwrap_or_else(|| panic!("{id} is not known"));
            assert!(!known.gone, "{id} has come back");
            assert_eq!(message.meta, meta(known.seed));
            assert_eq!(message.content.read().unwrap(), body(known.seed, known.len));
            assert!(known.states.contains(&message.state), "{id} has state {:?}", message.state);
            assert!(present.insert(id, message.state).is_none(), "{id} came twice");
        }
        for (id, known) in &mut self.known {
            // What was handed back is a promise from now on, and so is what was not.
            if let Some(state) = present.remove(id) {
                known.acked = true;
                known.may_be_gone = false;
                known.states = vec![state];
            } else {
                assert!(known.may_be_gone || !known.acked, "{id} is lost");
                known.may_be_gone = true;
                known.gone = true;
            }
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append { count, len, wait } => {
                for n in 0..count {
                    self.append(None, len / (n + 1), Vec::new(), Vec::new());
                }
                self.answers(wait);
            }
            Step::Big { len, wait } => {
                let (id, seed) = self.fresh(len);
                let staged = self.spool.stage(id).and_then(|mut staged| {
                    let bytes = body(seed, len);
                    staged.write(&bytes[..len / 3])?;
                    staged.write(&bytes[len / 3..])?;
                    Ok(staged)
                });
                if let Ok(staged) = staged {
                    self.append(Some(Content::Staged(staged)), len, Vec::new(), Vec::new());
                    self.answers(wait);
                }
            }
            Step::Replace { remove, state, wait } => {
                let (mut also, mut effects) = (Vec::new(), Vec::new());
                if let Some(id) = self.pick(remove) {
                    self.known.get_mut(&id).unwrap().may_be_gone = true;
                    also.push(Change::Remove(MessageId(id)));
                    effects.push(Effect::Removed(id));
                }
                if let Some(id) = self.pick(state) {
                    let (state, effect) = self.new_state(id);
                    also.push(Change::State(MessageId(id), state));
                    effects.push(effect);
                }
                self.append(None, 777, also, effects);
                self.answers(wait);
            }
            Step::State(which) => {
                if let Some(id) = self.pick(which) {
                    let (state, effect) = self.new_state(id);
                    self.spool.apply(Change::State(MessageId(id), state));
                    self.lazy.push(effect);
                }
            }
            Step::Remove { which, durable } => {
                if let Some(id) = self.pick(which) {
                    self.known.get_mut(&id).unwrap().may_be_gone = true;
                    let change = Change::Remove(MessageId(id));
                    if durable {
                        let mut effects = self.lazy.clone();
                        effects.push(Effect::Removed(id));
                        let future = self.spool.apply_durable(change);
                        self.waiting.push((Box::pin(async move { future.await.map(|()| None) }), effects));
                        self.answers(true);
                    } else {
                        self.spool.apply(change);
                        self.lazy.push(Effect::Removed(id));
                    }
                }
            }
            Step::Pause => std::thread::sleep(Duration::from_millis(3)),
            Step::FailSync => self.disk.fail_syncs(1),
            Step::FailWrite => self.disk.fail_writes(1),
            Step::Full => {
                // With changes put off, a promise no longer covers the lazy ones before it.
                self.disk.set_capacity(Some(self.disk.used() + 5000));
                for n in 0..20 {
                    self.append(None, 4000 + n, Vec::new(), Vec::new());
                }
                self.answers(true);
                self.disk.set_capacity(None);
            }
            Step::Kill => {
                self.answers(false);
                self.reopen(self.disk.after_kill());
            }
            Step::PowerCut(seed) => {
                self.answers(false);
                self.reopen(self.disk.after_power_cut(&mut Dice(seed)));
            }
            Step::Close => {
                self.answers(true);
                self.spool.close();
                // A disk that was given up, before or just now, keeps no lazy promise.
                if self.spool.healthy() == Err("the spool is closed".into()) {
                    let lazy = std::mem::take(&mut self.lazy);
                    self.promise(lazy);
                }
                self.reopen(self.disk.after_power_cut(&mut Dice(1)));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 500, ..ProptestConfig::default() })]
    #[test]
    fn promises_are_kept(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.step(Step::PowerCut(99));
        world.step(Step::PowerCut(98));
    }
}

/// More with `SPOOL_CASES=5000 cargo test promises`.
fn cases() -> u32 {
    std::env::var("SPOOL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(64)
}
