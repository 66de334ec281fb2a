use super::super::Outcome;
use super::super::testing::{BYE, connector, greeting, message, plain, play, runtime, script};
use crate::config::{Host, LmtpTarget, Routing, SendTls};

const BODY: &[u8] = b"Subject: x\r\n\r\n.dot\r\nend\r\n";

#[tokio::test]
async fn one_flight_where_the_peer_takes_it() {
    let played = play(
        &plain(),
        &[message(&["b@x.test"], BODY)],
        &script(
            "SIZE=1000 PIPELINING DSN CHUNKING",
            "C MAIL FROM:<a@edge.test> SIZE=25
             C RCPT TO:<b@x.test>
             C BDAT 25 LAST
             BODY 25
             S 250 2.1.0 Sender OK
             S 250 2.1.5 Recipient OK
             S 250 2.6.0 Queued mail for delivery
            ",
        ),
    )
    .await;
    assert_eq!(played.told(), ["delivered 250 2.6.0 Queued mail for delivery"]);
    assert_eq!(played.content, BODY);
    assert_eq!((played.event.messages, played.event.bytes), (1, 25));
    assert_eq!(played.event.helo.as_deref(), Some("mx.test"));
    assert_eq!(played.event.outcome, "ok");
}

#[tokio::test]
async fn without_pipelining_every_command_waits() {
    // A peer that loses what comes early would hang here: each reply precedes the next command.
    let played = play(
        &plain(),
        &[message(&["b@x.test", "c@x.test"], b"no line end")],
        &script(
            "8BITMIME",
            "C MAIL FROM:<a@edge.test>
             S 250 ok
             C RCPT TO:<b@x.test>
             S 250 ok
             C RCPT TO:<c@x.test>
             S 550 5.1.1 no such user
             C DATA
             S 354 go
             TEXT
             S 250 taken
            ",
        ),
    )
    .await;
    assert_eq!(played.told(), ["relayed 250 taken", "failed 550 5.1.1 no such user"]);
    assert_eq!(played.content, b"no line end\r\n.\r\n");
}

#[tokio::test]
async fn helo_when_ehlo_is_unknown() {
    let played = play(
        &plain(),
        &[message(&["b@x.test"], b"x\r\n")],
        &format!(
            "S 220 mx.test old
             C EHLO edge.test
             S 502 what
             C HELO edge.test
             S 250-mx.test
             S 250 PIPELINING
             C MAIL FROM:<a@edge.test>
             S 250 ok
             C RCPT TO:<b@x.test>
             S 250 ok
             C DATA
             S 354 go
             TEXT
             S 250 taken
             {BYE}"
        ),
    )
    .await;
    assert_eq!(played.told(), ["relayed 250 taken"]);
}

#[tokio::test]
async fn each_recipient_has_its_own_outcome() {
    let played = play(
        &plain(),
        &[message(&["b@x.test", "c@x.test", "d@x.test", "e@x.test", "f@x.test"], b"x\r\n")],
        &script(
            "PIPELINING CHUNKING DSN",
            "C MAIL FROM:<a@edge.test>
             C RCPT TO:<b@x.test>
             C RCPT TO:<c@x.test>
             C RCPT TO:<d@x.test>
             C RCPT TO:<e@x.test>
             C RCPT TO:<f@x.test>
             C BDAT 3 LAST
             BODY 3
             S 250 ok
             S 550 5.1.1 unknown
             S 250 ok
             S 451 4.7.1 greylisted
             S 452 4.5.3 Too many recipients
             S 552 too many recipients
             S 250 2.6.0 queued
            ",
        ),
    )
    .await;
    assert_eq!(
        played.told(),
        [
            "failed 550 5.1.1 unknown",
            "delivered 250 2.6.0 queued",
            "deferred 451 4.7.1 greylisted",
            "deferred 452 4.5.3 Too many recipients",
            "deferred 552 too many recipients",
        ]
    );
    let Outcome::Failed(failure) = &played.outcomes()[0] else { panic!() };
    let remote = failure.remote.as_ref().unwrap();
    assert_eq!((remote.name.as_str(), remote.ip.unwrap().to_string().as_str()), ("mx.test", "127.0.0.1"));
    assert!(!failure.local);
}

#[tokio::test]
async fn a_refused_bdat_without_recipients_is_reset_with_the_next_message() {
    let (first, second) = (message(&["b@x.test"], b"x\r\n"), message(&["c@x.test"], b"y\r\n"));
    let played = play(
        &plain(),
        &[first, second],
        &script(
            "PIPELINING CHUNKING DSN",
            "C MAIL FROM:<a@edge.test>
             C RCPT TO:<b@x.test>
             C BDAT 3 LAST
             BODY 3
             S 250 ok
             S 550 5.1.1 unknown
             S 554 5.5.1 no valid recipients
             C RSET
             C MAIL FROM:<a@edge.test>
             C RCPT TO:<c@x.test>
             C BDAT 3 LAST
             BODY 3
             S 250 reset
             S 250 ok
             S 250 ok
             S 250 queued
            ",
        ),
    )
    .await;
    assert_eq!(played.told(), ["failed 550 5.1.1 unknown", "delivered 250 queued"]);
}

