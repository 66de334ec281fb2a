//! The delivery queue's bookkeeping, with time under our control.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::time::{Instant, advance};

use super::*;
use crate::config::{Config, MinTlsVersion};
use crate::message::{Envelope, Recipient};
use crate::queue::codec;
use crate::queue::message::{MessageMeta, Source};
use crate::queue::spool::{Content, Spool, SpoolOptions};
use crate::smtp::{Address, BodyFacts, BodyType};
use crate::tls::{CertificateStore, Roots};

const IDLE: Duration = Duration::from_secs(5);

/// A queue with `max_connections = 8`, and messages for it.
struct Bench {
    queue: Arc<DeliveryQueue>,
    spool: Spool,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = "[server]\nhostname = \"edge.test\"\nspool = \"s\"\nlog_dir = \"l\"\n[[send_connectors]]\n\
                    name = \"Out\"\naddress_spaces = [\"*\"]\nsmart_hosts = [\"127.0.0.1:9\"]\ntls = \"off\"\n\
                    max_connections = 8\n";
        let config = Config::from_toml(text, dir.path()).unwrap().config;
        let runtime = ConnectorRuntime::new(
            config.send_connectors[0].clone(),
            &CertificateStore::new([], SystemTime::now()),
            Arc::new(Roots::default()),
            MinTlsVersion::Tls12,
            "edge.test",
        )
        .unwrap();
        let queue = DeliveryQueue::new(1, Arc::new(runtime), NextHop { domain: "[127.0.0.1]:9".into() });
        let (spool, _) = Spool::open(&dir.path().join("spool"), SpoolOptions::default()).unwrap();
        Self { queue, spool, _dir: dir }
    }

    async fn item(&self) -> Item {
        let id = self.spool.next_id();
        let content = Content::Memory(vec![Bytes::from_static(b"Subject: x\r\n\r\n")]);
        self.spool.append(id, Bytes::new(), content, Vec::new()).await.unwrap();
        let recipient = Recipient { address: Address::parse("a@b.test").unwrap(), notify: None, orcpt: None };
        let meta = MessageMeta {
            network_message_id: [0; 16],
            received_ms: 0,
            size: 14,
            header_len: 14,
            message_id: "<x@y>".into(),
            subject: "x".into(),
            source: Source { connector: "In".into(), peer: None, helo: "".into() },
            facts: BodyFacts::default(),
            envelope: Envelope {
                from: None,
                body: BodyType::SevenBit,
                smtputf8: false,
                ret: None,
                envid: None,
                recipients: vec![recipient],
            },
        };
        let message = QueuedMessage::new(id, &meta, codec::encode_meta(&meta).into(), None, None);
        Item { message, recipients: None, retried_fresh: false }
    }

    async fn push(&self, count: usize) {
        for _ in 0..count {
            self.queue.push(self.item().await).unwrap();
        }
    }

    /// How many workers are to be started now.
    fn starts(&self) -> usize {
        match self.step() {
            Step::Start { count, .. } => count,
            _ => 0,
        }
    }

    fn step(&self) -> Step {
        self.queue.step(Instant::now())
    }
}

#[tokio::test]
async fn one_message_starts_one_worker_and_a_backlog_more_up_to_the_limit() {
    let b = Bench::new();
    assert!(matches!(b.step(), Step::Wait(Some(_))), "an empty queue waits for its end");
    b.push(1).await;
    assert_eq!(b.starts(), 1);
    assert!(matches!(b.step(), Step::Wait(Some(_))), "the one that starts will see to it");
    b.push(50).await;
    assert_eq!(b.starts(), 3, "the first limit is four connections");
    for _ in 0..200 {
        b.queue.succeeded();
    }
    assert_eq!(b.starts(), 4, "learnt to bear more, but never above max_connections");
}

#[tokio::test]
async fn a_message_that_waits_for_a_busy_connection_gets_another_one() {
    let b = Bench::new();
    b.push(1).await;
    assert_eq!(b.starts(), 1);
    b.queue.connected();
    let _busy = b.queue.next(None).await.unwrap();
    b.push(1).await;
    tokio::time::pause();
    assert_eq!(b.step(), Step::Wait(Some(Instant::now() + PATIENCE)));
    advance(PATIENCE / 2).await;
    assert_eq!(b.step(), Step::Wait(Some(Instant::now() + PATIENCE / 2)), "whoever else woke the driver");
    advance(PATIENCE / 2).await;
    assert_eq!(b.starts(), 1, "nothing was taken since");
}

