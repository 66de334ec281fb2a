//! Message text: the decoders against the reference, across any split.

use gatepost::smtp::{Bare, BdatDecoder, BodyFacts, ContentScanner, DataDecoder, DotStuffer};

use crate::reference::{self, Expected};

/// The first byte says how many of the next ones are lengths of chunks.
fn split(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&count, rest) = input.split_first()?;
    rest.split_at_checked(usize::from(count % 16))
}

fn chunks<'a>(lengths: &'a [u8], mut text: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut lengths = lengths.iter().cycle();
    std::iter::from_fn(move || {
        let length = lengths.next().map_or(text.len(), |&n| usize::from(n).max(1)).min(text.len());
        let (chunk, rest) = text.split_at(length);
        text = rest;
        if chunk.is_empty() { None } else { Some(chunk) }
    })
}

fn expected(used: usize, text: Vec<u8>, facts: BodyFacts) -> Expected {
    let BodyFacts { bare_cr, bare_lf, eight_bit, nul, longest_line, ends_with_crlf } = facts;
    Expected { used, text, bare_cr, bare_lf, eight_bit, nul, longest_line, ends_with_crlf }
}

/// DATA in both policies, then out again through the stuffer.
pub fn data(input: &[u8]) {
    let Some((lengths, wire)) = split(input) else { return };
    for bare in [Bare::Keep, Bare::Normalize] {
        let want = reference::decode_data(wire, bare == Bare::Normalize);
        let got = decode_data(lengths, wire, bare);
        assert_eq!(got, want);
        if let Some(got) = got {
            out_and_back(lengths, &got.text, bare);
        }
    }
    out_and_back(lengths, wire, Bare::Keep);
}

fn decode_data(lengths: &[u8], wire: &[u8], bare: Bare) -> Option<Expected> {
    let mut decoder = DataDecoder::new(bare);
    let (mut text, mut used) = (Vec::new(), 0);
    for chunk in chunks(lengths, wire) {
        // Emptied between calls, as it is when text goes to disk.
        let mut out = Vec::new();
        let (n, done) = decoder.feed(chunk, &mut out);
        text.extend(out);
        used += n;
        if done {
            return Some(expected(used, text, decoder.facts()));
        }
        assert_eq!(n, chunk.len());
    }
    None
}

fn out_and_back(lengths: &[u8], content: &[u8], bare: Bare) {
    let mut stuffer = DotStuffer::new();
    let mut wire = Vec::new();
    chunks(lengths, content).for_each(|chunk| stuffer.feed(chunk, &mut wire));
    stuffer.finish(&mut wire);
    let back = decode_data(lengths, &wire, Bare::Keep).expect("the stuffer ends the data");
    assert_eq!(back.used, wire.len(), "and does so only once");
    let body = wire.strip_suffix(b".\r\n").expect("a final dot");
    let end = |b: Option<&u8>| b.is_none_or(|&b| b == b'\r' || b == b'\n');
    for (i, _) in body.iter().enumerate().filter(|&(_, &b)| b == b'.') {
        let before = if i == 0 { None } else { body.get(i - 1) };
        assert!(!(end(before) && end(body.get(i + 1))), "a lone dot that a sloppy peer may take for the end");
    }
    if bare == Bare::Normalize {
        assert_eq!(back.text, content);
    }
}

/// BDAT in both policies, and the scanner.
pub fn bdat(input: &[u8]) {
    let Some((lengths, content)) = split(input) else { return };
    for bare in [Bare::Keep, Bare::Normalize] {
        let mut decoder = BdatDecoder::new(bare);
        let mut text = Vec::new();
        for chunk in chunks(lengths, content) {
            let mut out = Vec::new();
            decoder.feed(chunk, &mut out);
            text.extend(out);
        }
        decoder.finish(&mut text);
        let got = expected(content.len(), text, decoder.facts());
        assert_eq!(got, reference::decode(content, bare == Bare::Normalize));
    }
    let mut scanner = ContentScanner::new();
    chunks(lengths, content).for_each(|chunk| scanner.feed(chunk));
    let got = expected(content.len(), content.to_vec(), scanner.facts());
    assert_eq!(got, reference::decode(content, false));
}