#[tokio::test]
async fn a_refused_sender_is_the_outcome_of_all() {
    let played = play(
        &plain(),
        &[message(&["b@x.test", "c@x.test"], b"x\r\n")],
        &script(
            "PIPELINING CHUNKING",
            "C MAIL FROM:<a@edge.test>
             C RCPT TO:<b@x.test>
             C RCPT TO:<c@x.test>
             C BDAT 3 LAST
             BODY 3
             S 451 4.7.500 Server busy
             S 503 5.5.1 MAIL first
             S 503 5.5.1 MAIL first
             S 503 5.5.1 MAIL first
            ",
        ),
    )
    .await;
    assert_eq!(played.told(), ["deferred 451 4.7.500 Server busy", "deferred 451 4.7.500 Server busy"]);
}

#[tokio::test]
async fn a_421_in_the_middle_defers_and_closes() {
    let played = play(
        &plain(),
        &[message(&["b@x.test", "c@x.test"], b"x\r\n"), message(&["d@x.test"], b"x\r\n")],
        &format!(
            "{}C MAIL FROM:<a@edge.test>
             C RCPT TO:<b@x.test>
             C RCPT TO:<c@x.test>
             C BDAT 3 LAST
             BODY 3
             S 250 ok
             S 550 5.1.1 unknown
             S 421 4.3.2 shutting down
             CLOSE",
            greeting("PIPELINING CHUNKING")
        ),
    )
    .await;
    assert_eq!(
        played.told(),
        [
            "failed 550 5.1.1 unknown",
            "deferred 421 4.3.2 shutting down",
            "deferred 421 4.4.2 Connection dropped due to SocketError",
        ]
    );
    assert_eq!(played.event.outcome, "421 4.3.2 shutting down");
}

#[tokio::test]
async fn a_peer_that_closes_after_the_body_leaves_the_message_deferred() {
    let played = play(
        &plain(),
        &[message(&["b@x.test"], b"x\r\n")],
        &format!(
            "{}C MAIL FROM:<a@edge.test>
             C RCPT TO:<b@x.test>
             C BDAT 3 LAST
             BODY 3
             S 250 ok
             S 250 ok
             CLOSE",
            greeting("PIPELINING CHUNKING")
        ),
    )
    .await;
    assert_eq!(played.told(), ["deferred 421 4.4.2 Connection dropped due to SocketError"]);
    let Outcome::Deferred(failure) = &played.outcomes()[0] else { panic!() };
    assert!(failure.local && failure.remote.is_some());
}

#[tokio::test]
async fn replies_do_not_deadlock_a_flight_of_many_recipients() {
    // Neither side's buffer holds all of it: both must read while they write.
    let names: Vec<String> = (0..2000).map(|n| format!("recipient-number-{n}@x.test")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut rest = "C MAIL FROM:<a@edge.test>\nS 250 ok\n".to_owned();
    for name in &names {
        rest.extend([format!("C RCPT TO:<{name}>\nS 250 2.1.5 {} OK\n", "x".repeat(100))]);
    }
    rest.push_str("C BDAT 3 LAST\nBODY 3\nS 250 queued\n");
    let played = play(&plain(), &[message(&names, b"x\r\n")], &script("PIPELINING CHUNKING", &rest)).await;
    assert!(played.outcomes().iter().all(Outcome::is_success));
}

#[tokio::test]
async fn nonsense_breaks_the_session() {
    for nonsense in ["S 250-ok\nS 550 no", "S hello", "S 999 what", "S 354 go on"] {
        let played = play(
            &plain(),
            &[message(&["b@x.test"], b"x\r\n")],
            &format!("{}C MAIL FROM:<a@edge.test>\n{nonsense}\nEOF", greeting("")),
        )
        .await;
        let told = &played.told()[0];
        assert!(told.starts_with("deferred 451 4.5.0 The next hop broke the protocol"), "{nonsense}: {told}");
    }
}

#[tokio::test]
async fn lmtp_answers_for_each_recipient() {
    let mut config = connector(SendTls::Off);
    config.routing = Routing::Lmtp(LmtpTarget::Tcp(Host::Address([127, 0, 0, 1].into()), 24));
    let played = play(
        &runtime(config),
        &[message(&["b@x.test", "c@x.test", "d@x.test"], b"x\r\n")],
        &format!(
            "S 220 mx.test LMTP
             C LHLO edge.test
             S 250-mx.test
             S 250 PIPELINING
             C MAIL FROM:<a@edge.test>
             C RCPT TO:<b@x.test>
             C RCPT TO:<c@x.test>
             C RCPT TO:<d@x.test>
             C DATA
             S 250 ok
             S 250 ok
             S 550 5.1.1 unknown
             S 250 ok
             S 354 go
             TEXT
             S 250 2.0.0 saved
             S 452 4.2.2 over quota
             {BYE}"
        ),
    )
    .await;
    assert_eq!(
        played.told(),
        ["stored 250 2.0.0 saved", "failed 550 5.1.1 unknown", "deferred 452 4.2.2 over quota"]
    );
}
