//! Damage to what is on the disk, at every byte.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::{append, body, meta, open, seed, sim::SimDisk, wait};
use crate::queue::spool::{Change, Content, SpoolError, disk::Area, names};

const NAME: &str = "0000000000000001.seg";

/// A spool with five small messages, a state and a removal; where each message has its bytes.
fn example(clean: bool) -> (SimDisk, Vec<u8>) {
    let disk = SimDisk::default();
    let (spool, _) = open(&disk);
    let ids: Vec<_> = (0..5).map(|n| append(&spool, n, 40 + n as usize).unwrap().id()).collect();
    wait(spool.apply_durable(Change::State(ids[1], Bytes::from_static(b"deferred")))).unwrap();
    wait(spool.apply_durable(Change::Remove(ids[2]))).unwrap();
    let killed = disk.after_kill();
    drop(spool);
    let disk = if clean { disk } else { killed };
    let mut bytes = disk.bytes(Area::Log, NAME);
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    bytes.truncate(end + 64);
    (disk, bytes)
}

/// Opens the damaged spool: whatever is handed back is true. Returns which messages that is, and
/// which of them have an unreadable content.
fn opened(disk: &SimDisk, bytes: Vec<u8>) -> BTreeMap<u64, bool> {
    disk.set_bytes(Area::Log, NAME, bytes);
    let (spool, recovery) = open(disk);
    let mut seen = BTreeMap::new();
    for message in &recovery.messages {
        let n = seed(message);
        let readable = match message.content.read() {
            Ok(content) => {
                assert_eq!(content, body(n, 40 + n as usize));
                true
            }
            Err(SpoolError::Corrupt { .. }) => false,
            Err(error) => panic!("{error}"),
        };
        assert!(seen.insert(n, readable).is_none());
        assert!(message.state.as_deref().is_none_or(|state| n == 1 && state == b"deferred"));
    }
    append(&spool, 9, 49).unwrap();
    // And it stays so.
    drop(spool);
    let (_, again) = open(disk);
    assert_eq!(again.messages.iter().filter(|message| seed(message) != 9).count(), seen.len());
    seen
}

#[test]
fn a_bit_flipped_anywhere_harms_one_record_at_most() {
    for clean in [true, false] {
        let (disk, bytes) = example(clean);
        for at in (0..64).chain(4096..4160).chain(8192..bytes.len()) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            let seen = opened(&disk.after_kill(), damaged);
            let good = seen.iter().filter(|(n, readable)| **n != 2 && **readable).count();
            // One message, or the mark that removes another.
            assert!(good >= 3, "flip at {at}: {seen:?}");
            if at < 8192 {
                assert_eq!(good, 4, "flip at {at}");
            }
            if clean && at < bytes.len() - 200 {
                // Damage to a content that was safe is told apart from a write cut short.
                assert!(good == 4 || seen.len() >= 3, "flip at {at}");
            }
        }
    }
}

#[test]
fn cut_anywhere_the_rest_is_whole() {
    let (disk, bytes) = example(false);
    let mut most = 5;
    for at in (8192..bytes.len()).rev() {
        let seen = opened(&disk.after_kill(), bytes[..at].to_vec());
        assert!(seen.values().all(|readable| *readable), "cut at {at}: {seen:?}");
        // The removal goes first, and then a message at a time.
        assert!(seen.keys().copied().eq(0..seen.len() as u64) || seen.keys().eq(&[0, 1, 3, 4]));
        assert!(seen.len() <= most || seen.len() == 5);
        most = seen.len().max(most.min(seen.len() + 1));
    }
}

#[test]
fn zeros_and_noise_behind_the_end_are_a_torn_tail() {
    let (disk, bytes) = example(false);
    let end = bytes.len() - 64;
    for len in 1..200 {
        let mut damaged = bytes[..end].to_vec();
        damaged.extend_from_slice(&body(len, len as usize));
        damaged.push(1);
        let copy = disk.after_kill();
        copy.set_bytes(Area::Log, NAME, damaged);
        let (spool, recovery) = open(&copy);
        assert_eq!(recovery.report.torn_tail_bytes, len + 1);
        assert_eq!(recovery.report.messages, 4);
        drop(spool);
        let (_, again) = open(&copy);
        assert_eq!(again.report.torn_tail_bytes, 0, "it was cut off");
    }
}

