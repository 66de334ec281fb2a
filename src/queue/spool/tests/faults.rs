//! A disk that fails to sync, and one that is full.

use std::{thread, time::Duration};

use bytes::Bytes;

use super::{
    append, body, meta, open, seed,
    sim::{Dice, SimDisk},
    wait,
};
use crate::queue::spool::{Change, Content, SpoolError, disk::Area};

#[test]
fn one_failed_sync_costs_a_segment_and_no_mail() {
    let disk = SimDisk::default();
    let (spool, _) = open(&disk);
    let first = append(&spool, 1, 1000).unwrap();
    spool.apply(Change::State(first.id(), Bytes::from_static(b"lazy")));
    disk.fail_syncs(1);
    append(&spool, 2, 1000).unwrap();
    append(&spool, 3, 1000).unwrap();
    assert!(spool.healthy().is_ok());
    // What is acknowledged survives whatever became of the segment that failed.
    for dice in 0..20 {
        let (_, recovery) = open(&disk.after_power_cut(&mut Dice(dice)));
        assert_eq!(recovery.messages.iter().map(seed).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(recovery.messages[0].state.as_deref(), Some(&b"lazy"[..]));
        for message in &recovery.messages {
            assert_eq!(message.content.read().unwrap(), body(seed(message), 1000));
        }
    }
}

#[test]
fn a_disk_that_fails_again_is_given_up() {
    let disk = SimDisk::default();
    let (spool, _) = open(&disk);
    let first = append(&spool, 1, 1000).unwrap();
    // The segment in preparation is synced before the next message comes.
    thread::sleep(Duration::from_millis(50));
    disk.fail_syncs(u32::MAX);
    assert!(matches!(append(&spool, 2, 1000), Err(SpoolError::Poisoned)));
    assert!(spool.healthy().unwrap_err().contains("sync"));
    disk.fail_syncs(0);
    assert!(matches!(append(&spool, 3, 1000), Err(SpoolError::Poisoned)));
    assert!(matches!(spool.stage(spool.next_id()), Err(SpoolError::Poisoned)));
    assert!(matches!(wait(spool.apply_durable(Change::Remove(first.id()))), Err(SpoolError::Poisoned)));
    spool.apply(Change::Remove(first.id()));
    // What is safe can still be read.
    assert_eq!(first.read().unwrap(), body(1, 1000));
    spool.close();
    let (spool, recovery) = open(&disk.after_power_cut(&mut Dice(5)));
    assert_eq!(seed(&recovery.messages[0]), 1);
    append(&spool, 4, 10).unwrap();
}

#[test]
fn a_full_disk_refuses_mail_until_space_returns() {
    let disk = SimDisk::default();
    let (spool, _) = open(&disk);
    append(&spool, 0, 1000).unwrap();
    thread::sleep(Duration::from_millis(50));
    disk.set_capacity(Some(disk.used()));
    let mut stored = Vec::new();
    let mut refused = 0;
    for n in 1..60 {
        match append(&spool, n, 4000) {
            Ok(content) => stored.push((n, content)),
            Err(SpoolError::Full) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 20 && stored.len() > 10, "{refused} {}", stored.len());
    assert!(spool.healthy().is_ok());
    assert!(matches!(
        spool.stage(spool.next_id()).and_then(|mut s| s.write(&body(1, 100_000))),
        Err(SpoolError::Full)
    ));
    // Mail can leave all the same, and that makes room.
    for (_, content) in &stored {
        wait(spool.apply_durable(Change::Remove(content.id()))).unwrap();
    }
    let room = (100..).take(40).filter(|n| {
        thread::sleep(Duration::from_millis(5));
        append(&spool, *n, 4000).is_ok()
    });
    assert!(room.count() > 5);
    disk.set_capacity(None);
    append(&spool, 200, 4000).unwrap();
    spool.close();
    let (_, recovery) = open(&disk);
    assert_eq!(recovery.report.corrupt_records + recovery.report.torn_tail_bytes, 0);
    let seeds: Vec<u64> = recovery.messages.iter().map(seed).collect();
    assert!(seeds.iter().all(|n| *n == 0 || *n >= 100), "{seeds:?}");
    assert_eq!(seeds.last(), Some(&200));
}

#[test]
fn a_start_on_a_full_disk_still_lets_mail_leave() {
    let disk = SimDisk::default();
    let (spool, _) = open(&disk);
    append(&spool, 0, 1000).unwrap();
    thread::sleep(Duration::from_millis(50));
    disk.set_capacity(Some(disk.used()));
    let count = (1..60).filter(|n| append(&spool, *n, 4000).is_ok()).count();
    spool.close();
    // No segment of the usual size fits, nor would one ever if removals had no place.
    let (spool, recovery) = open(&disk);
    assert_eq!(recovery.messages.len(), count + 1);
    assert!(matches!(append(&spool, 90, 4000), Err(SpoolError::Full)));
    for message in &recovery.messages {
        wait(spool.apply_durable(Change::Remove(message.id))).unwrap();
    }
    let room = (100..).take(40).filter(|n| {
        thread::sleep(Duration::from_millis(5));
        append(&spool, *n, 4000).is_ok()
    });
    assert!(room.count() > 5);
    spool.close();
    let (_, recovery) = open(&disk);
    let seeds: Vec<u64> = recovery.messages.iter().map(seed).collect();
    assert!(seeds.len() > 5 && seeds.iter().all(|n| *n >= 100), "{seeds:?}");
}

#[test]
fn a_write_cut_short_by_a_full_disk_leaves_nothing_behind() {
    // Without room for an allocation the file grows as it is written, as on file systems that
    // cannot allocate; the last write then stops somewhere in the middle.
    let disk = SimDisk::default();
    let (spool, _) = open(&disk);
    let waiting: Vec<_> = (0..12u64)
        .map(|n| {
            if n == 4 {
                thread::sleep(Duration::from_millis(20));
                let name = format!("{:016x}.seg", 1);
                // The unused part of the segment goes, and with it the room.
                let mut bytes = disk.bytes(Area::Log, &name);
                bytes.truncate(disk_end(&bytes));
                disk.set_bytes(Area::Log, &name, bytes);
                disk.set_capacity(Some(disk.used() + 5000));
            }
            let content = Content::Memory(vec![body(n, 2000)]);
            spool.append(spool.next_id(), meta(n), content, Vec::new())
        })
        .collect();
    let answers: Vec<bool> = waiting.into_iter().map(|answer| wait(answer).is_ok()).collect();
    assert!(answers.iter().any(|ok| !ok), "{answers:?}");
    disk.set_capacity(None);
    append(&spool, 50, 10).unwrap();
    spool.close();
    let (_, recovery) = open(&disk);
    let seeds: Vec<u64> = recovery.messages.iter().map(seed).collect();
    let acknowledged = answers.iter().zip(0..).filter_map(|(ok, n)| ok.then_some(n)).chain([50]);
    assert_eq!(seeds, acknowledged.collect::<Vec<u64>>());
    assert_eq!(recovery.report.corrupt_records + recovery.report.torn_tail_bytes, 0);
}

fn disk_end(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1)
}

#[test]
fn a_replacement_and_what_it_replaces_change_places_at_once() {
    for dice in 0..60 {
        let disk = SimDisk::default();
        let (spool, _) = open(&disk);
        let old = append(&spool, 1, 3000).unwrap();
        let also = vec![Change::Remove(old.id())];
        let content = Content::Memory(vec![body(2, 3000)]);
        disk.fail_syncs(u32::MAX);
        let answer = wait(spool.append(spool.next_id(), meta(2), content, also));
        assert!(answer.is_err());
        let (_, recovery) = open(&disk.after_power_cut(&mut Dice(dice)));
        let seeds: Vec<u64> = recovery.messages.iter().map(seed).collect();
        assert!(seeds == [1] || seeds == [2], "{seeds:?}");
        let message = &recovery.messages[0];
        assert_eq!(message.content.read().unwrap(), body(seed(message), 3000));
    }
}

#[test]
fn lazy_changes_are_written_soon_and_synced_within_a_second() {
    let disk = SimDisk::default();
    let (spool, _) = open(&disk);
    let ids: Vec<_> = (0..4).map(|n| append(&spool, n, 100).unwrap().id()).collect();
    let left = |disk: SimDisk| open(&disk).1.messages.len();
    for (removed, id) in ids.iter().enumerate() {
        spool.apply(Change::Remove(*id));
        thread::sleep(Duration::from_millis(200));
        assert_eq!(left(disk.after_kill()), 3 - removed);
    }
    thread::sleep(Duration::from_millis(1200));
    for n in 0..8 {
        assert_eq!(left(disk.after_power_cut(&mut Dice(n))), 0);
    }
}
