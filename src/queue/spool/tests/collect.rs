//! Giving space back, and what must not come back with it.

use std::{
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    append, body, open, seed,
    sim::{Dice, SimDisk},
    wait,
};
use crate::queue::spool::{Change, disk::Area};

/// Waits until there are at most so many segments.
fn settled(disk: &SimDisk, most: usize) {
    let start = Instant::now();
    while disk.names(Area::Log).len() > most {
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", disk.names(Area::Log));
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn space_comes_back_and_held_mail_does_not_pin_it() {
    let disk = SimDisk::default();
    let (spool, _) = open(&disk);
    let held = append(&spool, 0, 3000).unwrap();
    wait(spool.apply_durable(Change::State(held.id(), Bytes::from_static(b"held")))).unwrap();
    for n in 1..400 {
        let stored = append(&spool, n, 3000).unwrap();
        spool.apply(Change::Remove(stored.id()));
    }
    let last = append(&spool, 400, 10).unwrap();
    // In use, in preparation, and one that still holds something.
    settled(&disk, 3);
    assert!(spool.used_bytes() < 3 * 65536);
    assert_eq!(held.read().unwrap(), body(0, 3000));
    for dice in 0..10 {
        let (_, recovery) = open(&disk.after_power_cut(&mut Dice(dice)));
        assert_eq!(recovery.messages.iter().map(seed).collect::<Vec<_>>(), [0, 400]);
        assert_eq!(recovery.messages[0].state.as_deref(), Some(&b"held"[..]));
        assert_eq!(recovery.messages[0].content.read().unwrap(), body(0, 3000));
        assert!(recovery.messages[1].id == last.id());
    }
}

#[test]
fn a_full_segment_of_live_mail_does_not_pin_dead_ones_for_ever() {
    let disk = SimDisk::default();
    let (spool, _) = open(&disk);
    let held: Vec<_> = (0..40).map(|n| append(&spool, n, 3000).unwrap()).collect();
    for n in 1000..1400 {
        let stored = append(&spool, n, 3000).unwrap();
        spool.apply(Change::Remove(stored.id()));
    }
    append(&spool, 5000, 10).unwrap();
    settled(&disk, 9);
    for (n, stored) in held.iter().enumerate() {
        assert_eq!(stored.read().unwrap(), body(n as u64, 3000));
    }
}

/// The mark lies in a segment where nothing is live, behind one that is full of held mail and still
/// has the record of the removed message.
#[test]
fn a_mark_stays_as_long_as_what_it_kills() {
    let disk = SimDisk::default();
    let (spool, _) = open(&disk);
    let removed = append(&spool, 1, 3000).unwrap();
    for n in 2..17 {
        append(&spool, n, 3000).unwrap();
    }
    let churn = |from: u64, count: u64| {
        for n in from..from + count {
            let stored = append(&spool, n, 3000).unwrap();
            wait(spool.apply_durable(Change::Remove(stored.id()))).unwrap();
        }
    };
    churn(100, 10);
    wait(spool.apply_durable(Change::Remove(removed.id()))).unwrap();
    for step in 0..12 {
        churn(200 + step * 100, 10);
        for dice in 0..3 {
            let (_, recovery) = open(&disk.after_power_cut(&mut Dice(step * 7 + dice)));
            assert_eq!(recovery.messages.iter().map(seed).collect::<Vec<_>>(), (2..17).collect::<Vec<_>>());
        }
    }
}

/// A removal mark that goes before the message it kills would bring the message back.
#[test]
fn the_removed_stay_removed_while_segments_come_and_go() {
    let mut disk = SimDisk::default();
    let mut dice = Dice(3);
    let mut live: Vec<u64> = Vec::new();
    let mut n = 0;
    for _ in 0..30 {
        let (spool, recovery) = open(&disk);
        let mut seeds: Vec<u64> = recovery.messages.iter().map(seed).collect();
        seeds.sort_unstable();
        assert_eq!(seeds, live);
        let mut ids: Vec<_> = recovery.messages.iter().map(|m| (seed(m), m.id)).collect();
        for _ in 0..60 {
            n += 1;
            ids.push((n, append(&spool, n, dice.roll(4000) as usize).unwrap().id()));
            while ids.len() > 10 {
                let (_, id) = ids.swap_remove(dice.roll(ids.len() as u64) as usize);
                wait(spool.apply_durable(Change::Remove(id))).unwrap();
            }
        }
        live = ids.iter().map(|(n, _)| *n).collect();
        live.sort_unstable();
        disk = disk.after_power_cut(&mut dice);
    }
}
