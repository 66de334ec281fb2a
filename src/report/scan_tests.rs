//! Whole logs against the files in `golden/`. After a wanted change `GATEPOST_BLESS=1 cargo test report::`
//! rewrites what is expected.

use std::fs;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::*;
use crate::report::{By, Outcome, Rule, Style, Version, counted, csv, find, json, overview, rows};

const RECEIVE: &[u8] = include_bytes!("golden/exchange-receive.log");
const SEND: &[u8] = include_bytes!("golden/exchange-send.log");
const GATEPOST: &[u8] = include_bytes!("golden/gatepost.log");

fn counts(texts: &[&[u8]]) -> Counts {
    read_texts(texts, None, Limits::default())
}

fn golden(name: &str, found: &[u8]) {
    let path = format!("{}/src/report/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    let found = String::from_utf8(found.to_vec()).unwrap().replace("\r\n", "\n");
    if std::env::var_os("GATEPOST_BLESS").is_some() {
        fs::write(&path, &found).unwrap();
    }
    assert_eq!(found, fs::read_to_string(&path).unwrap(), "{path}");
}

const STYLE: Style = Style { width: 110, top: 20 };

#[test]
fn exchanges_logs_give_the_golden_reports() {
    let counts = counts(&[RECEIVE, SEND]);
    let mut out = Vec::new();
    overview(&counts, STYLE, &mut out).unwrap();
    golden("exchange.txt", &out);
    out.clear();
    json(&rows(&counts, By::All, None), &counts.names, &mut out).unwrap();
    golden("exchange.json", &out);
    let parsed: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(parsed.as_array().unwrap().len(), rows(&counts, By::All, None).len());
    out.clear();
    csv(&rows(&counts, By::All, None), &counts.names, &mut out).unwrap();
    assert!(out.ends_with(b"\r\n"));
    golden("exchange.csv", &out);
}

#[test]
fn our_own_log_gives_the_golden_report() {
    let counts = counts(&[GATEPOST]);
    let mut out = Vec::new();
    overview(&counts, STYLE, &mut out).unwrap();
    for by in [By::Version, By::Connector, By::Peer] {
        counted(&counts, by, None, STYLE, &mut out).unwrap();
    }
    counted(&counts, By::All, Some(Rule::MinTls12), Style { width: 80, top: 1 }, &mut out).unwrap();
    golden("gatepost.txt", &out);
    out.clear();
    for by in [By::Version, By::Connector, By::Peer] {
        json(&rows(&counts, by, None), &counts.names, &mut out).unwrap();
    }
    golden("gatepost.json", &out);
}

#[test]
fn nothing_gives_an_empty_report() {
    let counts = counts(&[b""]);
    let mut out = Vec::new();
    overview(&counts, STYLE, &mut out).unwrap();
    assert_eq!(String::from_utf8(out.clone()).unwrap(), "No sessions (1 file, 0 lines)\n");
    out.clear();
    json(&[], &counts.names, &mut out).unwrap();
    assert_eq!(out, b"[]\n");
}

/// What was counted, in an order.
fn sorted(counts: &Counts) -> Vec<String> {
    let mut rows: Vec<_> = counts
        .rows
        .iter()
        .map(|(key, count)| {
            let texts = [key.connector, key.cipher, key.group, key.error, key.verified_name];
            let texts = texts.map(|name| counts.names.text(name));
            format!(
                "{:?} {:?} {:?} {:?} {:?} {texts:?} {count:?}",
                key.direction, key.peer, key.version, key.outcome, key.verification
            )
        })
        .collect();
    rows.sort();
    rows
}

#[test]
fn where_a_file_ends_does_not_matter() {
    let whole = sorted(&counts(&[RECEIVE]));
    let head = RECEIVE.iter().enumerate().filter(|&(_, &b)| b == b'\n').nth(4).unwrap().0 + 1;
    let ends = RECEIVE.iter().enumerate().skip(head).filter(|&(_, &b)| b == b'\n').map(|(at, _)| at + 1);
    for end in ends {
        // Each file has the header.
        let rest = [&RECEIVE[..head], &RECEIVE[end..]].concat();
        assert_eq!(sorted(&counts(&[&RECEIVE[..end], &rest])), whole, "cut at {end}");
    }
}

#[test]
fn sessions_that_ended_too_early_are_left_out() {
    let since = Stamp::parse(b"2026-10-05T09:00:12.000Z");
    let all: u64 = counts(&[RECEIVE]).rows.iter().map(|(_, count)| count.sessions).sum();
    let late = read_texts(&[RECEIVE], since, Limits::default());
    let sessions: u64 = late.rows.iter().map(|(_, count)| count.sessions).sum();
    assert!(late.notes.too_old > 0 && sessions > 0);
    assert_eq!(late.notes.too_old + sessions, all);
    assert!(late.rows.iter().all(|(_, count)| Some(count.last) >= since));
}

#[test]
fn other_logs_are_left_out() {
    let tracking = b"#Software: Microsoft Exchange Server\r\n#Log-type: Message Tracking Log\r\n\
                     #Fields: date-time,client-ip\r\n2026-10-05T09:00:00.113Z,192.0.2.1\r\n";
    let counts = counts(&[tracking]);
    assert!(counts.rows.is_empty());
    assert_eq!((counts.notes.lines, counts.notes.broken), (0, 0));
}

#[test]
fn the_order_of_fields_is_the_headers() {
    let usual =
        "date-time,connector-id,session-id,sequence-number,local-endpoint,remote-endpoint,event,data,context";
    let text = String::from_utf8(SEND.to_vec()).unwrap();
    let turned: String = text
        .lines()
        .map(|line| match line.strip_prefix("#Fields: ") {
            Some(_) => format!("#Fields: {}\r\n", usual.split(',').rev().collect::<Vec<_>>().join(",")),
            None if line.starts_with('#') => format!("{line}\r\n"),
            None => {
                // Quoted fields stay together.
                let mut fields = vec![String::new()];
                let mut quoted = false;
                for c in line.chars() {
                    quoted ^= c == '"';
                    if c == ',' && !quoted {
                        fields.push(String::new());
                    } else if let Some(field) = fields.last_mut() {
                        field.push(c);
                    }
                }
                fields.reverse();
                format!("{}\r\n", fields.join(","))
            }
        })
        .collect();
    assert_eq!(sorted(&counts(&[turned.as_bytes()])), sorted(&counts(&[SEND])));
}

#[test]
fn a_text_without_a_header_is_read_if_it_is_a_log() {
    let body = |text: &[u8]| {
        let text = String::from_utf8(text.to_vec()).unwrap();
        text.split_inclusive('\n').filter(|line| !line.starts_with(['#', '\u{FEFF}'])).collect::<String>()
    };
    let (receive, send) = (body(RECEIVE), body(SEND));
    let both = counts(&[receive.as_bytes(), send.as_bytes()]);
    assert_eq!(sorted(&both), sorted(&counts(&[RECEIVE, SEND])));
}

#[test]
fn memory_is_bounded_and_what_that_costs_is_said() {
    let lines = (0..1000).map(|session| {
        let (high, low) = (session / 250, session % 250);
        format!("2026-10-05T09:00:00.113Z,E\\{session},08DE{session:012X},0,,10.0.{high}.{low}:9,+,,\r\n")
    });
    let text = lines.collect::<String>();
    let limits = Limits { open_sessions: 10, rows: 100, names: 5 };
    let counts = read_texts(&[text.as_bytes()], None, limits);
    assert_eq!((counts.notes.evicted, counts.notes.no_end), (990, 1000));
    assert!(counts.notes.folded > 0 && counts.rows.len() < 200);
    assert_eq!(counts.rows.iter().map(|(_, count)| count.sessions).sum::<u64>(), 1000);
    assert!(counts.rows.iter().all(|(key, _)| key.outcome == Outcome::Incomplete));
    let mut out = Vec::new();
    overview(&counts, STYLE, &mut out).unwrap();
    let out = String::from_utf8(out).unwrap();
    assert!(out.contains("too many were open at once: 990") && out.contains("(others)"), "{out}");
}

#[test]
fn files_are_read_packed_or_not_however_long_their_lines() {
    let directory = tempfile::tempdir().unwrap();
    let receive = directory.path().join("SmtpReceive");
    fs::create_dir(&receive).unwrap();
    // Far more than one chunk, with lines that fit into none.
    let mut big = RECEIVE.to_vec();
    for length in [2, 900, 1024, 1025, 2500] {
        big.extend_from_slice(&vec![b'x'; length * 1024]);
        big.extend_from_slice(b"\r\n");
        big.extend_from_slice(RECEIVE);
    }
    fs::write(receive.join("RECV2026100509-1.LOG"), &big).unwrap();
    fs::write(receive.join("RECV2026100509-2.LOG"), &GATEPOST[..GATEPOST.len() - 30]).unwrap();
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(SEND).unwrap();
    fs::write(receive.join("SEND2026100509-1.LOG.gz"), packed.finish().unwrap()).unwrap();
    fs::write(receive.join("other.log"), "hello\n").unwrap();
    let read = read(&find(&[directory.path().to_owned()], None).unwrap(), None, Limits::default());
    let expected = counts(&[&big, &GATEPOST[..GATEPOST.len() - 30], SEND]);
    assert_eq!(sorted(&read), sorted(&expected));
    assert_eq!((read.notes.files, read.notes.other_files), (3, 1));
    assert_eq!(read.notes.broken, expected.notes.broken);
    assert_eq!(read.notes.lines + 3, expected.notes.lines, "all but the three that fit into no chunk");
    assert_eq!(read.notes.failed, [""; 0]);
}

#[test]
fn a_file_that_breaks_off_counts_as_far_as_it_goes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("RECV.LOG.gz");
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(RECEIVE).unwrap();
    let packed = packed.finish().unwrap();
    fs::write(&path, &packed[..packed.len() - 8]).unwrap();
    let missing = Source::Named(directory.path().join("none.log"));
    let counts = read(&[missing, Source::Named(path)], None, Limits::default());
    assert!(!counts.rows.is_empty());
    assert_eq!(counts.notes.failed.len(), 2);
    assert!(counts.notes.failed[0].contains("none.log: No such file"), "{:?}", counts.notes.failed);
    assert!(counts.notes.failed[1].contains("RECV.LOG.gz: "), "{:?}", counts.notes.failed);
}

