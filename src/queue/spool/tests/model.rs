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
    Found, body, meta, read,
    sim::{Dice, SimDisk},
    small, wait,
};
use crate::queue::spool::{
    Change, Content, MessageId, Recovery, Spool, SpoolError, SpoolOptions, disk::Area, names,
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
    Kill(Hold),
    PowerCut(u64, Hold),
    Close(Hold),
    /// Wait until what earlier runs left is read.
    Read,
}

/// After how many operations on the disk the next run's reading of the log is held, if it is.
type Hold = Option<u64>;

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
        1 => hold().prop_map(Step::Kill),
        2 => (any::<u64>(), hold()).prop_map(|(seed, hold)| Step::PowerCut(seed, hold)),
        1 => hold().prop_map(Step::Close),
        1 => Just(Step::Read),
    ];
    proptest::collection::vec(step, 1..70)
}

fn hold() -> impl Strategy<Value = Hold> {
    prop_oneof![Just(None), Just(Some(0)), (1..40u64).prop_map(Some)]
}

/// What is known of a message.
struct Known {
    /// It is of an earlier run, and this run has not yet handed it over.
    unread: bool,
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

type Answer = Pin<Box<dyn Future<Output = Result<(), SpoolError>>>>;

struct World {
    disk: SimDisk,
    spool: Spool,
    /// What is still to be handed over.
    reading: Option<Recovery>,
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
        Self { disk, spool, reading: None, known, lazy, waiting, highest: 0, seed: 0 }
    }

    fn pick(&self, which: usize) -> Option<u64> {
        let live = self.known.iter().filter(|(_, k)| k.acked && !k.may_be_gone && !k.unread);
        let live: Vec<u64> = live.map(|(id, _)| *id).collect();
        (!live.is_empty()).then(|| live[which % live.len()])
    }

    fn fresh(&mut self, len: usize) -> (MessageId, u64) {
        self.seed += 1;
        let id = self.spool.next_id();
        assert!(id.0 > self.highest, "id {id} came again");
        self.highest = id.0;
        let known = Known {
            unread: false,
            seed: self.seed,
            len,
            acked: false,
            may_be_gone: false,
            gone: false,
            states: vec![None],
        };
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
        self.waiting.push((Box::pin(future), effects));
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
                Poll::Ready(Ok(())) => {
                    for effect in &effects {
                        let Effect::Stored(id) = effect else { continue };
                        let known = &self.known[id];
                        match self.spool.stored(MessageId(*id), known.len as u64).read() {
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

    fn reopen(&mut self, disk: SimDisk, hold: Hold) {
        self.waiting.clear();
        self.lazy.clear();
        disk.set_capacity(None);
        disk.hold_replay(hold);
        let (spool, recovery) = Spool::open_on(Arc::new(disk.clone()), options(), None).unwrap();
        // The old spool ends on the old disk, which nobody looks at again.
        self.disk.hold_replay(None);
        self.spool = spool;
        self.disk = disk;
        self.reading = Some(recovery);
        for known in self.known.values_mut() {
            known.unread = true;
        }
        if hold.is_none() {
            self.read();
        }
    }

    /// Waits for what earlier runs left.
    fn read(&mut self) {
        let Some(recovery) = self.reading.take() else { return };
        self.disk.hold_replay(None);
        match read(&self.spool, recovery) {
            Ok(found) => self.check(found),
            // The disk failed meanwhile. Whoever runs the spool hears of it and starts again.
            Err(SpoolError::Full | SpoolError::Io { .. }) => {
                assert!(self.spool.healthy().is_err());
                self.answers(false);
                self.reopen(self.disk.after_kill(), None);
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn check(&mut self, recovery: Found) {
        let segments = self.disk.names(Area::Log);
        assert!(segments.iter().all(|name| names::segment_number(name).is_some()), "{segments:?}");
        let mut present = BTreeMap::new();
        for message in recovery.messages {
            let id = message.id.0;
            let known = self.known.get(&id).unwrap_or_else(|| panic!("{id} is not known"));
            assert!(!known.gone, "{id} has come back");
            assert!(known.unread, "{id} is handed over as an old one");
            assert_eq!(&*message.meta, &*meta(known.seed));
            assert_eq!(message.content.read().unwrap(), body(known.seed, known.len));
            assert!(known.states.contains(&message.state), "{id} has state {:?}", message.state);
            assert!(present.insert(id, message.state).is_none(), "{id} came twice");
        }
        for (id, known) in self.known.iter_mut().filter(|(_, known)| known.unread) {
            known.unread = false;
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
                        self.waiting.push((Box::pin(self.spool.apply_durable(change)), effects));
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
            Step::Read => self.read(),
            Step::Kill(hold) => {
                self.answers(false);
                self.reopen(self.disk.after_kill(), hold);
            }
            Step::PowerCut(seed, hold) => {
                self.answers(false);
                self.reopen(self.disk.after_power_cut(&mut Dice(seed)), hold);
            }
            Step::Close(hold) => {
                self.answers(true);
                self.disk.hold_replay(None);
                self.spool.close();
                // A disk that was given up, before or just now, keeps no lazy promise.
                if self.spool.healthy() == Err("the spool is closed".into()) {
                    let lazy = std::mem::take(&mut self.lazy);
                    self.promise(lazy);
                }
                self.reopen(self.disk.after_power_cut(&mut Dice(1)), hold);
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
        world.step(Step::PowerCut(99, None));
        world.step(Step::PowerCut(98, None));
    }
}

/// More with `SPOOL_CASES=5000 cargo test promises`.
fn cases() -> u32 {
    std::env::var("SPOOL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(64)
}
