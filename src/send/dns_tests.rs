use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::proto::rr::rdata::{A, AAAA, MX, SOA};
use hickory_resolver::proto::rr::{Name, RData, Record};
use hickory_server::Server;
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use tokio::net::UdpSocket;

use super::super::testing::connector;
use super::super::{Target, targets, without_ourselves};
use super::{DnsFailure, Resolver};
use crate::config::{Dns, Host, LmtpTarget, Routing, SendConnector, SendTls, SmartHost};

fn name(text: &str) -> Name {
    Name::from_str(text).unwrap()
}

/// Serves the zone `test.` until dropped.
async fn zone(records: &[(&str, RData)]) -> (Server<Catalog>, SocketAddr) {
    let mut zone: InMemoryZoneHandler =
        InMemoryZoneHandler::empty(name("test."), ZoneType::Primary, AxfrPolicy::Deny);
    let soa = SOA::new(name("ns.test."), name("root.test."), 1, 60, 60, 60, 60);
    zone.upsert_mut(Record::from_rdata(name("test."), 60, RData::SOA(soa)), 0);
    for (owner, data) in records {
        zone.upsert_mut(Record::from_rdata(name(owner), 60, data.clone()), 0);
    }
    let mut catalog = Catalog::new();
    catalog.upsert(name("test.").into(), vec![Arc::new(zone)]);
    let mut server = Server::new(catalog);
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    server.register_socket(socket);
    (server, address)
}

fn resolver(server: SocketAddr) -> Resolver {
    Resolver::new(&Dns { servers: vec![server], timeout: Duration::from_millis(300) })
}

fn a(last: u8) -> RData {
    RData::A(A::new(192, 0, 2, last))
}

fn mx(preference: u16, host: &str) -> RData {
    RData::MX(MX::new(preference, name(host)))
}

fn by_dns() -> SendConnector {
    SendConnector { routing: Routing::Dns, ..connector(SendTls::Off) }
}

fn by_host(names: &[&str]) -> SendConnector {
    let hosts = names.iter().map(|name| {
        let host = name.parse().map_or_else(|_| Host::Name((*name).to_owned()), Host::Address);
        SmartHost { host, port: None }
    });
    SendConnector { routing: Routing::SmartHosts(hosts.collect()), ..connector(SendTls::Off) }
}

fn short(targets: &[Target]) -> Vec<String> {
    targets.iter().map(|target| format!("{} {}", target.host, target.address)).collect()
}

#[tokio::test]
async fn exchangers_come_by_preference_and_equal_ones_in_any_order() {
    let (_server, address) = zone(&[
        ("x.test.", mx(20, "backup.test.")),
        ("x.test.", mx(10, "one.test.")),
        ("x.test.", mx(10, "two.test.")),
        ("one.test.", a(1)),
        ("two.test.", a(2)),
        ("backup.test.", a(3)),
        ("backup.test.", RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 3))),
    ])
    .await;
    let resolver = resolver(address);
    let mut firsts = std::collections::HashSet::new();
    for _ in 0..64 {
        let found = targets(&by_dns(), "X.test", &resolver).await.unwrap();
        assert_eq!(
            short(&found)[2..],
            ["backup.test 192.0.2.3:25", "backup.test [2001:db8::3]:25"],
            "IPv4 before IPv6"
        );
        assert!(found.iter().all(|target| target.tls_name == "x.test"));
        firsts.insert(found[0].host.clone());
    }
    assert_eq!(firsts.len(), 2, "both have their turn");
}

#[tokio::test]
async fn a_domain_without_mx_is_its_own_exchanger() {
    let (_server, address) = zone(&[("host.test.", a(1))]).await;
    let found = targets(&by_dns(), "host.test", &resolver(address)).await.unwrap();
    assert_eq!(short(&found), ["host.test 192.0.2.1:25"]);
    assert_eq!(found[0].preference, Some(0));
}

#[tokio::test]
async fn a_null_mx_takes_no_mail() {
    let (_server, address) = zone(&[("x.test.", mx(0, ".")), ("x.test.", a(1))]).await;
    let failure = targets(&by_dns(), "x.test", &resolver(address)).await.unwrap_err();
    assert_eq!(failure, DnsFailure::NullMx);
    assert_eq!(failure.reply().to_string(), "556 5.1.10 Recipient address has null MX");
}

#[tokio::test]
async fn a_domain_that_does_not_exist_is_final() {
    let (_server, address) = zone(&[("x.test.", mx(10, "nowhere.test."))]).await;
    let resolver = resolver(address);
    for domain in ["gone.test", "x.test", "no..name"] {
        let failure = targets(&by_dns(), domain, &resolver).await.unwrap_err();
        assert_eq!(
            failure.reply().to_string(),
            "554 5.4.4 SMTPSEND.DNS.NonExistentDomain; nonexistent domain",
            "{domain}"
        );
        assert!(failure.is_permanent());
    }
}

/// A name server that has nothing to say but this code.
async fn failing(code: u8) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut packet = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut packet).await {
            packet[2] |= 0x80;
            packet[3] = (packet[3] & 0xf0) | code;
            let _ = socket.send_to(&packet[..length], client).await;
        }
    });
    address
}

#[tokio::test]
async fn everything_else_is_temporary() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for server in [failing(2).await, failing(5).await, silent.local_addr().unwrap()] {
        let failure = targets(&by_dns(), "x.test", &resolver(server)).await.unwrap_err();
        assert!(matches!(failure, DnsFailure::Temporary(_)), "{failure:?}");
        let reply = failure.reply().to_string();
        assert!(reply.starts_with("451 4.4.0 DNS query failed. The error was: "), "{reply}");
    }
}

