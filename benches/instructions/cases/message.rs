use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gatepost::config::ReplyProfile;
use gatepost::log::time;
use gatepost::message::trace::{self, ReceivedFacts};
use gatepost::message::{HeaderFirewall, HeaderScanner};
use uuid::Uuid;

use super::super::input;
use super::{Case, case, on};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("header/scan", || {
            let names: Arc<[Box<str>]> = ["edge.contoso.com".into(), "EDGE01".into()].into();
            on(input::text(4096), move |content| {
                let mut scanner = HeaderScanner::new(Arc::clone(&names), 64 << 10);
                scanner.feed(content);
                scanner.finish()
            })
        }),
        case("header/firewall", || firewall(input::text(4096))),
        case("header/firewall-drops", || {
            let mut content = Vec::new();
            for name in ["Organization-SCL: -1", "Organization-AuthAs: Internal", "Forest-Rules: a;b"] {
                content.extend_from_slice(format!("X-MS-Exchange-{name}\r\n").as_bytes());
            }
            content.extend(input::text(4096));
            firewall(content)
        }),
        case("trace/received", || {
            let facts = ReceivedFacts {
                helo: "mail-eopbgr70089.outbound.protection.outlook.com",
                peer: [40, 107, 7, 89].into(),
                by: "edge.contoso.com",
                local: [203, 0, 113, 25].into(),
                tls: Some(("TLS1_3", "TLS_AES_256_GCM_SHA384")),
                profile: ReplyProfile::Exchange2019,
                date: "Mon, 5 Oct 2026 11:00:00 +0200",
            };
            on(facts, trace::received)
        }),
        case("trace/message-id", || on(Uuid::from_u128(7), |id| trace::message_id(*id, "edge.contoso.com"))),
        case("time/rfc5322", || on(SystemTime::now(), |at| time::rfc5322(*at))),
        case("time/rfc5322-new-second", || {
            let mut at = SystemTime::now();
            on((), move |()| {
                at += Duration::from_secs(1);
                time::rfc5322(at)
            })
        }),
        case("time/exchange-utc", || on(SystemTime::now(), |at| time::exchange_utc(*at))),
    ]
}

fn firewall(content: Vec<u8>) -> Box<dyn FnMut()> {
    let mut out = Vec::with_capacity(content.len());
    on(content, move |content| {
        out.clear();
        let mut firewall = HeaderFirewall::new();
        firewall.feed(content, &mut out);
        firewall.finish(&mut out);
        firewall.removed()
    })
}
