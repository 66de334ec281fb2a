use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use super::super::testing::{
    BYE, connector, context, greeting, message, plain, play, runtime, serve, target, told,
};
use super::super::testing_tls::{STEP, hello, through_tls};
use super::super::{Connection, Outcome, Target};
use crate::config::{DomainPattern, SendTls};

#[tokio::test]
async fn after_tls_all_capabilities_are_asked_for_again() {
    // PIPELINING and CHUNKING were offered in clear text only: the script is lock-step.
    let inside = format!("{}{STEP}{BYE}", hello("SIZE=1000").replace("SIZE 1000", "8BITMIME"));
    let (result, facts, event) =
        through_tls(connector(SendTls::Required), &target(), &["other.test"], &inside).await;
    assert_eq!(told(&result.unwrap()[0]), "relayed 250 2.6.0 queued");
    assert_eq!(facts.server_name.as_deref(), Some("mx.test"), "SNI is the host's name");
    assert_eq!(facts.peer_chain.len(), 2, "our certificate goes with its chain");
    assert_eq!(event.tls_version, Some("TLS1_3"));
    assert!(!event.tls_verified);
    assert_eq!(event.tls_peer_name.as_deref(), Some("other.test"));
    assert_eq!(event.no_tls_reason, None);
}

#[tokio::test]
async fn a_verified_name_is_told() {
    let inside = format!("{}{STEP}{BYE}", hello("DSN"));
    let (result, _, event) =
        through_tls(connector(SendTls::ValidateDomain), &target(), &["mx.test"], &inside).await;
    assert_eq!(told(&result.unwrap()[0]), "delivered 250 2.6.0 queued");
    assert!(event.tls_verified);
    assert_eq!(event.tls_peer_name.as_deref(), Some("mx.test"));
}

#[tokio::test]
async fn tls_domain_takes_the_place_of_the_hosts_name() {
    let mut config = connector(SendTls::ValidateDomain);
    config.tls_domain = Some(DomainPattern::parse("*.outlook.test").unwrap());
    let inside = format!("{}{STEP}{BYE}", hello("DSN"));
    let (result, _, _) =
        through_tls(config.clone(), &target(), &["mail.protection.outlook.test"], &inside).await;
    assert!(result.is_ok());
    // The host's own name is then not enough.
    let (result, _, event) = through_tls(config, &target(), &["mx.test"], "C QUIT\nS 221 Bye\nCLOSE").await;
    let failure = result.unwrap_err();
    assert_eq!(failure.reply.to_string(), "454 4.7.5 Certificate validation failure, Reason:SubjectMismatch");
    assert!(!failure.permanent && failure.local && !event.tls_verified);
}

#[tokio::test]
async fn an_unknown_issuer_gets_quit_before_any_mail() {
    for rule in [SendTls::ValidateCertificate, SendTls::ValidateDomain] {
        let (result, _, event) =
            through_tls(connector(rule), &target(), &["!", "mx.test"], "C QUIT\nS 221 Bye\nCLOSE").await;
        let failure = result.unwrap_err();
        let words = "454 4.7.5 Certificate validation failure, Reason:UntrustedRoot";
        assert_eq!(failure.reply.to_string(), words);
        assert_eq!(event.outcome, words);
        assert_eq!(event.tls_version, Some("TLS1_3"), "its version is told all the same");
        assert_eq!(
            failure.last_error(),
            "451 4.4.0 Primary target IP address responded with: \"454 4.7.5 Certificate validation failure, \
             Reason:UntrustedRoot.\" Attempted failover to alternate host, but that did not succeed. Either \
             there are no alternate hosts, or delivery failed to all alternate hosts. The last endpoint \
             attempted was 127.0.0.1:25"
        );
    }
}

#[tokio::test]
async fn a_host_by_address_must_carry_it() {
    let address = Target::new("[127.0.0.1]", SocketAddr::from(([127, 0, 0, 1], 25)));
    let inside = format!("{}{STEP}{BYE}", hello("DSN"));
    let (result, facts, event) =
        through_tls(connector(SendTls::ValidateDomain), &address, &["127.0.0.1"], &inside).await;
    assert!(result.is_ok());
    assert_eq!(facts.server_name, None);
    assert_eq!(event.tls_peer_name.as_deref(), Some("127.0.0.1"));
    let (result, ..) =
        through_tls(connector(SendTls::ValidateDomain), &address, &["mx.test"], "C QUIT\nS 221 Bye\nCLOSE")
            .await;
    assert!(result.unwrap_err().to_string().ends_with("Reason:SubjectMismatch"));
}

