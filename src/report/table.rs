//! The report for people.

use std::collections::HashSet;
use std::io::{self, Write};

use super::names::{Name, Names};
use super::scan::{Counts, Notes};
use super::session::{Outcome, Peer};
use super::tally::{Count, Key, helo_text};
use super::verdict::Rule;
use super::view::{By, connector_parts, effect, peer_text, rows};
use super::words::Version;

/// How a report is shown.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Columns of the terminal.
    pub width: usize,
    /// Peers listed; 0 = all.
    pub top: usize,
}

/// The whole answer: what is spoken, what would break, and whose mail that is.
pub fn overview(counts: &Counts, style: Style, out: &mut dyn Write) -> io::Result<()> {
    heading(&counts.notes, out)?;
    if counts.rows.is_empty() {
        return notes(&counts.notes, out);
    }
    versions(counts, style, out)?;
    writeln!(out, "\nWhat would break")?;
    let mut table =
        Table::new(&["rule", ">would fail", ">messages", ">peers", ">fail today", ">cannot tell"]);
    for rule in Rule::ALL {
        let effect = effect(counts, rule);
        table.row(vec![
            rule.title().to_owned(),
            grouped(effect.fails),
            grouped(effect.messages),
            grouped(effect.peers),
            grouped(effect.fails_already),
            grouped(effect.cannot_tell),
        ]);
    }
    table.write(style.width, out)?;
    writeln!(out, "\nWho speaks TLS 1.2 or less, or fails today")?;
    peers(counts, Some(Rule::MinTls13), style, out)?;
    writeln!(out, "\nWho sends in plain text")?;
    let plain = rows_of(counts, Rule::NoPlainText, |key| key.outcome == Outcome::Plain);
    peer_table(&plain, &counts.names, style, out)?;
    notes(&counts.notes, out)
}

/// Only the counters, summed up in one way.
pub fn counted(
    counts: &Counts,
    by: By,
    rule: Option<Rule>,
    style: Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    heading(&counts.notes, out)?;
    if let Some(rule) = rule {
        writeln!(out, "\nOnly sessions that would fail with \"{}\", or fail today", rule.title())?;
    }
    match by {
        By::All | By::Peer => peers(counts, rule, style, out)?,
        By::Version | By::Connector => {
            let connectors = by == By::Connector;
            let mut table = if connectors {
                Table::new(&["in/out", "connector", "TLS", ">sessions", ">messages", "last seen"])
            } else {
                let names = ["in/out", "TLS", "cipher", "group", ">sessions", ">messages", "last seen"];
                Table::new(&names)
            };
            for (key, count) in rows(counts, by, rule) {
                let mut cells = vec![key.direction.as_str().to_owned()];
                if connectors {
                    cells.push(counts.names.text(key.connector).to_owned());
                }
                cells.push(spoken(&key, &counts.names));
                if !connectors {
                    cells.extend([key.cipher, key.group].map(|name| counts.names.text(name).to_owned()));
                }
                cells.extend([grouped(count.sessions), grouped(count.messages), count.last.day()]);
                table.row(cells);
            }
            table.write(style.width, out)?;
        }
    }
    notes(&counts.notes, out)
}

fn heading(notes: &Notes, out: &mut dyn Write) -> io::Result<()> {
    let files = if notes.files == 1 { "file" } else { "files" };
    match notes.span {
        Some((first, last)) => writeln!(
            out,
            "SMTP sessions from {} to {} UTC ({} {files}, {} lines)",
            first.minute(),
            last.minute(),
            grouped(notes.files),
            grouped(notes.lines)
        ),
        None => {
            writeln!(out, "No sessions ({} {files}, {} lines)", grouped(notes.files), grouped(notes.lines))
        }
    }
}

