use bytes::Bytes;

use super::super::testing::{greeting, message, plain, play, script};
use super::super::{Outgoing, OutgoingContent};
use crate::queue::spool::{Change, Content, Spool, SpoolOptions, StoredContent};

async fn store(spool: &Spool, content: &[u8], big: bool) -> StoredContent {
    let id = spool.next_id();
    let pieces = vec![Bytes::copy_from_slice(content)];
    let content = if big {
        let staged = spool.stage(id).unwrap().written(pieces).await.unwrap();
        Content::Staged(staged.finished().await.unwrap())
    } else {
        Content::Memory(pieces)
    };
    spool.append(id, Bytes::from_static(b"meta"), content, Vec::new()).await.unwrap();
    spool.content(id).unwrap()
}

fn stored_message(content: &[u8], stored: StoredContent) -> Outgoing {
    Outgoing { content: OutgoingContent::Stored(stored), ..message(&["b@x.test"], content) }
}

fn text(lines: usize) -> Vec<u8> {
    b".a line of text that begins with a dot\r\n".repeat(lines)
}

#[tokio::test]
async fn a_small_stored_message_goes_in_one_flight() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(directory.path(), SpoolOptions::default()).unwrap();
    let content = text(3);
    let stored = store(&spool, &content, false).await;
    let steps = format!(
        "C MAIL FROM:<a@edge.test>\nC RCPT TO:<b@x.test>\nC BDAT {0} LAST\nBODY {0}\nS 250 ok\nS 250 ok\nS 250 ok\n",
        content.len()
    );
    let played =
        play(&plain(), &[stored_message(&content, stored)], &script("PIPELINING CHUNKING", &steps)).await;
    assert_eq!(played.told(), ["relayed 250 ok"]);
    assert!(played.content == content);
}

#[tokio::test]
async fn a_big_stored_message_is_streamed() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(directory.path(), SpoolOptions::default()).unwrap();
    let content = text(20_000);
    let stored = store(&spool, &content, true).await;
    let steps = "C MAIL FROM:<a@edge.test>\nC RCPT TO:<b@x.test>\nC DATA\nS 250 ok\nS 250 ok\nS 354 go\nTEXT\nS 250 ok\n";
    let played =
        play(&plain(), &[stored_message(&content, stored.clone())], &script("PIPELINING", steps)).await;
    assert_eq!(played.told(), ["relayed 250 ok"]);
    let stuffed = [b".".as_slice(), &content[..]].concat();
    assert_eq!(played.content.len(), content.len() + 20_000 + 3);
    assert!(played.content.starts_with(&stuffed[..40]) && played.content.ends_with(b"dot\r\n.\r\n"));

    let mut left = content.len();
    let mut steps = "C MAIL FROM:<a@edge.test>\nC RCPT TO:<b@x.test>\nS 250 ok\nS 250 ok\n".to_owned();
    while left > 0 {
        let size = left.min(super::PIECE);
        left -= size;
        let last = if left == 0 { " LAST" } else { "" };
        steps.extend([format!("C BDAT {size}{last}\nBODY {size}\nS 250 ok\n")]);
    }
    let played =
        play(&plain(), &[stored_message(&content, stored)], &script("PIPELINING CHUNKING", &steps)).await;
    assert_eq!(played.told(), ["relayed 250 ok"]);
    assert!(played.content == content);
}

#[tokio::test]
async fn damaged_content_is_never_completed() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(directory.path(), SpoolOptions::default()).unwrap();
    let content = text(20_000);
    let stored = store(&spool, &content, true).await;
    let file = std::fs::read_dir(directory.path().join("big")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let message = stored_message(&content, stored);
    // The peer sees the connection end before the last chunk, or before the final dot.
    let steps = "C MAIL FROM:<a@edge.test>\nC RCPT TO:<b@x.test>\nS 250 ok\nS 250 ok\nTEXT\n";
    let played = play(
        &plain(),
        std::slice::from_ref(&message),
        &format!("{}{steps}", greeting("PIPELINING CHUNKING")),
    )
    .await;
    assert_eq!(played.told(), ["deferred 451 4.3.0 The message cannot be read from the queue"]);
    assert!(!played.content.windows(4).any(|window| window == b"LAST"));
    let steps =
        "C MAIL FROM:<a@edge.test>\nC RCPT TO:<b@x.test>\nC DATA\nS 250 ok\nS 250 ok\nS 354 go\nTEXT\n";
    let played = play(&plain(), &[message], &format!("{}{steps}", greeting("PIPELINING"))).await;
    assert_eq!(played.told(), ["deferred 451 4.3.0 The message cannot be read from the queue"]);
    assert!(!played.content.ends_with(b"\r\n.\r\n"));
}

#[tokio::test]
async fn a_message_that_is_gone_costs_no_connection() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(directory.path(), SpoolOptions::default()).unwrap();
    let stored = store(&spool, b"x\r\n", false).await;
    spool.apply_durable(Change::Remove(stored.id())).await.unwrap();
    let gone = stored_message(b"x\r\n", stored);
    let steps = "C MAIL FROM:<a@edge.test>\nC RCPT TO:<b@x.test>\nC BDAT 3 LAST\nBODY 3\nS 250 ok\nS 250 ok\nS 250 ok\n";
    let played =
        play(&plain(), &[gone, message(&["b@x.test"], b"x\r\n")], &script("PIPELINING CHUNKING", steps))
            .await;
    assert_eq!(
        played.told(),
        ["deferred 451 4.3.0 The message cannot be read from the queue", "relayed 250 ok"]
    );
}
