use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use super::super::testing::{
    BYE, connector, context, greeting, message, plain, play, runtime, script, serve, target, told,
};
use super::super::{Outcome, Target};
use super::Connection;
use crate::config::{LmtpTarget, Routing, SendTls};

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
        connection.idle().await;
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

#[tokio::test]
async fn a_session_left_in_the_middle_is_never_used_again() {
    let (ours, theirs) = tokio::io::duplex(4096);
    let (context, events) = context();
    let (runtime, target) = (plain(), target());
    let script = format!("{}C MAIL FROM:<a@edge.test>\nWAIT 1", greeting("PIPELINING CHUNKING"));
    let client = async {
        let mut connection = Connection::over(ours, &runtime, &target, &context).await.unwrap();
        let message = message(&["b@x.test"], b"x\r\n");
        let sending = tokio::time::timeout(Duration::from_millis(50), connection.send(&message)).await;
        assert!(sending.is_err());
        assert!(!connection.usable());
        assert_eq!(
            told(&connection.send(&message).await[0]),
            "deferred 421 4.4.2 Connection dropped due to SocketError"
        );
    };
    tokio::join!(client, serve(theirs, &script));
    assert_eq!(events.try_iter().count(), 1);
}

/// A stream that counts what would be system calls.
struct Counted {
    io: DuplexStream,
    counts: Arc<(AtomicUsize, AtomicUsize)>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_read(cx, buf);
        self.counts.0.fetch_add(usize::from(result.is_ready()), Ordering::Relaxed);
        result
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.counts.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.poll_write(cx, &all)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_small_message_costs_one_write_and_one_read() {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let counts = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let counted = Counted { io: ours, counts: Arc::clone(&counts) };
    let (context, _events) = context();
    let (runtime, target) = (plain(), target());
    let step = "C MAIL FROM:<a@edge.test>
        C RCPT TO:<b@x.test>
        C RCPT TO:<c@x.test>
        C BDAT 10000 LAST
        BODY 10000
        S 250 ok
        S 250 ok
        S 250 ok
        S 250 ok
        ";
    let script = script("PIPELINING CHUNKING", &step.repeat(3));
    let client = async {
        let mut connection = Connection::over(counted, &runtime, &target, &context).await.unwrap();
        for _ in 0..3 {
            counts.0.store(0, Ordering::Relaxed);
            counts.1.store(0, Ordering::Relaxed);
            let outcomes = connection.send(&message(&["b@x.test", "c@x.test"], &[b'x'; 10_000])).await;
            assert!(outcomes.iter().all(Outcome::is_success));
            assert_eq!((counts.0.load(Ordering::Relaxed), counts.1.load(Ordering::Relaxed)), (1, 1));
        }
        connection.quit().await;
    };
    tokio::join!(client, serve(theirs, &script));
}

#[tokio::test]
async fn lmtp_over_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lmtp");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        // A mailbox server on this host has this host's name: no loop.
        let script = format!(
            "S 220 edge.test LMTP\nC LHLO edge.test\nS 250 edge.test\nC MAIL FROM:<a@edge.test>\nS 250 ok\n\
             C RCPT TO:<b@x.test>\nS 250 ok\nC DATA\nS 354 go\nTEXT\nS 250 saved\n{BYE}"
        );
        serve(stream, &script).await
    });
    let mut config = connector(SendTls::Off);
    config.routing = Routing::Lmtp(LmtpTarget::Unix(path.clone()));
    let (context, _events) = context();
    let mut connection = Connection::open(&runtime(config), &Target::unix(&path), &context).await.unwrap();
    let outcomes = connection.send(&message(&["b@x.test"], b"x\r\n")).await;
    assert_eq!(told(&outcomes[0]), "stored 250 saved");
    assert_eq!(connection.remote().ip, None);
    connection.quit().await;
    assert_eq!(server.await.unwrap(), b"x\r\n.\r\n");
}

#[test]
fn sessions_may_move_between_threads() {
    fn check<T: Send>(_: &T) {}
    let (context, _events) = context();
    let (runtime, target) = (plain(), target());
    check(&Connection::open(&runtime, &target, &context));
    let message = message(&["b@x.test"], b"");
    let sending = async {
        let mut connection = Connection::open(&runtime, &target, &context).await?;
        connection.send(&message).await;
        connection.quit().await;
        Ok::<_, super::super::ConnectFailure>(())
    };
    check(&sending);
}