#[tokio::test]
async fn required_means_no_clear_text() {
    for rule in [SendTls::Required, SendTls::ValidateCertificate, SendTls::ValidateDomain] {
        let script = format!("{}{BYE}", greeting("PIPELINING"));
        let played = play(&runtime(connector(rule)), &[message(&["b@x.test"], b"x\r\n")], &script).await;
        let failure = played.failure();
        assert_eq!(failure.reply.to_string(), "451 5.7.3 STARTTLS is required to send mail");
        assert!(matches!(failure.outcome(), Outcome::Deferred(_)));
        assert!(played.event.no_tls_reason.is_some());
        // HELO cannot offer it either.
        let script = "S 220 mx.test\nC EHLO edge.test\nS 500 no\nC HELO edge.test\nS 250 mx.test\nC QUIT\nS 221 x\nCLOSE";
        let played = play(&runtime(connector(rule)), &[], script).await;
        assert_eq!(played.failure().reply.code, 451);
        // Refused when asked for.
        let script = format!("{}C STARTTLS\nS 454 4.7.0 not now\n{BYE}", greeting("STARTTLS"));
        let played = play(&runtime(connector(rule)), &[], &script).await;
        assert_eq!(played.failure().reply.to_string(), "454 4.7.0 not now");
        assert!(!played.failure().local);
    }
}

#[tokio::test]
async fn a_handshake_that_breaks_is_a_socket_error() {
    let script = format!("{}C STARTTLS\nS 220 go\nBODY 1\nCLOSE", greeting("STARTTLS"));
    let played = play(&runtime(connector(SendTls::Required)), &[], &script).await;
    assert_eq!(played.failure().reply.to_string(), "421 4.4.2 Connection dropped due to SocketError");
    let reason = played.event.no_tls_reason.unwrap();
    assert!(reason.starts_with("TLS negotiation failed with error SocketError"), "{reason}");
}

/// Runs a script for each connection that comes, and counts them.
async fn next_hop(scripts: Vec<String>) -> (Target, tokio::task::JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::new("mx.test", listener.local_addr().unwrap());
    let served = tokio::spawn(async move {
        let mut count = 0;
        for script in scripts {
            let accepted = tokio::time::timeout(Duration::from_secs(2), listener.accept()).await;
            let Ok(Ok((stream, _))) = accepted else { break };
            serve(stream, &script).await;
            count += 1;
        }
        count
    });
    (target, served)
}

#[tokio::test]
async fn opportunistic_tries_once_more_in_clear_text() {
    let good = format!("{}{STEP}{BYE}", greeting("STARTTLS"));
    for broken in [
        format!("{}C STARTTLS\nS 454 4.7.0 not now\n{BYE}", greeting("STARTTLS")),
        format!("{}C STARTTLS\nS 501 no\n{BYE}", greeting("STARTTLS")),
        format!("{}C STARTTLS\nS 220 go\nBODY 1\nCLOSE", greeting("STARTTLS")),
    ] {
        let (target, served) = next_hop(vec![broken, good.clone()]).await;
        let (context, events) = context();
        let runtime = runtime(connector(SendTls::Opportunistic));
        let mut connection = Connection::open(&runtime, &target, &context).await.unwrap();
        assert_eq!(
            told(&connection.send(&message(&["b@x.test"], b"x\r\n")).await[0]),
            "relayed 250 2.6.0 queued"
        );
        connection.quit().await;
        assert_eq!(served.await.unwrap(), 2);
        let events: Vec<_> = events.try_iter().collect();
        assert_eq!(events.len(), 2);
        assert!(events[1].no_tls_reason.as_ref().unwrap().starts_with("tried once more after: "));
        assert_eq!(events[1].outcome, "ok");
    }
}