#[test]
fn a_refused_client_is_named_with_what_it_offered() {
    let counts = counts(&[GATEPOST]);
    let refused = rows(&counts, By::All, Some(Rule::MinTls12));
    let legacy = refused.iter().find(|(key, _)| key.version == Version::Tls11).unwrap();
    assert_eq!((legacy.0.outcome, legacy.1.sessions), (Outcome::Refused, 2));
    assert_eq!(legacy.1.helo.as_deref(), Some("old-printer"));
}

proptest! {
    /// Whatever the bytes, each line is counted, and nothing panics.
    #[test]
    fn no_input_panics(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        at in 0..RECEIVE.len(),
        lines in proptest::collection::vec("(#Fields: |#Log-type: SMTP Send Protocol Log|2026-10-05T09:00:00.1Z,E\\\\x,08DE00000000A001,0,,1.2.3.4:5,)?[-+<>*, a-zA-Z0-9'\"=]{0,60}\r?\n?", 0..20),
    ) {
        let mut broken = RECEIVE.to_vec();
        let end = (at + bytes.len()).min(broken.len());
        broken[at..end].copy_from_slice(&bytes[..end - at]);
        let limits = Limits { open_sessions: 3, rows: 4, names: 3 };
        let counts = read_texts(&[&broken, &bytes, lines.concat().as_bytes()], None, limits);
        let sessions: u64 = counts.rows.iter().map(|(_, count)| count.sessions).sum();
        prop_assert!(sessions + counts.notes.broken <= counts.notes.lines + counts.notes.files * 20);
        let mut out = Vec::new();
        overview(&counts, STYLE, &mut out).unwrap();
        json(&rows(&counts, By::All, None), &counts.names, &mut out).unwrap();
        prop_assert!(std::str::from_utf8(&out).is_ok());
    }
}