#[test]
fn a_damaged_content_is_reported_and_not_handed_out() {
    let disk = SimDisk::default();
    let (spool, _) = open(&disk);
    let stored = append(&spool, 1, 5000).unwrap();
    append(&spool, 2, 5000).unwrap();
    spool.close();
    let mut bytes = disk.bytes(Area::Log, NAME);
    let at = bytes.windows(64).position(|window| window == &body(1, 5000)[1000..1064]).unwrap();
    bytes[at] ^= 1;
    disk.set_bytes(Area::Log, NAME, bytes);
    assert!(matches!(stored.read(), Err(SpoolError::Corrupt { .. })));
    let (spool, recovery) = open(&disk);
    assert_eq!((recovery.report.messages, recovery.report.corrupt_records), (2, 1));
    assert!(matches!(recovery.messages[0].content.read(), Err(SpoolError::Corrupt { .. })));
    assert!(recovery.messages[1].content.read().is_ok());
    // It may be moved, but it stays known as damaged.
    drop(spool);
    let (_, recovery) = open(&disk);
    assert!(matches!(recovery.messages[0].content.read(), Err(SpoolError::Corrupt { .. })));
}

#[test]
fn a_big_file_that_is_damaged_or_gone_is_known_as_such() {
    let disk = SimDisk::default();
    let (spool, _) = open(&disk);
    let mut ids = Vec::new();
    for n in 0..3 {
        let id = spool.next_id();
        let mut staged = spool.stage(id).unwrap();
        staged.write(&body(n, 4000)).unwrap();
        wait(spool.append(id, meta(n), Content::Staged(staged), Vec::new())).unwrap();
        ids.push(id.0);
    }
    spool.close();
    let mut bytes = disk.bytes(Area::Big, &names::big(ids[0]));
    bytes[3999] ^= 1;
    disk.set_bytes(Area::Big, &names::big(ids[0]), bytes);
    crate::queue::spool::disk::Disk::remove(&disk, Area::Big, &names::big(ids[1])).unwrap();
    let (_, recovery) = open(&disk);
    assert_eq!((recovery.report.messages, recovery.report.corrupt_records), (3, 1));
    let read: Vec<_> = recovery.messages.iter().map(|message| message.content.read().is_ok()).collect();
    assert_eq!(read, [false, false, true]);
}

#[test]
fn a_body_that_imitates_records_is_a_body() {
    let disk = SimDisk::default();
    let (spool, _) = open(&disk);
    append(&spool, 1, 300).unwrap();
    let real = disk.bytes(Area::Log, NAME);
    // Another spool's records: same format, another nonce.
    let content = Content::Memory(vec![real[8192..9000].to_vec().into()]);
    let other = SimDisk::default();
    let (spool, _) = open(&other);
    for _ in 0..3 {
        spool.next_id();
    }
    wait(spool.append(spool.next_id(), meta(2), content, Vec::new())).unwrap();
    append(&spool, 3, 300).unwrap();
    spool.close();
    let mut bytes = other.bytes(Area::Log, NAME);
    // Break the head of the record that holds it.
    let at = bytes.windows(9).position(|window| window == b"meta of 2").unwrap();
    bytes[at] ^= 1;
    other.set_bytes(Area::Log, NAME, bytes);
    let (_, recovery) = open(&other);
    assert_eq!(recovery.messages.iter().map(seed).collect::<Vec<_>>(), [3]);
    assert_eq!(recovery.report.corrupt_records, 1);
}

#[test]
fn a_segment_without_a_header_is_set_aside() {
    let (disk, mut bytes) = example(true);
    bytes[10] ^= 1;
    bytes[4096 + 10] ^= 1;
    disk.set_bytes(Area::Log, NAME, bytes);
    let (spool, recovery) = open(&disk);
    assert_eq!((recovery.report.messages, recovery.report.corrupt_records), (0, 1));
    assert!(disk.names(Area::Log).contains(&format!("{NAME}.bad")));
    append(&spool, 1, 10).unwrap();
    drop(spool);
    assert_eq!(open(&disk).1.report.messages, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn noise_never_panics_and_is_never_mail(
        strokes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 1..90usize), 1..12),
        clean in any::<bool>(),
    ) {
        let (disk, mut bytes) = example(clean);
        for (at, byte, len) in strokes {
            let at = 8192 + at.index(bytes.len() - 8192);
            let end = (at + len).min(bytes.len());
            bytes[at..end].fill(byte);
        }
        // Removals may be among what is lost; what is handed back is checked in there.
        opened(&disk, bytes);
    }
}