#[tokio::test]
async fn bytes_between_starttls_and_the_handshake_discard_the_connection() {
    for rule in [SendTls::Opportunistic, SendTls::Required] {
        let script = format!("{}C STARTTLS\nTWO\nEOF", greeting("STARTTLS"));
        let (target, served) = next_hop(vec![script, "EOF".to_owned()]).await;
        let (context, events) = context();
        let failure = Connection::open(&runtime(connector(rule)), &target, &context).await.err().unwrap();
        assert!(
            failure.reply.to_string().starts_with("451 4.5.0 The next hop broke the protocol"),
            "{failure}"
        );
        assert_eq!(served.await.unwrap(), 1, "no second try in clear text");
        assert_eq!(events.try_iter().count(), 1);
    }
}

#[tokio::test]
async fn a_banner_that_refuses_is_worth_another_try() {
    let played = play(&plain(), &[], &format!("S 554 5.3.2 no mail here\n{BYE}")).await;
    assert_eq!(played.failure().reply.to_string(), "554 5.3.2 no mail here");
    assert!(!played.failure().permanent);
    let played = play(&plain(), &[], "S 421 4.3.2 busy\nCLOSE").await;
    assert_eq!(played.failure().reply.to_string(), "421 4.3.2 busy");
    let played = play(&plain(), &[], "CLOSE").await;
    assert_eq!(played.failure().reply.to_string(), "421 4.4.2 Connection dropped due to SocketError");
    let played = play(&plain(), &[], "S HTTP/1.1 400 Bad Request\nEOF").await;
    assert!(played.failure().to_string().starts_with("451 4.5.0"));
}

#[tokio::test(start_paused = true)]
async fn a_silent_banner_takes_five_minutes() {
    let played = play(&plain(), &[], "WAIT 301\nCLOSE").await;
    assert_eq!(played.failure().reply.to_string(), "421 4.4.2 Connection dropped due to TimedOut");
    assert_eq!(played.event.duration.as_secs(), 300);
}

#[tokio::test]
async fn we_never_talk_to_ourselves() {
    for script in [
        format!("S 220 EDGE.test ESMTP\n{BYE}"),
        format!("S 220 hidden\nC EHLO edge.test\nS 250 edge.TEST Hello\n{BYE}"),
    ] {
        let played = play(&plain(), &[], &script).await;
        let failure = played.failure();
        assert_eq!(failure.reply.to_string(), "554 5.3.5 System incorrectly configured");
        assert!(matches!(failure.outcome(), Outcome::Failed(_)));
    }
    let (mut context, _events) = context();
    context.is_own_address = Arc::new(|address| address.port() == 25);
    let failure = Connection::open(&plain(), &target(), &context).await.err().unwrap();
    assert_eq!(failure.reply.enhanced.unwrap().to_string(), "5.4.6");
    assert!(failure.permanent);
}

#[tokio::test]
async fn a_closed_port_refuses() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::new("mx.test", listener.local_addr().unwrap());
    drop(listener);
    let (context, events) = context();
    let failure = Connection::open(&plain(), &target, &context).await.err().unwrap();
    assert_eq!(failure.reply.to_string(), "421 4.2.1 Unable to connect");
    let event = events.try_recv().unwrap();
    assert_eq!((event.outcome.as_str(), event.local), ("421 4.2.1 Unable to connect", None));
}

#[tokio::test]
async fn a_certificate_that_is_not_there_holds_the_mail() {
    let mut config = connector(SendTls::Required);
    config.tls_certificate_name = Some("gone".to_owned());
    let (context, _events) = context();
    let failure = Connection::open(&runtime(config), &target(), &context).await.err().unwrap();
    assert!(failure.to_string().contains("tlscertificatename"));
    assert!(!failure.permanent);
}

#[tokio::test]
async fn source_ip_is_where_we_come_from() {
    let mut config = connector(SendTls::Off);
    config.source_ip = Some([127, 0, 0, 9].into());
    let (target, served) = next_hop(vec![format!("{}{BYE}", greeting(""))]).await;
    let (context, events) = context();
    Connection::open(&runtime(config), &target, &context).await.unwrap().quit().await;
    served.await.unwrap();
    assert_eq!(events.try_recv().unwrap().local.unwrap().ip().to_string(), "127.0.0.9");
}
