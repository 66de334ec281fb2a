//! What a reply or error of Exchange, Exchange Online or Gatepost means, what usually causes it,
//! and what to look at (exchange-edge.md 1.6, 2.6, 8.4, 8.5). The texts are in `replies.toml`.

mod find;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use find::Found;

/// One row of the catalogue.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    id: String,
    from: Origin,
    #[serde(default)]
    status: Vec<String>,
    #[serde(default)]
    text: Vec<String>,
    meaning: String,
    causes: Vec<String>,
    checks: Vec<String>,
}

/// Who answers so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Exchange Online Protection.
    Eop,
    /// Exchange, and Gatepost where it answers as Exchange does.
    Exchange,
    /// Gatepost, about a next hop.
    Gatepost,
    /// Any mail server.
    Any,
}

/// What is known of one reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation<'a> {
    /// The part of the text that is explained.
    pub reply: &'a str,
    /// Reply code, when one was given.
    pub code: Option<u16>,
    /// Enhanced status code, when one was given.
    pub status: Option<String>,
    /// Name of the catalogue's row; none where only the code says something (RFC 3463).
    pub id: Option<&'static str>,
    /// Who answers so, as far as the text tells.
    pub from: Option<Origin>,
    /// What it means.
    pub meaning: String,
    /// What usually causes it, the most frequent first.
    pub causes: &'static [String],
    /// What to look at or do.
    pub checks: &'static [String],
}

#[derive(Default, Deserialize)]
struct Catalogue {
    reply: Vec<Row>,
}

/// The file is part of the program; that it can be read is a test's business.
static CATALOGUE: LazyLock<Catalogue> =
    LazyLock::new(|| toml::from_str(include_str!("replies.toml")).unwrap_or_default());

/// Explains every reply in a text, the innermost first: Exchange wraps errors in errors.
pub fn explain(text: &str) -> Vec<Explanation<'_>> {
    let mut explained: Vec<Explanation<'_>> = find::replies(text).iter().map(of).collect();
    explained.reverse();
    explained
}

/// What the innermost reply means, where the catalogue knows more than its code says.
pub fn meaning(text: &str) -> Option<&'static str> {
    find::replies(text).iter().rev().find_map(|found| row(found)).map(|row| row.meaning.as_str())
}

fn of<'a>(found: &Found<'a>) -> Explanation<'a> {
    let row = row(found);
    Explanation {
        reply: found.text,
        code: found.code,
        status: found.status.map(|(class, subject, detail)| format!("{class}.{subject}.{detail}")),
        id: row.map(|row| row.id.as_str()),
        from: row.map(|row| row.from),
        meaning: row.map_or_else(|| by_code(found), |row| row.meaning.clone()),
        causes: row.map_or(&[], |row| &row.causes),
        checks: row.map_or(&[], |row| &row.checks),
    }
}

/// The row that fits best: the longest text, then one with a status.
fn row(found: &Found<'_>) -> Option<&'static Row> {
    let lower = found.text.to_lowercase();
    let fit = |row: &Row| {
        let text = row.text.iter().filter(|part| lower.contains(part.as_str())).map(String::len).max();
        if text.is_none() && !row.text.is_empty() {
            return None;
        }
        let status = found.status.is_some_and(|status| row.status.iter().any(|given| covers(given, status)));
        if !status && !row.status.is_empty() {
            return None;
        }
        Some((text.unwrap_or(0), status))
    };
    // `max_by_key` would take the last of equals; the file's order is that of preference.
    CATALOGUE
        .reply
        .iter()
        .filter_map(|row| Some((fit(row)?, row)))
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map(|(_, row)| row)
}

/// Whether `given`, say `5.7.64` or `5.7.606-649`, covers a status.
fn covers(given: &str, status: (u16, u16, u16)) -> bool {
    let mut parts = given.splitn(3, '.');
    let mut number = || parts.next().and_then(|part| part.parse::<u16>().ok());
    if (number(), number()) != (Some(status.0), Some(status.1)) {
        return false;
    }
    let Some(detail) = given.rsplit('.').next() else { return false };
    let (low, high) = detail.split_once('-').unwrap_or((detail, detail));
    matches!((low.parse(), high.parse()), (Ok(low), Ok(high)) if (low..=high).contains(&status.2))
}

/// What the codes alone say (RFC 3463 sections 3.1 and 3.2, RFC 5321 section 4.2.1).
fn by_code(found: &Found<'_>) -> String {
    let class = found.status.map(|status| status.0).or(found.code.map(|code| code / 100));
    let class = match class {
        Some(2) => "Success",
        Some(4) => "A temporary failure: the message is tried again",
        Some(5) => "A permanent failure: the message is returned",
        _ => return "Nothing is known about this text. Give the whole reply, with its codes.".to_owned(),
    };
    let subject = match found.status.map(|status| status.1) {
        Some(1) => ", to do with an address.",
        Some(2) => ", to do with the recipient's mailbox.",
        Some(3) => ", to do with the receiving mail system itself.",
        Some(4) => ", to do with the network or routing.",
        Some(5) => ", to do with the mail protocol.",
        Some(6) => ", to do with the content of the message.",
        Some(7) => ", to do with security or policy.",
        _ => ".",
    };
    format!("{class}{subject}")
}
