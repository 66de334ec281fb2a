//! A spool in use while what earlier runs left is still being read.

use std::{collections::BTreeSet, sync::Arc, thread};

use super::{append, body, open, read, seed, sim::SimDisk, small, wait};
use crate::queue::spool::{
    Change, MessageId, Recovery, Spool, SpoolError, disk::Area, format::DATA_START, names,
};

/// What a run left that was killed: fifty messages over three segments. The first is removed by a
/// mark in the last, and after them so many ids were given out that nothing was stored under.
fn left_behind(unused_ids: u64) -> (SimDisk, MessageId) {
    let disk = SimDisk::default();
    let (spool, _) = open(&disk);
    let first = append(&spool, 1, 3000).unwrap();
    for n in 2..=50 {
        append(&spool, n, 3000).unwrap();
    }
    wait(spool.apply_durable(Change::Remove(first.id()))).unwrap();
    for _ in 0..unused_ids {
        spool.next_id();
    }
    let last = spool.next_id();
    (disk.after_kill(), last)
}

/// Opens a spool, but nothing except the end of the log is read.
fn open_held(disk: &SimDisk) -> (Spool, Recovery) {
    disk.hold_replay(Some(0));
    Spool::open_on(Arc::new(disk.clone()), small(), None).unwrap()
}

#[test]
fn mail_is_stored_and_leaves_before_anything_old_is_read() {
    let (disk, last) = left_behind(10);
    let before: BTreeSet<String> = disk.names(Area::Log).into_iter().collect();
    let (spool, mut recovery) = open_held(&disk);
    assert!(recovery.segments() >= 3 && recovery.bytes() > 150_000);
    assert!(spool.used_bytes() > 150_000, "what is not yet read takes space all the same");
    for n in 100..150 {
        let stored = append(&spool, n, 3000).unwrap();
        assert!(stored.id() > last);
        assert_eq!(stored.read().unwrap(), body(n, 3000));
        if n < 145 {
            wait(spool.apply_durable(Change::Remove(stored.id()))).unwrap();
        }
    }
    assert_eq!(spool.messages(), 5);
    assert!(recovery.handed.try_recv().is_err(), "a removal may lie in the last segment");
    let now: BTreeSet<String> = disk.names(Area::Log).into_iter().collect();
    // All of them but the one that was prepared and never used.
    assert!(before.difference(&now).count() <= 1, "{before:?} {now:?}");

    // Killed in the middle, and again, and read in the end.
    let again = disk.after_kill();
    let (second, _) = open_held(&again);
    append(&second, 200, 10).unwrap();
    let third = again.after_kill();
    let (_, found) = open(&third);
    let mut seeds: Vec<u64> = found.messages.iter().map(seed).collect();
    seeds.sort_unstable();
    assert_eq!(seeds, (2..=50).chain(145..150).chain([200]).collect::<Vec<_>>());

    // Here it goes on.
    disk.hold_replay(None);
    again.hold_replay(None);
    let found = read(&spool, recovery).unwrap();
    assert_eq!(found.messages.iter().map(seed).collect::<Vec<_>>(), (2..=50).collect::<Vec<_>>());
    assert_eq!(spool.messages(), 49 + 5);
    for message in &found.messages {
        assert_eq!(message.content.read().unwrap(), body(seed(message), 3000));
        wait(spool.apply_durable(Change::Remove(message.id))).unwrap();
    }
    append(&spool, 300, 10).unwrap();
    drop(spool);
    let (_, found) = open(&disk);
    assert_eq!(
        found.messages.iter().map(seed).collect::<Vec<_>>(),
        (145..150).chain([300]).collect::<Vec<_>>()
    );
}

#[test]
fn closing_in_the_middle_is_clean() {
    let (disk, _) = left_behind(0);
    let (spool, mut recovery) = open_held(&disk);
    append(&spool, 100, 10).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            while spool.healthy().is_ok() {
                thread::yield_now();
            }
            disk.hold_replay(None);
        });
        spool.close();
    });
    assert!(matches!(wait(recovery.next()), Err(SpoolError::Closed)));
    let (_, found) = open(&disk);
    assert_eq!(
        found.messages.iter().map(seed).collect::<Vec<_>>(),
        (2..=50).chain([100]).collect::<Vec<_>>()
    );
    assert_eq!((found.report.corrupt_records, found.report.torn_tail_bytes), (0, 0));
}

#[test]
fn a_log_that_cannot_be_read_is_known_and_kept() {
    let (disk, _) = left_behind(0);
    let (spool, recovery) = open_held(&disk);
    disk.fail_reads(1);
    disk.hold_replay(None);
    assert!(matches!(read(&spool, recovery), Err(SpoolError::Io { .. })));
    assert!(spool.healthy().unwrap_err().starts_with("the spool cannot be read: read segment"));
    // What was accepted before anybody knew is stored, and so is that it was delivered.
    append(&spool, 100, 3000).unwrap();
    for n in 101..150 {
        let stored = append(&spool, n, 3000).unwrap();
        wait(spool.apply_durable(Change::Remove(stored.id()))).unwrap();
    }
    spool.close();
    let (_, found) = open(&disk);
    assert_eq!(
        found.messages.iter().map(seed).collect::<Vec<_>>(),
        (2..=50).chain([100]).collect::<Vec<_>>()
    );
}

/// The first record of a segment says which ids were reserved when it was begun. Without it the
/// segment before has to be asked as well.
#[test]
fn ids_do_not_come_again_when_a_reservation_is_damaged() {
    let (disk, last) = left_behind(1000);
    let used = |name: &String| disk.bytes(Area::Log, name)[DATA_START as usize..].iter().any(|b| *b != 0);
    let newest = disk.names(Area::Log).into_iter().filter(used).max().unwrap();
    assert!(names::segment_number(&newest).unwrap() >= 3);
    let mut bytes = disk.bytes(Area::Log, &newest);
    bytes[DATA_START as usize + 17] ^= 1;
    disk.set_bytes(Area::Log, &newest, bytes);
    let (spool, found) = open(&disk);
    assert!(spool.next_id() > last);
    assert_eq!((found.messages.len(), found.report.corrupt_records), (49, 1));
}
