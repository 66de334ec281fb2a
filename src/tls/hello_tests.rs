use super::super::handshake_tests::hello_bytes;
use super::*;

fn offer(bytes: &[u8]) -> String {
    client_offer(bytes).to_string()
}

#[test]
fn old_hellos_are_named() {
    assert_eq!(offer(&hello_bytes(0x0300, &[])), "the peer offered SSL 3.0");
    assert_eq!(offer(&hello_bytes(0x0301, &[])), "the peer offered TLS 1.0");
    assert_eq!(offer(&hello_bytes(0x0302, &[])), "the peer offered at most TLS 1.1");
    assert_eq!(offer(&hello_bytes(0x0303, &[])), "the peer offered at most TLS 1.2");
    assert!(client_offer(&hello_bytes(0x0302, &[])).is_legacy());
    assert!(!client_offer(&hello_bytes(0x0303, &[])).is_legacy());
}

#[test]
fn the_list_of_versions_counts_and_grease_does_not() {
    let offer = client_offer(&hello_bytes(0x0303, &[0x7A7A, 0x0304, 0x0303, 0x0302]));
    assert_eq!(offer.to_string(), "the peer offered TLS 1.1, TLS 1.2 and TLS 1.3");
    assert_eq!(offer.highest(), Some("TLS1_3"));
    assert_eq!(offer.cipher_suites.len(), 2);
    assert_eq!(offer.server_name.as_deref(), Some("mx.a.com"));
    assert_eq!(client_offer(&hello_bytes(0x0303, &[0x0302])).highest(), Some("TLS1_1"));
}

#[test]
fn an_ssl2_hello_is_known_by_its_form() {
    let mut bytes = vec![0x80, 0x2E, 1, 3, 1, 0, 21, 0, 0, 0, 16];
    bytes.extend([0; 37]);
    assert_eq!(offer(&bytes), "the peer offered at most TLS 1.0 in the form of SSL 2.0");
    assert_eq!(offer(&[0x80, 0x2E, 1, 0, 2, 0, 21]), "the peer offered SSL 2.0");
}

#[test]
fn other_things_are_no_tls() {
    for bytes in [&b"EHLO x\r\n"[..], b"\0", b"\x16", &[0x16, 3], &[0x80], b"GET / HTTP/1.1\r\n"] {
        assert_eq!(offer(bytes), "the peer sent no TLS");
    }
    assert_eq!(offer(b""), "the peer sent nothing");
}

#[test]
fn a_hello_spread_over_records_is_read_whole() {
    let whole = hello_bytes(0x0303, &[0x0304]);
    let mut split = Vec::new();
    for part in whole[5..].chunks(7) {
        split.extend([0x16, 3, 1, 0, part.len() as u8]);
        split.extend(part);
    }
    assert_eq!(client_offer(&split), client_offer(&whole));
}

#[test]
fn no_cut_and_no_flip_panics() {
    let hello = hello_bytes(0x0303, &[0x0304, 0x0302]);
    for end in 0..=hello.len() {
        let _ = offer(&hello[..end]);
        let _ = server_choice(&hello[..end]);
    }
    for at in 0..hello.len() {
        for value in [0, 1, 2, 0x7F, 0x80, 0xFF] {
            let mut changed = hello.clone();
            changed[at] = value;
            let _ = offer(&changed);
            changed[5.min(at)] = 2;
            let _ = server_choice(&changed);
        }
    }
}

proptest::proptest! {
    #[test]
    fn anything_at_all_is_survived(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let _ = offer(&bytes);
        let _ = server_choice(&bytes);
        let mut record = vec![0x16, 3, 1, 0, 255, 1, 0, 0, 250];
        record.extend(&bytes);
        let _ = offer(&record);
        record[5] = 2;
        let _ = server_choice(&record);
    }
}
