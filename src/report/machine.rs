//! The report for programs: JSON and CSV (interface 7.6).

use std::io::{self, Write};

use serde::Serialize;

use super::names::{Name, Names};
use super::session::Verification;
use super::tally::{Count, Key, helo_text};
use super::verdict::{Rule, Verdict};
use super::view::{connector_parts, peer_text};

/// One object of the JSON array. A field that was summed up, or does not apply, is null.
#[derive(Debug, Serialize)]
struct Row<'a> {
    direction: &'static str,
    connector: Option<&'a str>,
    peer: Option<String>,
    version: &'static str,
    cipher: Option<&'a str>,
    group: Option<&'a str>,
    outcome: &'static str,
    sessions: u64,
    messages: u64,
    first_seen: String,
    last_seen: String,
    server: Option<&'a str>,
    helo: Option<String>,
    error: Option<&'a str>,
    verification: Option<&'static str>,
    verified_name: Option<&'a str>,
    would_fail: Vec<&'static str>,
    cannot_tell: Vec<&'static str>,
}

impl<'a> Row<'a> {
    fn new(key: &Key, count: &Count, names: &'a Names) -> Self {
        let text = |name: Name| Some(names.text(name)).filter(|text| !text.is_empty());
        let (server, connector) = connector_parts(names.text(key.connector));
        let rules = |verdict: Verdict| {
            let hit = Rule::ALL.into_iter().filter(|&rule| key.verdict(rule) == verdict);
            hit.map(Rule::as_str).collect()
        };
        Self {
            direction: key.direction.as_str(),
            connector: Some(connector).filter(|_| key.connector != Name::ANY),
            peer: peer_text(key.peer, names),
            version: key.version.as_str(),
            cipher: text(key.cipher),
            group: text(key.group),
            outcome: key.outcome.as_str(),
            sessions: count.sessions,
            messages: count.messages,
            first_seen: count.first.to_string(),
            last_seen: count.last.to_string(),
            server,
            helo: Some(helo_text(count)).filter(|helo| !helo.is_empty()),
            error: text(key.error),
            verification: match key.verification {
                Verification::NotChecked => Some("not_checked"),
                Verification::Verified => Some("verified"),
                Verification::Failed => Some("failed"),
                Verification::Any => None,
            },
            verified_name: text(key.verified_name),
            would_fail: rules(Verdict::Fails),
            cannot_tell: rules(Verdict::CannotTell),
        }
    }

    /// The same as fields of CSV, in the order of [`HEADER`].
    fn fields(&self) -> [String; 18] {
        let text = |field: Option<&str>| field.unwrap_or_default().to_owned();
        [
            self.direction.to_owned(),
            text(self.connector),
            text(self.peer.as_deref()),
            self.version.to_owned(),
            text(self.cipher),
            text(self.group),
            self.outcome.to_owned(),
            self.sessions.to_string(),
            self.messages.to_string(),
            self.first_seen.clone(),
            self.last_seen.clone(),
            text(self.server),
            text(self.helo.as_deref()),
            text(self.error),
            text(self.verification),
            text(self.verified_name),
            self.would_fail.join(" "),
            self.cannot_tell.join(" "),
        ]
    }
}

const HEADER: &str = "direction,connector,peer,version,cipher,group,outcome,sessions,messages,first_seen,\
                      last_seen,server,helo,error,verification,verified_name,would_fail,cannot_tell";

/// Writes a JSON array, one object a line.
pub fn json(rows: &[(Key, Count)], names: &Names, out: &mut dyn Write) -> io::Result<()> {
    let mut separator = "[\n";
    for (key, count) in rows {
        out.write_all(separator.as_bytes())?;
        serde_json::to_writer(&mut *out, &Row::new(key, count, names))?;
        separator = ",\n";
    }
    out.write_all(if rows.is_empty() { b"[]\n" } else { b"\n]\n" })
}

/// Writes CSV (RFC 4180), with a header line.
pub fn csv(rows: &[(Key, Count)], names: &Names, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "{HEADER}\r\n")?;
    for (key, count) in rows {
        let fields = Row::new(key, count, names).fields().map(|field| csv_field(&field));
        write!(out, "{}\r\n", fields.join(","))?;
    }
    Ok(())
}

/// A field in quotes where it needs them. Peers choose some of these texts, and spreadsheets run what
/// begins like a formula: a quotation mark in front keeps them from it.
fn csv_field(field: &str) -> String {
    let formula = field.starts_with(['=', '+', '-', '@']);
    let field = if formula { format!("'{field}") } else { field.to_owned() };
    if field.contains([',', '"', '\r', '\n']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_csv_are_quoted_and_no_formulas() {
        assert_eq!(csv_field("a b"), "a b");
        assert_eq!(csv_field("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(csv_field("=cmd()"), "'=cmd()");
        assert_eq!(csv_field(""), "");
        assert_eq!(HEADER.split(',').count(), 18);
    }
}
