//! Commands of a client (RFC 5321 section 4.1.1), parsed from one line.

use memchr::memchr;

use super::address::{Address, is_atext};
use super::ascii::{is_printable, split_once, words};
use super::command_error::CommandError;
use super::params::{BodyType, Notify, Ret};
use super::path::{forward_path, reverse_path, split_path};
use super::verb::Verb;

/// A command. Nothing in it can carry a control character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// EHLO with the name the client gives itself.
    Ehlo(Box<str>),
    /// HELO with the name the client gives itself.
    Helo(Box<str>),
    /// MAIL
    Mail(MailCommand),
    /// RCPT
    Rcpt(RcptCommand),
    /// DATA
    Data,
    /// BDAT (RFC 3030). When such a line is refused, the octets behind it cannot be told from
    /// commands: close the connection.
    Bdat {
        /// Octets that follow.
        size: u64,
        /// The message ends with them.
        last: bool,
    },
    /// RSET
    Rset,
    /// NOOP
    Noop,
    /// QUIT
    Quit,
    /// VRFY
    Vrfy,
    /// EXPN
    Expn,
    /// HELP
    Help,
    /// STARTTLS (RFC 3207)
    StartTls,
    /// AUTH (RFC 4954)
    Auth {
        /// The mechanism, in upper case.
        mechanism: Box<str>,
        /// The initial response, still in base64; `=` stands for an empty one.
        initial: Option<Box<str>>,
    },
}

/// The arguments of MAIL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailCommand {
    /// The reverse path; none = `<>`.
    pub from: Option<Address>,
    /// `SIZE=` (RFC 1870)
    pub size: Option<u64>,
    /// `BODY=` (RFC 6152, RFC 3030)
    pub body: BodyType,
    /// `SMTPUTF8` (RFC 6531)
    pub smtputf8: bool,
    /// `RET=` (RFC 3461)
    pub ret: Option<Ret>,
    /// `ENVID=` (RFC 3461), still in xtext.
    pub envid: Option<Box<str>>,
    /// `AUTH=` (RFC 4954), still in xtext.
    pub auth: Option<Box<str>>,
}

impl MailCommand {
    /// The sender is allowed only with SMTPUTF8, which the command lacks: refuse it with
    /// [`CommandError::NeedsSmtpUtf8`] (RFC 6531 section 3.5).
    pub fn lacks_smtputf8(&self) -> bool {
        !self.smtputf8 && self.from.as_ref().is_some_and(|from| !from.is_ascii())
    }
}

/// The arguments of RCPT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RcptCommand {
    /// The forward path.
    pub to: ForwardPath,
    /// `NOTIFY=` (RFC 3461)
    pub notify: Option<Notify>,
    /// `ORCPT=` (RFC 3461), `type;xtext` as it came.
    pub orcpt: Option<Box<str>>,
}

impl RcptCommand {
    /// The recipient is allowed only when MAIL said SMTPUTF8: otherwise refuse it with
    /// [`CommandError::NeedsSmtpUtf8`] (RFC 6531 section 3.5).
    pub fn needs_smtputf8(&self) -> bool {
        let address = matches!(&self.to, ForwardPath::Mailbox(address) if !address.is_ascii());
        address || self.orcpt.as_ref().is_some_and(|orcpt| !orcpt.is_ascii())
    }
}

/// Whom a message is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardPath {
    /// A mailbox.
    Mailbox(Address),
    /// `<postmaster>` without a domain: ours (RFC 5321 section 4.1.1.3).
    Postmaster,
}

impl Command {
    /// Parses a line without its CRLF.
    pub fn parse(line: &[u8]) -> Result<Self, CommandError> {
        // RFC 5321 section 4.1.1: white space before the CRLF is to be tolerated.
        let blanks = line.iter().rev().take_while(|&&b| b == b' ' || b == b'\t').count();
        let line = &line[..line.len() - blanks];
        let line = std::str::from_utf8(line).map_err(|_| CommandError::NotText)?;
        if has_control(line) {
            return Err(CommandError::NotText);
        }
        let end = memchr(b' ', line.as_bytes()).unwrap_or(line.len());
        let (word, rest) = line.split_at(end);
        let verb = Verb::parse(word.as_bytes()).ok_or(CommandError::UnknownVerb)?;
        let rest = rest.trim_start_matches(' ');
        match verb {
            Verb::Ehlo => client_name(rest).map(Self::Ehlo),
            Verb::Helo => client_name(rest).map(Self::Helo),
            Verb::Mail => mail(rest).map(Self::Mail),
            Verb::Rcpt => rcpt(rest).map(Self::Rcpt),
            Verb::Bdat => bdat(rest),
            Verb::Auth => auth(rest),
            Verb::Data => alone(verb, rest, Self::Data),
            Verb::Rset => alone(verb, rest, Self::Rset),
            Verb::Quit => alone(verb, rest, Self::Quit),
            // RFC 3207 section 4: no parameters, 501 if there are any.
            Verb::StartTls => alone(verb, rest, Self::StartTls),
            // UTF-8 is for addresses only, which VRFY and EXPN may name (RFC 6531 section 3.7.4.2).
            Verb::Noop if rest.is_ascii() => Ok(Self::Noop),
            Verb::Help if rest.is_ascii() => Ok(Self::Help),
            Verb::Vrfy if !rest.is_empty() => Ok(Self::Vrfy),
            Verb::Expn if !rest.is_empty() => Ok(Self::Expn),
            Verb::Noop | Verb::Help | Verb::Vrfy | Verb::Expn => Err(CommandError::InvalidArguments(verb)),
        }
    }