#[tokio::test]
async fn smart_hosts_take_turns() {
    let (_server, address) = zone(&[("one.test.", a(1)), ("two.test.", a(2))]).await;
    let resolver = resolver(address);
    let connector = by_host(&["one.test", "two.test", "192.0.2.3"]);
    let first = short(&targets(&connector, "", &resolver).await.unwrap());
    let second = short(&targets(&connector, "", &resolver).await.unwrap());
    let third = short(&targets(&connector, "", &resolver).await.unwrap());
    assert_eq!(first, ["one.test 192.0.2.1:25", "two.test 192.0.2.2:25", "[192.0.2.3] 192.0.2.3:25"]);
    assert_eq!(second[0], "two.test 192.0.2.2:25");
    assert_eq!(third[0], "[192.0.2.3] 192.0.2.3:25");
}

#[tokio::test]
async fn a_smart_host_may_be_a_name_with_exchangers() {
    let (_server, address) =
        zone(&[("relay.test.", mx(10, "one.test.")), ("relay.test.", a(9)), ("one.test.", a(1))]).await;
    let found = targets(&by_host(&["relay.test"]), "", &resolver(address)).await.unwrap();
    assert_eq!(short(&found), ["one.test 192.0.2.1:25"]);
    assert_eq!(found[0].tls_name, "relay.test", "an unsigned record proves nothing");
}

#[tokio::test]
async fn a_smart_host_that_does_not_resolve_is_never_the_senders_fault() {
    let (_server, address) = zone(&[("two.test.", a(2))]).await;
    let resolver = resolver(address);
    let failure = targets(&by_host(&["gone.test"]), "", &resolver).await.unwrap_err();
    assert!(!failure.is_permanent());
    assert!(failure.to_string().contains("NonExistentDomain"));
    // One of two is enough.
    let found = targets(&by_host(&["gone.test", "two.test"]), "", &resolver).await.unwrap();
    assert_eq!(short(&found), ["two.test 192.0.2.2:25"]);
}

#[tokio::test]
async fn the_source_address_decides_the_family() {
    let v6 = RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
    let (_server, address) = zone(&[("both.test.", a(1)), ("both.test.", v6), ("four.test.", a(4))]).await;
    let resolver = resolver(address);
    let mut connector = by_dns();
    connector.source_ip = Some("2001:db8::9".parse().unwrap());
    let found = targets(&connector, "both.test", &resolver).await.unwrap();
    assert_eq!(short(&found), ["both.test [2001:db8::1]:25"]);
    assert!(!targets(&connector, "four.test", &resolver).await.unwrap_err().is_permanent());
}

#[tokio::test]
async fn literals_and_sockets_need_no_server() {
    let resolver = resolver(failing(2).await);
    let found = targets(&by_dns(), "[192.0.2.7]", &resolver).await.unwrap();
    assert_eq!(short(&found), ["[192.0.2.7] 192.0.2.7:25"]);
    let found = targets(&by_dns(), "[IPv6:2001:db8::7]", &resolver).await.unwrap();
    assert_eq!(short(&found), ["[2001:db8::7] [2001:db8::7]:25"]);
    let mut connector = by_dns();
    connector.routing = Routing::Lmtp(LmtpTarget::Unix(PathBuf::from("/run/lmtp")));
    let found = targets(&connector, "x.test", &resolver).await.unwrap();
    assert_eq!(found[0].endpoint(), "unix:/run/lmtp");
    assert_eq!(found[0].remote().ip, None);
    connector.routing = Routing::Maildir("x".to_owned());
    assert!(targets(&connector, "x.test", &resolver).await.unwrap().is_empty());
    let local: Vec<IpAddr> = resolver.addresses("127.0.0.1").await.unwrap();
    assert_eq!(local, [IpAddr::from([127, 0, 0, 1])]);
}

#[tokio::test]
async fn block_lists_are_asked_for_a_records() {
    let (_server, address) = zone(&[("2.0.0.127.bl.test.", RData::A(A::new(127, 0, 0, 4)))]).await;
    let resolver = resolver(address);
    assert_eq!(resolver.ipv4("2.0.0.127.bl.test").await.unwrap()[0].to_string(), "127.0.0.4");
    assert_eq!(resolver.ipv4("3.0.0.127.bl.test").await, Err(DnsFailure::NonExistent));
}

#[test]
fn mail_never_goes_to_ourselves_or_past_us() {
    let at = |preference: Option<u16>, host: &str| Target {
        preference,
        ..Target::new(host, SocketAddr::from(([192, 0, 2, 1], 25)))
    };
    let own = |target: &Target| target.host == "us";
    let hosts = |targets: Vec<Target>| targets.into_iter().map(|target| target.host).collect::<Vec<_>>();
    let exchangers =
        vec![at(Some(5), "better"), at(Some(10), "peer"), at(Some(10), "us"), at(Some(20), "worse")];
    assert_eq!(hosts(without_ourselves(exchangers, own).unwrap()), ["better"]);
    let loops = without_ourselves(vec![at(Some(10), "us"), at(Some(20), "worse")], own).unwrap_err();
    assert_eq!(loops.enhanced.unwrap().to_string(), "5.4.6");
    let smart_hosts = vec![at(None, "us"), at(None, "other")];
    assert_eq!(hosts(without_ourselves(smart_hosts, own).unwrap()), ["other"]);
    assert_eq!(hosts(without_ourselves(vec![at(None, "other")], own).unwrap()), ["other"]);
}
