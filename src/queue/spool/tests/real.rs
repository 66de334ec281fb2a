//! On the real file system.

use std::{fs, io::Read, os::unix::fs::PermissionsExt, thread, time::Instant};

use bytes::Bytes;

use super::{append, body, meta, open_dir, small, wait};
use crate::queue::spool::{Change, Content, MessageId, RecoveryReport, SpoolError, SpoolOptions};

#[test]
fn what_was_appended_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/spool");
    let (spool, recovery) = open_dir(&path, SpoolOptions::default()).unwrap();
    assert_eq!(recovery.report, RecoveryReport::default());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    let pieces = vec![body(1, 10), Bytes::new(), body(2, 3000), body(3, 1)];
    let whole = pieces.concat();
    let id = spool.next_id();
    wait(spool.append(id, meta(1), Content::Memory(pieces), Vec::new())).unwrap();
    assert_eq!(spool.content(id).unwrap().read().unwrap(), whole);
    let empty = append(&spool, 7, 0).unwrap();
    assert!(empty.is_empty());
    spool.apply(Change::State(id, Bytes::from_static(b"old")));
    spool.apply(Change::State(id, Bytes::from_static(b"new")));
    let gone = append(&spool, 8, 100).unwrap();
    spool.apply(Change::Remove(gone.id()));
    spool.close();
    assert!(matches!(append(&spool, 9, 1), Err(SpoolError::Closed)));
    assert!(spool.healthy().is_err());

    let (spool, recovery) = open_dir(&path, SpoolOptions::default()).unwrap();
    assert_eq!(
        recovery.report.to_string(),
        "2 messages, 1 segments, 8 records, 1 removed, 0 torn bytes, 0 corrupt, 0 orphan files"
    );
    let [first, second] = &recovery.messages[..] else { panic!("two messages") };
    assert_eq!((first.id, &*first.meta, first.state.as_deref()), (id, &*meta(1), Some(&b"new"[..])));
    assert_eq!(first.content.read().unwrap(), whole);
    assert_eq!(second.content.read().unwrap(), "");
    assert!(spool.next_id() > gone.id());
}

#[test]
fn a_big_message_lives_in_a_file_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open_dir(dir.path(), small()).unwrap();
    let whole = body(5, 300_000);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let id = spool.next_id();
    let staged = spool.stage(id).unwrap();
    let staged = runtime.block_on(staged.written(vec![whole.slice(..99), whole.slice(99..)])).unwrap();
    let staged = runtime.block_on(staged.finished()).unwrap();
    runtime.block_on(spool.append(id, meta(5), Content::Staged(staged), Vec::new())).unwrap();
    let stored = spool.content(id).unwrap();
    assert_eq!(stored.read().unwrap(), whole);
    let mut chunks = stored.open_reader().unwrap();
    let mut seen = Vec::new();
    while let Some(chunk) = chunks.next_chunk(70_000).unwrap() {
        seen.extend_from_slice(&chunk);
    }
    assert_eq!(seen, whole);
    // Given up half-way: nothing stays.
    let mut dropped = spool.stage(spool.next_id()).unwrap();
    dropped.write(b"half").unwrap();
    drop(dropped);
    assert!(spool.used_bytes() > 300_000);
    drop(spool);
    fs::write(dir.path().join("big/0000000000000fff"), "orphan").unwrap();
    fs::write(dir.path().join("big/0000000000000ffe.tmp"), "orphan").unwrap();
    fs::write(dir.path().join("big/README"), "not ours").unwrap();

    let (spool, recovery) = open_dir(dir.path(), small()).unwrap();
    assert_eq!(recovery.report.orphan_files, 2);
    let message = &recovery.messages[0];
    let mut seen = Vec::new();
    message.content.open_reader().unwrap().read_to_end(&mut seen).unwrap();
    assert_eq!(seen, whole);
    wait(spool.apply_durable(Change::Remove(message.id))).unwrap();
    assert!(matches!(message.content.read(), Err(SpoolError::Gone(_))));
    spool.close();
    let left: Vec<_> =
        fs::read_dir(dir.path().join("big")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["README"]);
}

#[test]
fn a_message_larger_than_a_segment_or_of_many_pieces_is_no_exception() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open_dir(dir.path(), small()).unwrap();
    let whole = body(1, 300_000);
    append(&spool, 0, 100).unwrap();
    append(&spool, 1, 300_000).unwrap();
    let pieces = (0..3000).map(|n| whole.slice(n * 100..(n + 1) * 100)).collect();
    wait(spool.append(spool.next_id(), meta(1), Content::Memory(pieces), Vec::new())).unwrap();
    append(&spool, 0, 100).unwrap();
    drop(spool);
    let (_, recovery) = open_dir(dir.path(), small()).unwrap();
    let contents: Vec<_> = recovery.messages.iter().map(|message| message.content.read().unwrap()).collect();
    assert_eq!(contents, [body(0, 100), whole.clone(), whole, body(0, 100)]);
}

#[test]
fn a_spool_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open_dir(dir.path(), small()).unwrap();
    let Err(SpoolError::Locked { pid }) = open_dir(dir.path(), small()) else { panic!("not locked") };
    assert_eq!(pid, std::process::id());
    drop(spool);
    open_dir(dir.path(), small()).unwrap();
}

#[test]
fn many_producers_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open_dir(dir.path(), SpoolOptions { segment_size: 1 << 20, ..small() }).unwrap();
    thread::scope(|scope| {
        for producer in 0..16u64 {
            let spool = &spool;
            scope.spawn(move || {
                for n in 0..100 {
                    let seed = producer * 1000 + n;
                    let stored = append(spool, seed, 2000 + n as usize * 40).unwrap();
                    assert_eq!(stored.read().unwrap(), body(seed, 2000 + n as usize * 40));
                    if n % 2 == 0 {
                        spool.apply(Change::Remove(stored.id()));
                    }
                }
            });
        }
    });
    drop(spool);
    let (_, recovery) = open_dir(dir.path(), small()).unwrap();
    assert_eq!(recovery.messages.len(), 800);
    assert_eq!(recovery.report.corrupt_records + recovery.report.torn_tail_bytes, 0);
    for message in recovery.messages {
        let seed: u64 = std::str::from_utf8(&message.meta).unwrap()[8..].parse().unwrap();
        assert_eq!(message.content.read().unwrap(), body(seed, 2000 + (seed % 1000) as usize * 40));
    }
}

#[test]
fn ids_never_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = MessageId(0);
    for _ in 0..4 {
        let (spool, _) = open_dir(dir.path(), small()).unwrap();
        for _ in 0..40_000 {
            let id = spool.next_id();
            assert!(id > last);
            last = id;
        }
    }
}

/// Prints how long a full spool takes to open; slow machines are no failure.
#[test]
fn a_hundred_thousand_messages_open() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open_dir(dir.path(), SpoolOptions::default()).unwrap();
    let content = body(1, 300);
    let mut last = None;
    for n in 0..100_000 {
        let pieces = Content::Memory(vec![content.clone()]);
        last = Some(spool.append(spool.next_id(), meta(n), pieces, Vec::new()));
        if n % 3 == 0 {
            spool.apply(Change::Remove(MessageId(n / 3 + 1)));
        }
    }
    wait(last.unwrap()).unwrap();
    drop(spool);
    let start = Instant::now();
    let (_, recovery) = open_dir(dir.path(), SpoolOptions::default()).unwrap();
    println!("{:?}: {}", start.elapsed(), recovery.report);
    assert_eq!(recovery.messages.len(), 100_000 - 33_334);
}