    /// The verb of the command.
    pub fn verb(&self) -> Verb {
        match self {
            Self::Ehlo(_) => Verb::Ehlo,
            Self::Helo(_) => Verb::Helo,
            Self::Mail(_) => Verb::Mail,
            Self::Rcpt(_) => Verb::Rcpt,
            Self::Data => Verb::Data,
            Self::Bdat { .. } => Verb::Bdat,
            Self::Rset => Verb::Rset,
            Self::Noop => Verb::Noop,
            Self::Quit => Verb::Quit,
            Self::Vrfy => Verb::Vrfy,
            Self::Expn => Verb::Expn,
            Self::Help => Verb::Help,
            Self::StartTls => Verb::StartTls,
            Self::Auth { .. } => Verb::Auth,
        }
    }
}

/// Control characters of ASCII, and those of Latin-1 in their UTF-8 form.
fn has_control(line: &str) -> bool {
    !is_printable(line.as_bytes()) && line.chars().any(char::is_control)
}

fn alone(verb: Verb, rest: &str, command: Command) -> Result<Command, CommandError> {
    if rest.is_empty() { Ok(command) } else { Err(CommandError::InvalidArguments(verb)) }
}

/// The name of a client is written to logs and the Received field, and proves nothing: it may be
/// any word that cannot be taken for something else there.
fn client_name(name: &str) -> Result<Box<str>, CommandError> {
    let inner = name.strip_prefix('[').map_or(Some(name), |literal| literal.strip_suffix(']'));
    let word = |b: u8| b.is_ascii() && (is_atext(b) || b == b'.' || b == b':');
    match inner {
        Some(inner) if !inner.is_empty() && name.len() <= 255 && inner.bytes().all(word) => Ok(name.into()),
        _ => Err(CommandError::InvalidDomain),
    }
}

fn mail(rest: &str) -> Result<MailCommand, CommandError> {
    let (path, parameters) = split_path(Verb::Mail, "FROM:", rest)?;
    let mut mail = MailCommand {
        from: reverse_path(path).map_err(CommandError::InvalidSender)?,
        size: None,
        body: BodyType::SevenBit,
        smtputf8: false,
        ret: None,
        envid: None,
        auth: None,
    };
    if !parameters.is_empty() {
        mail.read_parameters(parameters)?;
    }
    Ok(mail)
}

fn rcpt(rest: &str) -> Result<RcptCommand, CommandError> {
    let (path, parameters) = split_path(Verb::Rcpt, "TO:", rest)?;
    let to = forward_path(path).map_err(CommandError::InvalidRecipient)?;
    let mut rcpt = RcptCommand { to, notify: None, orcpt: None };
    if !parameters.is_empty() {
        rcpt.read_parameters(parameters)?;
    }
    Ok(rcpt)
}

fn bdat(rest: &str) -> Result<Command, CommandError> {
    let mut words = words(rest);
    let size = words.next().and_then(decimal);
    let last = match words.next() {
        None => Some(false),
        Some(word) => word.eq_ignore_ascii_case("LAST").then_some(true),
    };
    match (size, last, words.next()) {
        (Some(size), Some(last), None) => Ok(Command::Bdat { size, last }),
        _ => Err(CommandError::InvalidArguments(Verb::Bdat)),
    }
}

fn auth(rest: &str) -> Result<Command, CommandError> {
    let (mechanism, initial) = match split_once(rest, b' ') {
        Some((mechanism, initial)) => (mechanism, Some(initial.trim_start_matches(' '))),
        None => (rest, None),
    };
    // RFC 4422 section 3.1: one to twenty letters, digits, hyphens and underscores.
    let named = (1..=20).contains(&mechanism.len())
        && mechanism.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let base64 = |text: &str| {
        let digits = text.trim_end_matches('=');
        text == "="
            || (text.len().is_multiple_of(4)
                && text.len() - digits.len() <= 2
                && digits.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/'))
    };
    if !named || !initial.is_none_or(base64) {
        return Err(CommandError::InvalidArguments(Verb::Auth));
    }
    Ok(Command::Auth { mechanism: mechanism.to_ascii_uppercase().into(), initial: initial.map(Into::into) })
}

/// Digits and nothing else: the standard parser would take a plus sign.
pub(super) fn decimal(text: &str) -> Option<u64> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}
