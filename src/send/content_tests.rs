use bytes::Bytes;

use super::super::testing::{greeting, message, plain, play, script};
use super::super::{ONE_FLIGHT, OutgoingContent};

const BODY: &[u8] = b"Subject: x\r\n\r\n.dot\r\nend\r\n";

#[tokio::test]
async fn data_goes_stuffed_behind_one_write_of_commands() {
    let played = play(
        &plain(),
        &[message(&["b@x.test"], BODY)],
        &script(
            "PIPELINING",
            "C MAIL FROM:<a@edge.test>
             C RCPT TO:<b@x.test>
             C DATA
             S 250 2.1.0 Sender OK
             S 250 2.1.5 Recipient OK
             S 354 Go
             TEXT
             S 250 2.6.0 Queued
            ",
        ),
    )
    .await;
    assert_eq!(played.told(), ["relayed 250 2.6.0 Queued"]);
    assert_eq!(played.content, b"Subject: x\r\n\r\n..dot\r\nend\r\n.\r\n");
}

#[tokio::test]
async fn data_that_nobody_is_to_get_ends_with_a_lone_dot() {
    let (first, second) = (message(&["b@x.test"], b"x\r\n"), message(&["c@x.test"], b"y\r\n"));
    let played = play(
        &plain(),
        &[first, second],
        &script(
            "PIPELINING",
            "C MAIL FROM:<a@edge.test>
             C RCPT TO:<b@x.test>
             C DATA
             S 250 ok
             S 550 5.1.1 unknown
             S 354 go
             TEXT
             S 554 5.5.1 no valid recipients
             C RSET
             C MAIL FROM:<a@edge.test>
             C RCPT TO:<c@x.test>
             C DATA
             S 250 reset
             S 250 ok
             S 250 ok
             S 354 go
             TEXT
             S 250 queued
            ",
        ),
    )
    .await;
    assert_eq!(played.told(), ["failed 550 5.1.1 unknown", "relayed 250 queued"]);
    assert_eq!(played.content, b".\r\ny\r\n.\r\n");
}

#[tokio::test]
async fn large_content_waits_for_the_recipients_and_goes_in_chunks() {
    let content: Vec<u8> = (0..600 * 1024_u32).map(|n| b'a' + (n % 26) as u8).collect();
    assert!(content.len() as u64 > ONE_FLIGHT);
    let played = play(
        &plain(),
        &[message(&["b@x.test"], &content)],
        &script(
            "PIPELINING CHUNKING DSN SIZE",
            "C MAIL FROM:<a@edge.test> SIZE=614400
             C RCPT TO:<b@x.test>
             S 250 ok
             S 250 ok
             C BDAT 262144
             BODY 262144
             S 250 chunk
             C BDAT 262144
             BODY 262144
             S 250 chunk
             C BDAT 90112 LAST
             BODY 90112
             S 250 queued
            ",
        ),
    )
    .await;
    assert_eq!(played.told(), ["delivered 250 queued"]);
    assert!(played.content == content);
}

#[tokio::test]
async fn a_refused_chunk_stops_the_rest() {
    let content = vec![b'x'; 1024 * 1024];
    let played = play(
        &plain(),
        &[message(&["b@x.test"], &content), message(&["c@x.test"], b"x\r\n")],
        &script(
            "CHUNKING",
            "C MAIL FROM:<a@edge.test>
             S 250 ok
             C RCPT TO:<b@x.test>
             S 250 ok
             C BDAT 262144
             BODY 262144
             S 552 5.3.4 too large
             C RSET
             S 250 ok
             C MAIL FROM:<a@edge.test>
             S 250 ok
             C RCPT TO:<c@x.test>
             S 250 ok
             C BDAT 3 LAST
             BODY 3
             S 250 queued
            ",
        ),
    )
    .await;
    assert_eq!(played.told(), ["failed 552 5.3.4 too large", "relayed 250 queued"]);
}

#[tokio::test]
async fn an_early_refusal_of_data_counts_and_ends_the_session() {
    let content = vec![b'x'; 2 * 1024 * 1024];
    let played = play(
        &plain(),
        &[message(&["b@x.test"], &content)],
        &format!(
            "{}C MAIL FROM:<a@edge.test>
             C RCPT TO:<b@x.test>
             C DATA
             S 250 ok
             S 250 ok
             S 354 go
             BODY 100000
             S 552 5.3.4 too large
             CLOSE",
            greeting("PIPELINING")
        ),
    )
    .await;
    assert_eq!(played.told(), ["failed 552 5.3.4 too large"]);
}

#[tokio::test]
async fn an_early_yes_is_not_believed() {
    let content = vec![b'x'; 2 * 1024 * 1024];
    let played = play(
        &plain(),
        &[message(&["b@x.test"], &content)],
        &format!(
            "{}C MAIL FROM:<a@edge.test>
             C RCPT TO:<b@x.test>
             C DATA
             S 250 ok
             S 250 ok
             S 354 go
             BODY 100000
             S 250 queued, trust me
             BODY 600000
             CLOSE",
            greeting("PIPELINING")
        ),
    )
    .await;
    assert!(
        played.told()[0].starts_with("deferred 451 4.5.0 The next hop broke the protocol"),
        "{:?}",
        played.told()
    );
}

#[tokio::test]
async fn content_of_another_size_never_reaches_the_wire() {
    let mut wrong = message(&["b@x.test"], b"x\r\n");
    wrong.content = OutgoingContent::Memory(vec![Bytes::from_static(b"xyz\r\nRSET\r\n")]);
    let played = play(&plain(), &[wrong], &script("PIPELINING CHUNKING", "")).await;
    assert!(played.told()[0].starts_with("deferred 451 4.3.0"), "{:?}", played.told());
}
