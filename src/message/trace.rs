//! The fields the relay writes at the top of a message (RFC 5321 section 4.4,
//! exchange-edge.md 6.1).

use std::fmt::Write;
use std::net::IpAddr;

use memchr::{memchr, memrchr};
use uuid::Uuid;

use crate::config::ReplyProfile;
use crate::smtp::ascii::any;

/// Transport version shown to mail readers that know Exchange's.
pub const VERSION_2019: &str = "15.2.1544.11";
/// The same for the older profile.
pub const VERSION_2010: &str = "14.3.513.0";

/// Where folding begins (RFC 5322 section 2.1.1). Only a single longer word passes it.
const LINE: usize = 78;
/// Longest HELO name shown, as for a domain (RFC 5321 section 4.5.3.1.2).
const MAX_HELO: usize = 255;
/// Room for a Received field before it is folded; a longer one grows.
const ROOM: usize = 320;

/// What a Received field tells of one session.
#[derive(Debug, Clone)]
pub struct ReceivedFacts<'a> {
    /// What the client called itself in EHLO or HELO.
    pub helo: &'a str,
    /// The client's address, from the PROXY header where one is believed.
    pub peer: IpAddr,
    /// The connector's name for this server.
    pub by: &'a str,
    /// Our address in this session.
    pub local: IpAddr,
    /// TLS version (`TLS1_3`) and IANA suite name; none = no TLS.
    pub tls: Option<(&'a str, &'a str)>,
    /// Which Exchange's form is written.
    pub profile: ReplyProfile,
    /// When, as RFC 5322 section 3.3 writes it.
    pub date: &'a str,
}

/// The whole Received field, folded, with its CRLF.
pub fn received(facts: &ReceivedFacts<'_>) -> String {
    let mut text = String::with_capacity(ROOM);
    text.push_str("Received: from ");
    push_helo(&mut text, facts.helo);
    text.push_str(" (");
    push_ip(&mut text, facts.peer);
    text.push_str(") by ");
    text.push_str(facts.by);
    text.push_str(" (");
    push_ip(&mut text, facts.local);
    text.push_str(") with Microsoft SMTP Server");
    match (facts.profile, facts.tls) {
        (_, None) => {}
        (ReplyProfile::Exchange2010, Some(_)) => text.push_str(" (TLS)"),
        (ReplyProfile::Exchange2019, Some((version, cipher))) => {
            for part in [" (version=", version, ", cipher=", cipher, ")"] {
                text.push_str(part);
            }
        }
    }
    text.push_str(" id ");
    text.push_str(match facts.profile {
        ReplyProfile::Exchange2019 => VERSION_2019,
        ReplyProfile::Exchange2010 => VERSION_2010,
    });
    text.push_str("; ");
    text.push_str(facts.date);
    fold(&text)
}

/// A Message-ID for a message that has none, with its angle brackets.
pub fn message_id(uuid: Uuid, fqdn: &str) -> String {
    let mut digits = Uuid::encode_buffer();
    ["<", uuid.as_hyphenated().encode_lower(&mut digits), "@", fqdn, ">"].concat()
}

/// A field that needs no folding, with its CRLF.
pub fn field(name: &str, value: &str) -> String {
    [name, ": ", value, "\r\n"].concat()
}

/// Breaks a field before the blank that keeps each line within [`LINE`], as Exchange does, and
/// ends it. Written lines go back to `text` by unfolding.
pub fn fold(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2 * (text.len() / (LINE / 2)) + 2);
    let mut rest = text;
    // A field's name stays with its first word.
    let mut earliest = memchr(b' ', text.as_bytes()).map_or(text.len(), |blank| blank + 1);
    while let Some(at) = break_before(rest.as_bytes(), earliest) {
        out.push_str(&rest[..at]);
        out.push_str("\r\n");
        rest = &rest[at..];
        earliest = 1;
    }
    out.push_str(rest);
    out.push_str("\r\n");
    out
}

/// Where the line has to end: the blank before the first word that passes [`LINE`], not looked for
/// before `earliest`. None when the rest fits, or has no place to break.
fn break_before(line: &[u8], earliest: usize) -> Option<usize> {
    let over = *line.get(LINE)?;
    let before = if over == b' ' { None } else { memrchr(b' ', &line[..LINE]) };
    before.filter(|&blank| blank >= earliest).or_else(|| {
        // A word ends at the limit, or began where no break may be: before the next one. Not in
        // front of blanks alone, which would make a line of nothing else.
        let from = LINE.max(earliest);
        let blank = from + memchr(b' ', line.get(from..)?)?;
        let word = line[blank..].iter().position(|&b| b != b' ')?;
        Some(blank + word - 1)
    })
}

