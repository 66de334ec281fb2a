use super::super::Outcome;
use super::super::testing::{message, plain, play, script};
use super::push_notify;
use crate::smtp::{Address, BodyType, Notify, Ret};

#[test]
fn notify_is_spelled_as_in_rfc_3461() {
    let spelled = |success, failure, delay| {
        let mut out = Vec::new();
        push_notify(Notify { success, failure, delay }, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(spelled(false, false, false), "NEVER");
    assert_eq!(spelled(true, false, false), "SUCCESS");
    assert_eq!(spelled(true, true, true), "SUCCESS,FAILURE,DELAY");
    assert_eq!(spelled(false, true, true), "FAILURE,DELAY");
}

#[tokio::test]
async fn what_the_peer_cannot_take_is_refused_here() {
    let mut binary = message(&["b@x.test"], b"a\nb\0\r\n");
    binary.body = BodyType::BinaryMime;
    let mut internationalized = message(&["b@x.test"], "Subject: ü\r\n\r\n".as_bytes());
    internationalized.smtputf8 = true;
    let mut sender = message(&["b@x.test"], b"x\r\n");
    sender.from = Some(Address::parse("ü@edge.test").unwrap());
    let large = message(&["b@x.test"], &[b'x'; 2000]);
    let eight_bit = message(&["b@x.test"], "Subject: x\r\n\r\nü\r\n".as_bytes());
    let played = play(
        &plain(),
        &[binary, internationalized, sender, large, eight_bit],
        &script("PIPELINING CHUNKING SIZE=1000", ""),
    )
    .await;
    let told = played.told();
    for (told, code) in told.iter().zip(["554 5.6.3", "550 5.6.7", "550 5.6.7", "552 5.3.4", "554 5.6.3"]) {
        assert!(told.starts_with(&format!("failed {code}")), "{told}");
    }
    assert_eq!(told.len(), 5);
}

#[tokio::test]
async fn what_it_can_take_is_declared() {
    let eight_bit = message(&["b@x.test"], "ü\r\n".as_bytes());
    let mut declared = message(&["b@x.test"], b"x\r\n");
    declared.body = BodyType::EightBitMime;
    let mut binary = message(&["b@x.test"], b"a\nb\0\r\n");
    binary.body = BodyType::BinaryMime;
    let mut utf8 = message(&["ü@x.test"], b"x\r\n");
    utf8.from = None;
    let step = |mail: &str, to: &str, size: usize| {
        format!("C {mail}\nC RCPT TO:<{to}>\nC BDAT {size} LAST\nBODY {size}\nS 250 ok\nS 250 ok\nS 250 ok\n")
    };
    let rest = [
        step("MAIL FROM:<a@edge.test> BODY=8BITMIME", "b@x.test", 4),
        step("MAIL FROM:<a@edge.test> BODY=8BITMIME", "b@x.test", 3),
        step("MAIL FROM:<a@edge.test> BODY=BINARYMIME", "b@x.test", 6),
        step("MAIL FROM:<> SMTPUTF8", "ü@x.test", 3),
    ];
    let keywords = "PIPELINING CHUNKING 8BITMIME BINARYMIME SMTPUTF8";
    let played =
        play(&plain(), &[eight_bit, declared, binary, utf8], &script(keywords, &rest.concat())).await;
    assert!(played.outcomes().iter().all(Outcome::is_success), "{:?}", played.told());
}

#[tokio::test]
async fn plain_text_that_is_called_binary_goes_to_a_peer_without_binarymime() {
    let mut text = message(&["b@x.test"], b"just text\r\n");
    text.body = BodyType::BinaryMime;
    let mut long = message(&["b@x.test"], b"x\r\n");
    long.body = BodyType::BinaryMime;
    long.facts.longest_line = 999;
    let played = play(
        &plain(),
        &[text, long],
        &script(
            "PIPELINING",
            "C MAIL FROM:<a@edge.test>
             C RCPT TO:<b@x.test>
             C DATA
             S 250 ok
             S 250 ok
             S 354 go
             TEXT
             S 250 ok
            ",
        ),
    )
    .await;
    assert_eq!(played.told()[0], "relayed 250 ok");
    assert!(played.told()[1].starts_with("failed 554 5.6.3"));
}

#[tokio::test]
async fn an_internationalized_recipient_alone_is_refused() {
    let mut mixed = message(&["ü@x.test", "b@bücher.test"], b"x\r\n");
    mixed.from = None;
    let played = play(
        &plain(),
        &[mixed],
        &script(
            "PIPELINING CHUNKING",
            "C MAIL FROM:<>
             C RCPT TO:<b@xn--bcher-kva.test>
             C BDAT 3 LAST
             BODY 3
             S 250 ok
             S 250 ok
             S 250 ok
            ",
        ),
    )
    .await;
    assert!(played.told()[0].starts_with("failed 550 5.6.7"));
    assert_eq!(played.told()[1], "relayed 250 ok");
}

#[tokio::test]
async fn dsn_parameters_go_only_to_who_offers_dsn() {
    let mut asking = message(&["b@x.test"], b"x\r\n");
    asking.ret = Some(Ret::Headers);
    asking.envid = Some("QQ+2B1".into());
    asking.recipients[0].notify = Some(Notify { success: true, failure: true, delay: false });
    asking.recipients[0].orcpt = Some("rfc822;b@x.test".into());
    let with = "C MAIL FROM:<a@edge.test> RET=HDRS ENVID=QQ+2B1
                C RCPT TO:<b@x.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;b@x.test
                C BDAT 3 LAST
                BODY 3
                S 250 ok\nS 250 ok\nS 250 ok\n";
    let played =
        play(&plain(), std::slice::from_ref(&asking), &script("PIPELINING CHUNKING DSN", with)).await;
    assert_eq!(played.told(), ["delivered 250 ok"]);
    let without = "C MAIL FROM:<a@edge.test>
                   C RCPT TO:<b@x.test>
                   C BDAT 3 LAST
                   BODY 3
                   S 250 ok\nS 250 ok\nS 250 ok\n";
    let played = play(&plain(), &[asking], &script("PIPELINING CHUNKING", without)).await;
    assert_eq!(played.told(), ["relayed 250 ok"]);
}

#[tokio::test]
async fn a_value_that_would_break_the_line_is_left_out() {
    let mut evil = message(&["b@x.test"], b"x\r\n");
    evil.envid = Some("a\r\nRCPT TO:<evil@x.test>".into());
    let played = play(
        &plain(),
        &[evil],
        &script(
            "PIPELINING CHUNKING DSN",
            "C MAIL FROM:<a@edge.test>
             C RCPT TO:<b@x.test>
             C BDAT 3 LAST
             BODY 3
             S 250 ok\nS 250 ok\nS 250 ok\n",
        ),
    )
    .await;
    assert!(played.outcomes()[0].is_success());
}
