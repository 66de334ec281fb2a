//! DATA and BDAT, both ways.

use proptest::prelude::*;

use super::reference::{self, Expected};
use crate::smtp::{Bare, BdatDecoder, BodyFacts, ContentScanner, DataDecoder, DotStuffer, MAX_TEXT_LINE};

const BOTH: [Bare; 2] = [Bare::Keep, Bare::Normalize];

/// Cuts a slice into chunks of the lengths given, over and over, and then the rest.
fn chunks<'a>(mut bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut out = Vec::new();
    for &length in lengths {
        let (chunk, rest) = bytes.split_at(length.min(bytes.len()));
        out.push(chunk);
        bytes = rest;
    }
    out.push(bytes);
    out
}

/// Decodes chunk by chunk, with `out` emptied after each.
fn decode_data(wire: &[u8], lengths: &[usize], bare: Bare) -> Option<Expected> {
    let mut decoder = DataDecoder::new(bare);
    let (mut text, mut used) = (Vec::new(), 0);
    for chunk in chunks(wire, lengths) {
        let mut out = Vec::new();
        let (n, done) = decoder.feed(chunk, &mut out);
        text.extend(out);
        used += n;
        if done {
            assert_eq!(
                decoder.feed(b"QUIT\r\n", &mut Vec::new()),
                (0, true),
                "nothing belongs to it any more"
            );
            return Some(expected(used, text, decoder.facts()));
        }
        assert_eq!(n, chunk.len());
    }
    None
}

fn decode_bdat(content: &[u8], lengths: &[usize], bare: Bare) -> Expected {
    let mut decoder = BdatDecoder::new(bare);
    let mut text = Vec::new();
    for chunk in chunks(content, lengths) {
        let mut out = Vec::new();
        decoder.feed(chunk, &mut out);
        text.extend(out);
    }
    let before = decoder.facts();
    decoder.finish(&mut text);
    assert_eq!(decoder.facts(), before, "the facts foresee the end");
    expected(content.len(), text, before)
}

fn expected(used: usize, text: Vec<u8>, facts: BodyFacts) -> Expected {
    let BodyFacts { bare_cr, bare_lf, eight_bit, nul, longest_line, ends_with_crlf } = facts;
    Expected { used, text, bare_cr, bare_lf, eight_bit, nul, longest_line, ends_with_crlf }
}

fn stuff(content: &[u8], lengths: &[usize]) -> Vec<u8> {
    let mut stuffer = DotStuffer::new();
    let mut wire = Vec::new();
    for chunk in chunks(content, lengths) {
        stuffer.feed(chunk, &mut wire);
    }
    stuffer.finish(&mut wire);
    wire
}

/// Text in which what matters is frequent.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => Just(&b"\r\n"[..]),
        3 => Just(&b"."[..]),
        2 => Just(&b"\r"[..]),
        2 => Just(&b"\n"[..]),
        2 => Just(&b"abc"[..]),
        1 => Just(&b"\r\n.\r\n"[..]),
        1 => Just(&b"\0"[..]),
        1 => Just(&"é".as_bytes()[..1]),
        1 => Just(&[b'x'; 100][..]),
        1 => Just(&[b'x'; 700][..]),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// Text that has long stretches of plain lines, and between them what is none.