fn versions(counts: &Counts, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let all: u64 = counts.rows.iter().map(|(_, count)| count.sessions).sum();
    let names = ["in/out", "TLS", ">sessions", ">share", ">messages", ">peers", "last seen"];
    let mut table = Table::new(&names);
    let mut sums: Vec<(Key, Count, HashSet<Peer>)> = Vec::new();
    // Without cipher and group: those are for `--by version`.
    for (key, count) in rows(counts, By::Version, None) {
        let same = |sum: &&mut (Key, Count, HashSet<Peer>)| {
            (sum.0.direction, sum.0.version, sum.0.outcome) == (key.direction, key.version, key.outcome)
        };
        match sums.iter_mut().find(same) {
            Some(sum) => sum.1.add(&count),
            None => sums.push((key, count, HashSet::new())),
        }
    }
    for (key, _) in &counts.rows {
        let same = |sum: &&mut (Key, Count, HashSet<Peer>)| {
            (sum.0.direction, sum.0.version, sum.0.outcome) == (key.direction, key.version, key.outcome)
        };
        if let Some(sum) = sums.iter_mut().find(same) {
            sum.2.insert(key.peer);
        }
    }
    sums.sort_by_key(|(key, ..)| (key.direction.as_str(), std::cmp::Reverse(key.version), key.outcome));
    for (key, count, peers) in sums {
        table.row(vec![
            key.direction.as_str().to_owned(),
            spoken(&key, &counts.names),
            grouped(count.sessions),
            format!("{:.1} %", count.sessions as f64 * 100.0 / all as f64),
            grouped(count.messages),
            grouped(peers.len() as u64),
            count.last.day(),
        ]);
    }
    writeln!(out)?;
    table.write(style.width, out)
}

fn peers(counts: &Counts, rule: Option<Rule>, style: Style, out: &mut dyn Write) -> io::Result<()> {
    peer_table(&rows(counts, By::Peer, rule), &counts.names, style, out)
}

fn rows_of(counts: &Counts, rule: Rule, keep: impl Fn(&Key) -> bool) -> Vec<(Key, Count)> {
    let mut rows = rows(counts, By::Peer, Some(rule));
    rows.retain(|(key, _)| keep(key));
    rows
}

fn peer_table(rows: &[(Key, Count)], names: &Names, style: Style, out: &mut dyn Write) -> io::Result<()> {
    if rows.is_empty() {
        return writeln!(out, "  nobody");
    }
    let top = if style.top == 0 { rows.len() } else { style.top.min(rows.len()) };
    // One server's name says nothing.
    let servers: HashSet<_> = rows.iter().filter_map(|(key, _)| server(key, names)).collect();
    let columns = ["in/out", "peer", "name", "connector", "TLS", ">sessions", ">messages", "last seen"];
    let mut table = Table::new(&columns);
    for (key, count) in &rows[..top] {
        let connector = names.text(key.connector);
        table.row(vec![
            key.direction.as_str().to_owned(),
            peer_text(key.peer, names).unwrap_or_default(),
            helo_text(count),
            if servers.len() > 1 { connector } else { connector_parts(connector).1 }.to_owned(),
            spoken(key, names),
            grouped(count.sessions),
            grouped(count.messages),
            count.last.day(),
        ]);
    }
    table.write(style.width, out)?;
    if top < rows.len() {
        let rest: u64 = rows[top..].iter().map(|(_, count)| count.sessions).sum();
        let more = rows.len() - top;
        writeln!(out, "  and {more} more, {} sessions: --top 0 lists all", grouped(rest))?;
    }
    Ok(())
}

fn server<'a>(key: &Key, names: &'a Names) -> Option<&'a str> {
    if key.connector == Name::ANY { None } else { connector_parts(names.text(key.connector)).0 }
}

/// Version, outcome and error in one: `TLS1_2`, `TLS1_1 refused`, `failed: NoCredentials`.
fn spoken(key: &Key, names: &Names) -> String {
    let what = match (key.version, key.outcome) {
        (version, Outcome::Ok) => version.as_str().to_owned(),
        (Version::None | Version::Unknown, outcome) => outcome.as_str().to_owned(),
        (version, outcome) => format!("{} {}", version.as_str(), outcome.as_str()),
    };
    match names.text(key.error) {
        "" => what,
        error => format!("{what}: {error}"),
    }
}