/// A HELO name that cannot break the field it stands in: what the client said is not to be
/// trusted with comments, quotes or line ends.
fn push_helo(out: &mut String, helo: &str) {
    if helo.is_empty() {
        out.push_str("unknown");
    } else if helo.len() <= MAX_HELO && !any(helo.as_bytes(), |b| !harmless(b)) {
        out.push_str(helo);
    } else {
        let harmless = |c: char| u8::try_from(c).is_ok_and(harmless);
        out.extend(helo.chars().take(MAX_HELO).map(|c| if harmless(c) { c } else { '?' }));
    }
}

fn harmless(b: u8) -> bool {
    b.is_ascii_alphanumeric() | matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']')
}

fn push_ip(out: &mut String, ip: IpAddr) {
    match ip.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            out.push_str(itoa::Buffer::new().format(a));
            for octet in [b, c, d] {
                out.push('.');
                out.push_str(itoa::Buffer::new().format(octet));
            }
        }
        IpAddr::V6(v6) => {
            // Writing to a String does not fail.
            let _ = write!(out, "{v6}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn facts() -> ReceivedFacts<'static> {
        ReceivedFacts {
            helo: "mail.fabrikam.example",
            peer: [192, 0, 2, 7].into(),
            by: "edge.contoso.com",
            local: [198, 51, 100, 2].into(),
            tls: Some(("TLS1_2", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384")),
            profile: ReplyProfile::Exchange2019,
            date: "Thu, 24 Oct 2024 11:11:59 +0200",
        }
    }

    #[test]
    fn exchange_2019_with_tls() {
        assert_eq!(
            received(&facts()),
            "Received: from mail.fabrikam.example (192.0.2.7) by edge.contoso.com\r\n \
             (198.51.100.2) with Microsoft SMTP Server (version=TLS1_2,\r\n \
             cipher=TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384) id 15.2.1544.11; Thu, 24 Oct\r\n \
             2024 11:11:59 +0200\r\n"
        );
    }

    #[test]
    fn other_forms() {
        let plain = |f: &ReceivedFacts<'_>| received(f).replace("\r\n ", " ");
        let mut f = facts();
        f.tls = None;
        assert!(plain(&f).contains(") with Microsoft SMTP Server id 15.2.1544.11; Thu, 24"));
        f.profile = ReplyProfile::Exchange2010;
        assert!(plain(&f).contains(") with Microsoft SMTP Server id 14.3.513.0; Thu, 24"));
        f.tls = facts().tls;
        assert!(plain(&f).contains(") with Microsoft SMTP Server (TLS) id 14.3.513.0; Thu, 24"));
        f.helo = "[127.0.0.1]";
        f.peer = "::ffff:4.227.125.105".parse().unwrap();
        assert!(plain(&f).contains("from [127.0.0.1] (4.227.125.105) by "));
        f.helo = "a) by b (\r\nX: y";
        assert!(plain(&f).contains("from a??by?b????X:?y (4."));
        f.helo = "";
        assert!(plain(&f).contains("from unknown ("));
    }

    #[test]
    fn a_message_id_names_us() {
        let id = message_id(Uuid::nil(), "edge.contoso.com");
        assert_eq!(id, "<00000000-0000-0000-0000-000000000000@edge.contoso.com>");
        assert_eq!(field("Message-ID", &id).lines().count(), 1);
    }

    /// Word by word.
    fn naive_fold(text: &str) -> String {
        let (mut out, mut column) = (String::new(), 0);
        for (i, word) in text.split(' ').enumerate() {
            if i > 1 && !word.is_empty() && column + 1 + word.len() > LINE {
                out.push_str("\r\n ");
                column = 1;
            } else if i > 0 {
                out.push(' ');
                column += 1;
            }
            out.push_str(word);
            column += word.len();
        }
        out + "\r\n"
    }

    proptest! {
        #[test]
        fn folding_agrees_with_the_naive_way(
            words in prop::collection::vec((0usize..4, prop_oneof![0usize..12, 60usize..100]), 0..25),
        ) {
            let word = |&(blanks, length): &(usize, usize)| " ".repeat(blanks) + &"a".repeat(length);
            let text: String = words.iter().map(word).collect();
            prop_assert_eq!(fold(&text), naive_fold(&text));
        }

        #[test]
        fn folded_lines_are_short_and_unfold(helo in "\\PC{0,400}", by in "[a-z.]{1,255}", v6: [u16; 8]) {
            let f = ReceivedFacts { helo: &helo, by: &by, peer: std::net::Ipv6Addr::from(v6).into(), ..facts() };
            let text = received(&f);
            prop_assert!(text.ends_with("\r\n"));
            let lines: Vec<&str> = text.strip_suffix("\r\n").unwrap().split("\r\n").collect();
            for line in &lines {
                prop_assert!(line.len() <= 998 && line.is_ascii());
                prop_assert!(line.len() <= LINE || line.trim().split(' ').count() <= 3);
            }
            prop_assert!(lines[1..].iter().all(|l| l.starts_with(' ') && !l.trim().is_empty()));
            prop_assert!(!lines.concat().contains(['\r', '\n']));
        }
    }
}
