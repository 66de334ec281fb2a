//! A script: its configuration and its steps.

use std::net::IpAddr;
use std::time::Duration;

use crate::pattern::{Pattern, bytes};

/// A parsed `tests/dialogues/*.txt`.
pub(crate) struct Script {
    pub(crate) name: String,
    /// What stands above `---`.
    pub(crate) config: String,
    pub(crate) steps: Vec<Step>,
}

/// A line of a script and what it does.
pub(crate) struct Step {
    pub(crate) line: usize,
    pub(crate) action: Action,
}

pub(crate) enum Action {
    /// A step of one client.
    Client(String, Do),
    /// `clock`: time runs from here.
    Clock,
    /// `clock >= 300ms`
    ClockAtLeast(Duration),
    /// `stop`: the relay is told to end.
    Stop,
    /// `mailbox a@b has N messages`
    MailboxHas(String, usize),
    /// `mailbox a@b line PATTERN`
    MailboxLine(String, Pattern),
    /// `mailbox a@b body TEXT`
    MailboxBody(String, Vec<u8>),
    /// `log has PATTERN`
    LogHas(Pattern),
    /// `log is`, and the lines.
    LogIs(Vec<Pattern>),
}

/// What a client does.
pub(crate) enum Do {
    Connect {
        from: IpAddr,
        to: IpAddr,
    },
    Send(Vec<u8>),
    Expect(Pattern),
    ExpectEnd,
    /// Reads lines up to the last one of a reply with this code.
    Until(String),
    StartTls {
        certificate: Option<String>,
        only_tls12: bool,
        refused: bool,
    },
    Close,
}

impl Script {
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, String> {
        let (config, steps) = text
            .split_once("---\n")
            .ok_or_else(|| format!("{name}: no `---` line ends the configuration"))?;
        let first = config.lines().count() + 2;
        let mut script = Self { name: name.to_owned(), config: config.to_owned(), steps: Vec::new() };
        for (i, text) in steps.lines().enumerate() {
            let line = first + i;
            let fail = |why: String| format!("{name}:{line}: {why}");
            if let Some(logged) = text.strip_prefix("  ") {
                let Some(Step { action: Action::LogIs(lines), .. }) = script.steps.last_mut() else {
                    return Err(fail("an indented line belongs to no `log is`".into()));
                };
                lines.push(Pattern::parse(logged).map_err(fail)?);
            } else if !text.trim().is_empty() && !text.starts_with('#') {
                let action = action(text).map_err(fail)?;
                script.steps.push(Step { line, action });
            }
        }
        Ok(script)
    }
}

fn action(text: &str) -> Result<Action, String> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    match (word, rest) {
        ("clock", "") => Ok(Action::Clock),
        ("clock", rest) => {
            let limit = rest.strip_prefix(">= ").and_then(|r| r.strip_suffix("ms"));
            let limit = limit.and_then(|n| n.parse().ok()).ok_or("it is `clock >= 300ms`")?;
            Ok(Action::ClockAtLeast(Duration::from_millis(limit)))
        }
        ("stop", "") => Ok(Action::Stop),
        ("log", "is") => Ok(Action::LogIs(Vec::new())),
        ("log", rest) => {
            let pattern = rest.strip_prefix("has ").ok_or("it is `log has` or `log is`")?;
            Ok(Action::LogHas(Pattern::parse(pattern)?))
        }
        ("mailbox", rest) => mailbox(rest),
        (client, rest) => client_step(rest).map(|step| Action::Client(client.to_owned(), step)),
    }
}

fn mailbox(rest: &str) -> Result<Action, String> {
    let (address, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let address = address.to_owned();
    match rest.split_once(' ').unwrap_or((rest, "")) {
        ("has", count) => {
            let count = count.split(' ').next().and_then(|n| n.parse().ok());
            Ok(Action::MailboxHas(address, count.ok_or("it is `mailbox a@b has 2 messages`")?))
        }
        ("line", pattern) => Ok(Action::MailboxLine(address, Pattern::parse(pattern)?)),
        ("body", text) => Ok(Action::MailboxBody(address, bytes(text)?)),
        (other, _) => Err(format!("a mailbox has, or a line, or a body; not {other:?}")),
    }
}

fn client_step(rest: &str) -> Result<Do, String> {
    let (what, argument) = rest.split_once(' ').unwrap_or((rest, ""));
    match what {
        "->" => {
            let mut line = bytes(argument)?;
            line.extend_from_slice(b"\r\n");
            Ok(Do::Send(line))
        }
        "=>" => bytes(argument).map(Do::Send),
        "<-" if argument == "EOF" => Ok(Do::ExpectEnd),
        "<-" => Pattern::parse(argument).map(Do::Expect),
        "until" if argument.len() == 3 => Ok(Do::Until(argument.to_owned())),
        "close" => Ok(Do::Close),
        "connect" => {
            let (mut from, mut to) = ("127.0.0.1", "127.0.0.1");
            let mut words = argument.split_ascii_whitespace();
            while let Some(word) = words.next() {
                let address = words.next().unwrap_or_default();
                match word {
                    "from" => from = address,
                    "to" => to = address,
                    _ => return Err("it is `c connect [from 127.0.0.2] [to 127.0.0.3]`".into()),
                }
            }
            let ip = |text: &str| text.parse().map_err(|_| format!("{text:?} is no address"));
            Ok(Do::Connect { from: ip(from)?, to: ip(to)? })
        }
        "starttls" => {
            let (mut certificate, mut only_tls12, mut refused) = (None, false, false);
            let mut words = argument.split_ascii_whitespace();
            while let Some(word) = words.next() {
                match word {
                    "as" => certificate = words.next().map(str::to_owned),
                    "tls1.2" => only_tls12 = true,
                    "refused" => refused = true,
                    _ => return Err("it is `c starttls [as CERTIFICATE] [tls1.2] [refused]`".into()),
                }
            }
            Ok(Do::StartTls { certificate, only_tls12, refused })
        }
        _ => Err(format!("no step of a client: {rest:?}")),
    }
}
