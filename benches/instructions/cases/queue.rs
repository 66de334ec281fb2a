use gatepost::message::{Envelope, Recipient};
use gatepost::queue::{MessageMeta, Source, bench};
use gatepost::smtp::{Address, BodyFacts, BodyType};

use super::{Case, case, on};

fn meta() -> MessageMeta {
    let address = |text| Address::parse(text).expect("an address");
    let recipient = |text| Recipient { address: address(text), notify: None, orcpt: None };
    MessageMeta {
        network_message_id: [7; 16],
        received_ms: 1_790_000_000_123,
        size: 9811,
        header_len: 1700,
        message_id: "<AM0PR05MB1234F0A1B2C3D4E5F60718293A4B5C6D@AM0PR05MB1234.eurprd05.prod.outlook.com>"
            .into(),
        subject: "Minutes of Monday's meeting and the figures of the third quarter".into(),
        source: Source {
            connector: "Default Internet".into(),
            peer: Some([40, 107, 7, 89].into()),
            helo: "mail-eopbgr70089.outbound.protection.outlook.com".into(),
        },
        facts: BodyFacts { longest_line: 77, ends_with_crlf: true, ..BodyFacts::default() },
        envelope: Envelope {
            from: Some(address("adele.vance@fabrikam.example")),
            body: BodyType::EightBitMime,
            smtputf8: false,
            ret: None,
            envid: None,
            recipients: vec![recipient("don.hall@contoso.com"), recipient("megan.bowen@contoso.com")],
        },
    }
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("queue/encode-meta", || on(meta(), bench::encode_meta)),
        case("queue/decode-meta", || on(bench::encode_meta(&meta()), |bytes| bench::decode_meta(bytes))),
        case("spool/encode-record", || {
            let mut out = Vec::with_capacity(4096);
            on(bench::encode_meta(&meta()), move |meta| {
                out.clear();
                bench::encode_record(42, meta, 9811, 0x1234_5678, &mut out);
            })
        }),
    ]
}
