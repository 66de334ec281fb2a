use super::super::testing::{BYE, connector, greeting};
use super::super::testing_tls::{STEP, hello, logged};
use crate::config::SendTls;

#[tokio::test]
async fn the_log_is_in_exchanges_order() {
    let inside = format!(
        "{}C MAIL FROM:<a@edge.test>
         C RCPT TO:<b@x.test>
         C BDAT 3 LAST
         BODY 3
         S 250 2.1.0 Sender OK
         S 250 2.1.5 Recipient OK
         S 250 2.6.0 <id@edge.test> [InternalId=1, Hostname=mx.test] Queued mail for delivery
         {BYE}",
        hello("PIPELINING CHUNKING")
    );
    let lines = logged(connector(SendTls::Required), Some(&["mx.test"]), &inside).await;
    let expected = [
        "*,SendRoutingHeaders,Set Session Permissions",
        "*,,attempting to connect",
        "+,,",
        "<,220 mx.test ESMTP,",
        ">,EHLO edge.test,",
        "<,250  mx.test Hello PIPELINING CHUNKING STARTTLS,",
        ">,STARTTLS,",
        "<,220 2.0.0 SMTP server ready,",
        "* CN=edge.test ... Sending certificate",
        "* TLS protocol SP_PROT_TLS1_3_CLIENT",
        "* ,TLS_AES_256_GCM_SHA384 ... ,Negotiated Cipher suite Key exchange group",
        ">,EHLO edge.test,",
        "<,250  mx.test Hello PIPELINING CHUNKING,",
        "*,,sending message with RecordId 7 and InternetMessageId <id@edge.test>",
        ">,MAIL FROM:<a@edge.test>,",
        "<,250 2.1.0 Sender OK,",
        ">,RCPT TO:<b@x.test>,",
        "<,250 2.1.5 Recipient OK,",
        ">,BDAT 3 LAST,",
        "<,\"250 2.6.0 <id@edge.test> [InternalId=1, Hostname=mx.test] Queued mail for delivery\",",
        ">,QUIT,",
        "<,221 2.0.0 Bye,",
        "-,,Remote",
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        let same = if let Some((start, words)) = expected.split_once(" ... ") {
            line.contains(start.trim_start_matches("* ")) && line.contains(words)
        } else if let Some(words) = expected.strip_prefix("* ") {
            line.starts_with("*,,\"") && line.contains(words)
        } else {
            line == expected
        };
        assert!(same, "{line} is not {expected}");
    }
}

#[tokio::test]
async fn a_name_that_verifies_is_in_the_log() {
    let inside = format!("{}{STEP}{BYE}", hello("8BITMIME"));
    for (rule, expected) in [(SendTls::ValidateDomain, 1), (SendTls::ValidateCertificate, 0)] {
        let lines = logged(connector(rule), Some(&["mx.test"]), &inside).await;
        let named = lines.iter().filter(|line| *line == "*,mx.test,Verified name of the next hop");
        assert_eq!(named.count(), expected, "{rule:?} {lines:#?}");
    }
}

#[tokio::test]
async fn a_plain_session_says_so_in_the_log() {
    let script = format!("{}{STEP}{BYE}", greeting("8BITMIME"));
    let lines = logged(connector(SendTls::Opportunistic), None, &script).await;
    assert_eq!(
        lines[6], "*,the next hop does not offer STARTTLS,No TLS: the session stayed in plain text",
        "{lines:#?}"
    );
    // A session that never gets that far has its line too.
    let lines = logged(connector(SendTls::Opportunistic), None, "S 421 4.3.2 busy\nCLOSE").await;
    assert_eq!(
        lines[3..],
        [
            "<,421 4.3.2 busy,",
            "*,closed before STARTTLS,No TLS: the session stayed in plain text",
            "-,,Remote"
        ]
    );
}