fn long_text() -> impl Strategy<Value = Vec<u8>> {
    let plain = (prop_oneof![9 => 1usize..90, 1 => 900usize..1_100], 1usize..60)
        .prop_map(|(length, lines)| [&vec![b'x'; length][..], b"\r\n"].concat().repeat(lines));
    let odd = prop::sample::select(vec![
        &b"\r"[..],
        b"\n",
        b".",
        b"\r\n.",
        b"\r\n..",
        b"\r\n.\r",
        b"\r\r\n",
        b"\n\r\n",
        b"\n.\r\n",
        b"\0",
        b"\xe9",
    ]);
    let piece = prop_oneof![2 => plain, 1 => odd.prop_map(<[u8]>::to_vec)];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// Everything that is known of a decoder after a text that need not be whole.
fn decoded(wire: &[u8], lengths: &[usize], bare: Bare) -> (Vec<u8>, usize, bool, BodyFacts) {
    let mut decoder = DataDecoder::new(bare);
    let (mut text, mut used, mut ended) = (Vec::new(), 0, false);
    for chunk in chunks(wire, lengths) {
        let (n, done) = decoder.feed(chunk, &mut text);
        used += n;
        ended = done;
        if done {
            break;
        }
    }
    (text, used, ended, decoder.facts())
}

fn lengths() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![3 => 0usize..4, 1 => 0usize..200], 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn data_is_decoded_as_the_reference_does(mut wire in text(), lengths in lengths()) {
        wire.extend_from_slice(b"\r\n.\r\nQUIT\r\n");
        for bare in BOTH {
            let want = reference::decode_data(&wire, bare == Bare::Normalize);
            prop_assert!(want.is_some());
            prop_assert_eq!(decode_data(&wire, &lengths, bare), want.clone());
            prop_assert_eq!(decode_data(&wire, &[], bare), want.clone());
            prop_assert_eq!(decode_data(&wire, &vec![1; wire.len()], bare), want);
        }
    }

    #[test]
    fn the_end_is_never_seen_where_the_reference_sees_none(wire in text(), lengths in lengths()) {
        for bare in BOTH {
            let want = reference::decode_data(&wire, bare == Bare::Normalize);
            prop_assert_eq!(decode_data(&wire, &lengths, bare), want);
        }
    }

    #[test]
    fn bdat_is_decoded_as_the_reference_does(content in text(), lengths in lengths()) {
        for bare in BOTH {
            prop_assert_eq!(decode_bdat(&content, &lengths, bare), reference::decode(&content, bare == Bare::Normalize));
        }
        let mut scanner = ContentScanner::new();
        for chunk in chunks(&content, &lengths) {
            scanner.feed(chunk);
        }
        prop_assert_eq!(expected(content.len(), content.clone(), scanner.facts()), reference::decode(&content, false));
    }

    #[test]
    fn what_is_stuffed_comes_back(content in text(), lengths in lengths()) {
        let clean = reference::decode(&content, true).text;
        let wire = stuff(&clean, &lengths);
        let back = decode_data(&wire, &lengths, Bare::Keep);
        prop_assert!(back.is_some());
        let back = back.unwrap();
        prop_assert_eq!(back.used, wire.len());
        let mut want = clean.clone();
        if !clean.is_empty() && !clean.ends_with(b"\r\n") {
            want.extend_from_slice(b"\r\n");
        }
        prop_assert_eq!(back.text, want);
    }

    #[test]
    fn nobody_sees_an_early_end_in_what_is_stuffed(content in text(), lengths in lengths()) {
        let wire = stuff(&content, &lengths);
        prop_assert_eq!(&wire, &stuff(&content, &[]));
        let body = wire.strip_suffix(b".\r\n").unwrap();
        let line_end = |b: u8| b == b'\r' || b == b'\n';
        for i in 0..body.len() {
            let start = i == 0 || line_end(body[i - 1]);
            let end = i + 1 == body.len() || line_end(body[i + 1]);
            prop_assert!(!(start && body[i] == b'.' && end), "{:?}", wire.escape_ascii().to_string());
        }
        prop_assert!(body.is_empty() || body.ends_with(b"\r\n"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// In pieces of one byte there are no stretches: the plain automaton does it all.
    #[test]
    fn stretches_change_nothing(wire in long_text(), cuts in prop::collection::vec(0usize..2_000, 0..6), end: bool) {
        let wire = if end { [&wire, &b"\r\n.\r\nQUIT\r\n"[..]].concat() } else { wire };
        for bare in BOTH {
            let want = decoded(&wire, &vec![1; wire.len()], bare);
            prop_assert_eq!(&decoded(&wire, &[], bare), &want);
            prop_assert_eq!(&decoded(&wire, &cuts, bare), &want);
            prop_assert_eq!(decode_data(&wire, &cuts, bare), reference::decode_data(&wire, bare == Bare::Normalize));
            prop_assert_eq!(decode_bdat(&wire, &cuts, bare), reference::decode(&wire, bare == Bare::Normalize));
        }
        let stuffed = stuff(&wire, &cuts);
        prop_assert_eq!(&stuffed, &stuff(&wire, &vec![1; wire.len()]));
        let doubled = wire.iter().zip([b'\n'].iter().chain(&wire)).filter(|(c, b)| **c == b'.' && b"\r\n".contains(b));
        let ended = if wire.is_empty() || wire.ends_with(b"\r\n") { 3 } else { 5 };
        prop_assert_eq!(stuffed.len(), wire.len() + doubled.count() + ended);
    }
}

/// Every way to smuggle that is known, and some that are not.
#[test]
fn nothing_but_crlf_dot_crlf_ends_data() {
    let ends: &[&[u8]] = &[b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\0\n", b"\0\r\n", b" \r\n", b""];
    for before in ends {
        for after in ends {
            let inner = [b"a", *before, b".", *after].concat();
            // CRLF before the dot and CRLF right behind it is the one true end, however the CRLF
            // before it came about.
            let truly = before.ends_with(b"\r\n") && *after == b"\r\n";
            for split in 0..=inner.len() {
                let got = decode_data(&inner, &[split], Bare::Keep);
                assert_eq!(got.is_some(), truly, "{:?} split at {split}", inner.escape_ascii().to_string());
            }
        }
    }
}

#[test]
fn an_empty_message_ends_at_once() {
    for lengths in [&[][..], &[1, 1, 1], &[2]] {
        let got = decode_data(b".\r\nQUIT\r\n", lengths, Bare::Keep).unwrap();
        assert_eq!((got.used, got.text, got.ends_with_crlf), (3, vec![], false));
    }
    assert_eq!(stuff(b"", &[]), b".\r\n");
}

#[test]
fn the_first_line_is_unstuffed_and_bare_ends_start_no_line() {
    let got = decode_data(b"..x\r\n...\r\n.\r\n", &[], Bare::Keep).unwrap();
    assert_eq!(got.text, b".x\r\n..\r\n");
    let got = decode_data(b"a\n..b\r\n.\r\n", &[], Bare::Keep).unwrap();
    assert_eq!(got.text, b"a\n..b\r\n", "no line starts behind a bare LF");
    let got = decode_data(b"a\r\n.\rb\r\n.\r\n", &[], Bare::Keep).unwrap();
    assert_eq!(got.text, b"a\r\n\rb\r\n", "RFC 5321 4.5.2: the dot goes when anything follows it");
}

/// The dot line that normalising brings forth is stuffed again on the way out.
#[test]
fn a_normalised_dot_line_stays_inside_the_message() {
    for hidden in [&b"\n.\r\n"[..], b"\n.\n", b"\r.\r", b"\r\n.\r\r\n"] {
        let wire = [b"a", hidden, b"MAIL FROM:<x@y>\r\n.\r\n"].concat();
        let got = decode_data(&wire, &[], Bare::Normalize).unwrap();
        assert_eq!(got.used, wire.len());
        assert!(got.bare_cr + got.bare_lf > 0);
        let out = stuff(&got.text, &[]);
        assert_eq!(decode_data(&out, &[], Bare::Keep).unwrap().text, got.text);
    }
}

#[test]
fn facts_count_what_was_received_and_measure_what_went_out() {
    let long = |text: &[u8]| [&[b'x'; 1_000], text].concat();
    let wire = [&long(b"12\n")[..], &long(b"345\r67\r\n"), b"..89", &long(b"01\r\n.\r\n")].concat();
    let got = decode_data(&wire, &[], Bare::Normalize).unwrap();
    assert_eq!((got.bare_lf, got.bare_cr, got.longest_line), (1, 1, 1_005));
    let got = decode_data(&wire, &[], Bare::Keep).unwrap();
    assert_eq!((got.bare_lf, got.bare_cr, got.longest_line), (1, 1, 2_009));
    // What follows the end is not part of the message.
    let got =
        decode_data(&[b"a\r\n.\r\n\0\xff\r\n", &long(b"er\r\n")[..]].concat(), &[], Bare::Keep).unwrap();
    assert_eq!((got.eight_bit, got.nul, got.longest_line), (false, false, MAX_TEXT_LINE));
}
