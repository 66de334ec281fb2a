use std::time::Duration;

use super::super::testing::{
    connector, context, greeting, message, plain, play, runtime, script, serve, target, told,
};
use super::Connection;
use crate::config::SendTls;

#[tokio::test(start_paused = true)]
async fn a_silent_peer_runs_into_the_time_of_rfc_5321() {
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
             WAIT 10000",
            greeting("PIPELINING CHUNKING")
        ),
    )
    .await;
    assert_eq!(played.told(), ["deferred 421 4.4.2 Connection dropped due to TimedOut"]);
    assert_eq!(played.event.duration.as_secs(), 600);
}

#[tokio::test(start_paused = true)]
async fn the_connector_may_be_less_patient() {
    let mut config = connector(SendTls::Off);
    config.connection_inactivity_timeout = Duration::from_secs(7);
    let (ours, theirs) = tokio::io::duplex(4096);
    let (context, _events) = context();
    let runtime = runtime(config);
    let target = target();
    let begun = tokio::time::Instant::now();
    let server = tokio::spawn(async move {
        let script = format!("{}WAIT 100", greeting("PIPELINING"));
        serve(theirs, &script).await
    });
    let mut connection = Connection::over(ours, &runtime, &target, &context).await.unwrap();
    let outcomes = connection.send(&message(&["b@x.test"], b"x\r\n")).await;
    assert_eq!(told(&outcomes[0]), "deferred 421 4.4.2 Connection dropped due to TimedOut");
    assert_eq!(begun.elapsed().as_secs(), 7);
    assert!(!connection.usable());
    server.abort();
}

#[tokio::test]
async fn a_connection_that_died_while_idle_is_noticed() {
    let (ours, theirs) = tokio::io::duplex(4096);
    let (context, events) = context();
    let (runtime, target) = (plain(), target());
    let step = "C MAIL FROM:<a@edge.test>\nC RCPT TO:<b@x.test>\nC BDAT 3 LAST\nBODY 3\nS 250 ok\nS 250 ok\nS 250 ok\n";
    let script = format!("{}{step}S 421 4.4.2 idle for too long\nCLOSE", greeting("PIPELINING CHUNKING"));
    let client = async {
        let mut connection = Connection::over(ours, &runtime, &target, &context).await.unwrap();
        assert!(connection.usable());
        let message = message(&["b@x.test"], b"x\r\n");
        assert!(connection.send(&message).await[0].is_success());
        tokio::time::sleep(Duration::from_millis(20)).await;
        let late = connection.send(&message).await;
        assert_eq!(told(&late[0]), "deferred 421 4.4.2 Connection dropped due to SocketError");
        assert!(connection.was_stale());
        assert!(!connection.usable());
    };
    tokio::join!(client, serve(theirs, &script));
    assert_eq!(events.try_iter().count(), 1);
}

#[tokio::test]
async fn a_connection_wears_out() {
    let mut config = connector(SendTls::Off);
    config.max_messages_per_connection = 1;
    let (ours, theirs) = tokio::io::duplex(4096);
    let (context, _events) = context();
    let (runtime, target) = (runtime(config), target());
    let step = "C MAIL FROM:<a@edge.test>\nC RCPT TO:<b@x.test>\nC BDAT 3 LAST\nBODY 3\nS 250 ok\nS 250 ok\nS 250 ok\n";
    let script = script("PIPELINING CHUNKING", step);
    let client = async {
        let mut connection = Connection::over(ours, &runtime, &target, &context).await.unwrap();
        connection.send(&message(&["b@x.test"], b"x\r\n")).await;
        assert!(!connection.usable());
        assert!(!connection.was_stale());
        connection.quit().await;
    };
    tokio::join!(client, serve(theirs, &script));
}