#[tokio::test]
async fn a_dead_next_hop_puts_the_queue_into_retry_until_its_time_comes() {
    let b = Bench::new();
    b.push(1).await;
    assert_eq!(b.starts(), 1);
    tokio::time::pause();
    let item = b.queue.next(None).await.unwrap();
    b.queue
        .connection_failed("421 4.2.1 Unable to connect".into(), |n| Duration::from_secs(u64::from(n) * 60));
    b.queue.put_back(item).unwrap();
    b.queue.landed();
    b.queue.worker_gone(false);
    assert_eq!(b.queue.view().status, QueueStatus::Retry);
    assert_eq!(b.step(), Step::Wait(Some(Instant::now() + Duration::from_mins(1))));
    assert!(b.queue.next(None).await.is_none(), "no new connection before that");
    advance(Duration::from_mins(1)).await;
    assert_eq!(b.starts(), 1, "one goes ahead");
    let view = b.queue.view();
    assert_eq!((view.messages, view.retry_count), (1, 1));
    assert_eq!(view.last_error.as_deref(), Some("421 4.2.1 Unable to connect"));
    b.queue.connected();
    assert_eq!(b.queue.view().retry_count, 0);
}

#[tokio::test]
async fn one_failure_beside_open_connections_only_lowers_the_limit() {
    let b = Bench::new();
    b.push(8).await;
    assert_eq!(b.starts(), 2);
    b.queue.connected();
    b.queue.connection_failed("421".into(), |_| Duration::from_hours(1));
    assert_ne!(b.queue.view().status, QueueStatus::Retry);
    assert!(b.queue.next(None).await.is_some());
}

#[tokio::test]
async fn a_deferred_message_becomes_ready_when_due_and_not_before() {
    let b = Bench::new();
    let due = Instant::now() + Duration::from_mins(5);
    b.queue.defer(b.item().await, due).unwrap();
    assert_eq!(b.step(), Step::Wait(Some(due)));
    assert_eq!(b.queue.view().deferred, 1);
    tokio::time::pause();
    advance(Duration::from_mins(5)).await;
    assert_eq!(b.starts(), 1);
    assert_eq!(b.queue.view().deferred, 0);
}

#[tokio::test]
async fn a_worker_that_stops_waiting_is_no_longer_counted_as_idle() {
    let b = Bench::new();
    b.push(1).await;
    assert_eq!(b.starts(), 1);
    b.queue.connected();
    let _ = b.queue.next(Some(IDLE)).await.unwrap();
    b.queue.landed();
    // As when the next hop closes the idle connection.
    let gave_up = tokio::time::timeout(Duration::from_millis(1), b.queue.next(Some(IDLE))).await;
    assert!(gave_up.is_err());
    b.queue.worker_gone(false);
    b.push(1).await;
    assert_eq!(b.starts(), 1, "somebody must see to the new message");
}

#[tokio::test]
async fn a_retired_queue_gives_everything_back_and_takes_nothing_more() {
    let b = Bench::new();
    b.push(3).await;
    b.queue.defer(b.item().await, Instant::now() + Duration::from_hours(1)).unwrap();
    assert_eq!(b.queue.retire().len(), 4);
    assert!(b.queue.push(b.item().await).is_err());
    assert!(b.queue.put_back(b.item().await).is_err());
    assert!(b.queue.next(Some(IDLE)).await.is_none());
    assert_eq!(b.step(), Step::End);
}

#[tokio::test]
async fn settled_messages_are_purged() {
    let b = Bench::new();
    b.push(2).await;
    let item = b.item().await;
    item.message.state().recipients[0] = crate::queue::RecipientStatus::Failed;
    b.queue.push(item).unwrap();
    b.queue.purge();
    assert_eq!(b.queue.view().messages, 2);
}

#[tokio::test]
async fn only_a_first_connection_is_certain_and_the_others_are_asked_for_again() {
    let b = Bench::new();
    b.push(50).await;
    assert_eq!(b.step(), Step::Start { first: true, count: 4 });
    tokio::time::pause();
    b.queue.not_started(3);
    assert_eq!(b.step(), Step::Wait(Some(Instant::now() + CROWDED)));
    b.queue.connected();
    let _busy = b.queue.next(None).await.unwrap();
    assert_eq!(b.step(), Step::Wait(Some(Instant::now() + CROWDED)), "whoever else woke the driver");
    advance(CROWDED).await;
    assert_eq!(b.step(), Step::Start { first: false, count: 3 });
}