/// What the counts leave out, each in a line.
pub fn remarks(notes: &Notes) -> Vec<String> {
    let mut remarks = Vec::new();
    let mut say = |what: &str, count: u64| {
        if count > 0 {
            remarks.push(format!("{what}: {}", grouped(count)));
        }
    };
    say("sessions that begin before these logs do, or whose first lines are missing", notes.no_begin);
    say("sessions without an end, still open or cut off", notes.no_end);
    say("of these given up because too many were open at once", notes.evicted);
    say("tries to connect that found nobody, not counted", notes.no_connection);
    say("counters of rare peers added up as (others), so that single peers may have had more", notes.folded);
    say("lines the log lost when it was written", notes.lost);
    say("lines that could not be read", notes.broken);
    say("files left out as they are no SMTP protocol logs", notes.other_files);
    remarks
}

fn notes(notes: &Notes, out: &mut dyn Write) -> io::Result<()> {
    let remarks = remarks(notes);
    if !remarks.is_empty() {
        writeln!(out)?;
    }
    for remark in remarks {
        writeln!(out, "note: {remark}")?;
    }
    Ok(())
}

/// `1,234,567`
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Columns as wide as they need to be; names give way where the terminal is too narrow.
struct Table {
    names: Vec<String>,
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

/// Columns that give way, in turn, and the width down to which they do: first to where most names can
/// still be read, then further.
const YIELDING: [(&str, usize); 8] = [
    ("name", 28),
    ("connector", 16),
    ("cipher", 24),
    ("name", 16),
    ("connector", 10),
    ("peer", 18),
    ("name", 10),
    ("cipher", 10),
];

impl Table {
    /// `>` in front of a name: aligned to the right.
    fn new(names: &[&str]) -> Self {
        Self {
            names: names.iter().map(|name| name.trim_start_matches('>').to_owned()).collect(),
            right: names.iter().map(|name| name.starts_with('>')).collect(),
            rows: Vec::new(),
        }
    }

    fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    fn write(&self, width: usize, out: &mut dyn Write) -> io::Result<()> {
        let mut widths: Vec<usize> = (0..self.names.len())
            .map(|column| {
                let cells = self.rows.iter().map(|row| row[column].chars().count());
                cells.chain([self.names[column].chars().count()]).max().unwrap_or(0)
            })
            .collect();
        for (name, least) in YIELDING {
            let whole: usize = widths.iter().map(|width| width + 2).sum();
            if let Some(column) = self.names.iter().position(|n| n == name) {
                widths[column] -= whole.saturating_sub(width).min(widths[column].saturating_sub(least));
            }
        }
        for row in std::iter::once(&self.names).chain(&self.rows) {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let cell = shortened(cell, widths[column]);
                let padding = " ".repeat(widths[column] - cell.chars().count());
                line.push_str("  ");
                if self.right[column] {
                    line.push_str(&padding);
                    line.push_str(&cell);
                } else {
                    line.push_str(&cell);
                    line.push_str(&padding);
                }
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

fn shortened(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return cell.to_owned();
    }
    let mut short: String = cell.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let shown = [0, 12, 999, 1000, 1_234_567].map(grouped);
        assert_eq!(shown, ["0", "12", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_table_fits_its_terminal() {
        let mut table = Table::new(&["peer", "name", ">sessions"]);
        table.row(vec!["192.0.2.1".into(), "a-very-long-name.of.a.mail.server.example".into(), "7".into()]);
        table.row(vec!["192.0.2.20".into(), "b".into(), "1,000".into()]);
        let mut out = Vec::new();
        table.write(50, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "  peer        name                        sessions\n\
             \x20 192.0.2.1   a-very-long-name.of.a.mai…         7\n\
             \x20 192.0.2.20  b                              1,000\n"
        );
    }
}
