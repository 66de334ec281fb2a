//! Logs read back.

use gatepost::report::{By, Limits, Style, csv, json, overview, read_texts, rows};

/// Protocol logs for `tls report`: no panic, no session counted twice or lost in a sum, and the
/// report is text whatever the log held.
pub fn protocol_log(input: &[u8]) {
    // Two files, small limits: sessions go on in the second, and the bounds are met.
    let (first, second) = input.split_at(input.len() / 2);
    let limits = Limits { open_sessions: 4, rows: 8, names: 4 };
    let counts = read_texts(&[first, second], None, limits);
    let all = |by| rows(&counts, by, None).iter().map(|(_, count)| count.sessions).sum::<u64>();
    assert!(all(By::All) <= counts.notes.lines);
    assert!([By::Version, By::Peer, By::Connector].into_iter().all(|by| all(by) == all(By::All)));
    let mut out = Vec::new();
    let shown = rows(&counts, By::All, None);
    json(&shown, &counts.names, &mut out).unwrap();
    csv(&shown, &counts.names, &mut out).unwrap();
    overview(&counts, Style { width: 80, top: 3 }, &mut out).unwrap();
    assert!(std::str::from_utf8(&out).is_ok());
}
