//! Races of the queue, taken apart: what one thread sees while another is in the middle of it.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::config::{AddressSpace, Host, SendTls, SmartHost, Space};
use crate::message::Recipient;
use crate::queue::message::RecipientStatus::{Delivered, Pending};
use crate::queue::retry::tests::transport;
use crate::queue::spool::SpoolOptions;
use crate::send::Outcome;
use crate::send::testing;
use crate::shutdown::{ShutdownTrigger, shutdown};
use crate::smtp::{Address, BodyType, ContentScanner};

struct House {
    queue: Arc<Queue>,
    trigger: ShutdownTrigger,
    dir: tempfile::TempDir,
}

fn house() -> House {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(dir.path(), SpoolOptions::default()).unwrap();
    let (trigger, shutdown) = shutdown();
    House { queue: Queue::new(spool, routing(), shutdown), trigger, dir }
}

/// Everything goes to a port nobody listens on.
fn routing() -> Routing {
    let mut connector = testing::connector(SendTls::Off);
    connector.address_spaces = vec![AddressSpace { space: Space::Any, cost: 1 }];
    let nobody = SmartHost { host: Host::Address([127, 0, 0, 1].into()), port: Some(1) };
    connector.routing = crate::config::Routing::SmartHosts(vec![nobody]);
    Routing {
        table: RouteTable::new(std::slice::from_ref(&connector), &[]),
        words: Words::Exchange,
        connectors: [(connector.name.clone(), Arc::new(testing::runtime(connector)))].into(),
        transport: transport(),
        hostname: "edge.test".into(),
        postmaster: "postmaster@edge.test".into(),
        context: testing::context().0,
    }
}

impl House {
    async fn message(&self) -> Arc<QueuedMessage> {
        self.message_from(None).await
    }

    async fn message_from(&self, from: Option<Address>) -> Arc<QueuedMessage> {
        let content = Bytes::from_static(b"Subject: x\r\n\r\nx\r\n");
        let mut scanner = ContentScanner::new();
        scanner.feed(&content);
        let recipient =
            |a: &str| Recipient { address: Address::parse(a).unwrap(), notify: None, orcpt: None };
        let meta = MessageMeta {
            network_message_id: [0; 16],
            received_ms: now_ms(),
            size: content.len() as u64,
            header_len: 14,
            message_id: "<x@test>".into(),
            subject: "x".into(),
            source: Source { connector: "In".into(), peer: None, helo: "x".into() },
            facts: scanner.facts(),
            envelope: Envelope {
                from,
                recipients: vec![recipient("a@a.test"), recipient("b@b.test")],
                body: BodyType::SevenBit,
                smtputf8: false,
                ret: None,
                envid: None,
            },
        };
        let id = self.queue.next_id();
        let content = Content::Memory(vec![content]);
        self.queue.store(id, &meta, content, None, Vec::new()).await.unwrap()
    }

    async fn item(&self) -> Item {
        Item { message: self.message().await, recipients: None, retried_fresh: false }
    }

    fn queues(&self) -> Vec<Arc<DeliveryQueue>> {
        self.queue.active.load().outlets.values().flat_map(Outlet::list).collect()
    }
}

fn ready<T>(future: impl Future<Output = T>) -> bool {
    matches!(pin!(future).poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(_))
}

#[tokio::test]
async fn a_queue_that_retired_of_age_but_is_still_listed_gives_way() {
    let house = house();
    house.queue.reroute(house.item().await);
    let [old] = &house.queues()[..] else { panic!("one queue") };
    let items = old.retire();
    // No await in between: its driver has had no chance to take it off the list.
    for item in items {
        house.queue.reroute(item);
    }
    let [new] = &house.queues()[..] else { panic!("one queue") };
    assert!(!Arc::ptr_eq(old, new));
    assert_eq!(new.view().messages, 1);
}

#[tokio::test]
async fn a_replaced_configuration_gets_no_new_queue() {
    let house = house();
    let old = house.queue.active.load_full();
    house.queue.reload(routing());
    let next_hop = NextHop { domain: "late.test".into() };
    assert!(matches!(house.queue.delivery_queue(&old, "To next hop", next_hop), Place::Replaced));
}

#[tokio::test]
async fn two_items_for_one_idle_worker_bring_another() {
    let house = house();
    let queue = DeliveryQueue::new(1, Arc::new(testing::plain()), NextHop { domain: "x".into() });
    let mut worker = pin!(queue.next(Some(std::time::Duration::from_secs(5))));
    assert!(worker.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    queue.push(house.item().await).unwrap();
    assert!(!ready(queue.changed()), "one is enough for one");
    queue.push(house.item().await).unwrap();
    assert!(ready(queue.changed()), "the driver hears of the second");
}

#[tokio::test]
async fn who_settles_a_message_waits_for_the_report_of_another() {
    let house = house();
    let item = house.item().await;
    let message = Arc::clone(&item.message);
    let delivery = DeliveryQueue::new(1, Arc::new(testing::plain()), NextHop { domain: "x".into() });
    message.claim(Some(&[1]));
    let turn = house.queue.turns.take(message.id).await;
    let taken = Outcome::Delivered(Reply::new(250, None, "taken"));
    let conclude = house.queue.conclude(&delivery, item, &[1], vec![taken]);
    let mut conclude = pin!(conclude);
    assert!(conclude.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert_eq!(message.state().recipients[..], [Pending, Pending]);
    drop(turn);
    conclude.await;
    assert_eq!(message.state().recipients[..], [Pending, Delivered]);
}

#[tokio::test]
async fn a_message_that_cannot_be_read_back_is_given_up_all_the_same() {
    let house = house();
    let mut active = routing();
    active.transport.message_expiration_timeout = std::time::Duration::ZERO;
    house.queue.reload(active);
    let message = house.message_from(Some(Address::parse("s@sender.test").unwrap())).await;
    let mut damaged = 0;
    for entry in walk(house.dir.path()) {
        let mut bytes = std::fs::read(&entry).unwrap();
        if let Some(at) = memchr::memmem::find(&bytes, b"Subject: x") {
            bytes.truncate(at);
            std::fs::write(&entry, bytes).unwrap();
            damaged += 1;
        }
    }
    assert_eq!(damaged, 1);
    assert!(house.queue.front(&message, 14).await.is_err());
    assert!(house.queue.expire().await);
    let live: Vec<_> = house.queue.live().values().cloned().collect();
    let [report] = &live[..] else { panic!("the report, and nothing else: {live:?}") };
    let meta = report.meta().unwrap();
    assert_eq!(&*meta.source.connector, "DSN");
    assert_eq!(meta.envelope.recipients[0].address.as_str(), "s@sender.test");
    house.queue.spool().close();
    house.trigger.trigger();
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
        if entry.is_dir() { files.extend(walk(&entry)) } else { files.push(entry) }
    }
    files
}
