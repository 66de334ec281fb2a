//! Parameters of MAIL and RCPT (RFC 5321 section 4.1.2, `esmtp-param`).

use super::ascii::{split_once, words};
use super::command::{MailCommand, RcptCommand, decimal};
use super::command_error::CommandError;
use super::params::{BodyType, Notify, Ret};
use super::verb::Verb;
use super::xtext;

/// Longest `ENVID=` (RFC 3461 section 4.4).
const MAX_ENVID: usize = 100;
/// Longest `ORCPT=` (RFC 3461 section 4.2).
const MAX_ORCPT: usize = 500;
/// Longest `AUTH=` (RFC 4954 section 5).
const MAX_AUTH: usize = 500;

impl MailCommand {
    pub(super) fn read_parameters(&mut self, text: &str) -> Result<(), CommandError> {
        let mut body = None;
        each(Verb::Mail, text, |name, value| match name {
            Name::Size => once(&mut self.size, value.and_then(decimal)),
            Name::Body => once(&mut body, value.and_then(body_type)),
            Name::SmtpUtf8 if value.is_some() => Err(Fault::Value),
            Name::SmtpUtf8 if self.smtputf8 => Err(Fault::Twice),
            Name::SmtpUtf8 => {
                self.smtputf8 = true;
                Ok(())
            }
            Name::Ret => once(&mut self.ret, value.and_then(ret)),
            Name::EnvId => once(&mut self.envid, value.filter(|v| is_envid(v)).map(Into::into)),
            Name::Auth => once(&mut self.auth, value.filter(|v| is_auth(v)).map(Into::into)),
            Name::Notify | Name::Orcpt => Err(Fault::Unknown),
        })?;
        self.body = body.unwrap_or_default();
        Ok(())
    }
}

impl RcptCommand {
    pub(super) fn read_parameters(&mut self, text: &str) -> Result<(), CommandError> {
        each(Verb::Rcpt, text, |name, value| match name {
            Name::Notify => once(&mut self.notify, value.and_then(notify)),
            Name::Orcpt => once(&mut self.orcpt, value.filter(|v| is_orcpt(v)).map(Into::into)),
            _ => Err(Fault::Unknown),
        })
    }
}

#[derive(Clone, Copy)]
enum Name {
    Size,
    Body,
    SmtpUtf8,
    Ret,
    EnvId,
    Auth,
    Notify,
    Orcpt,
}

const NAMES: [(&str, Name); 8] = [
    ("SIZE", Name::Size),
    ("BODY", Name::Body),
    ("SMTPUTF8", Name::SmtpUtf8),
    ("RET", Name::Ret),
    ("ENVID", Name::EnvId),
    ("AUTH", Name::Auth),
    ("NOTIFY", Name::Notify),
    ("ORCPT", Name::Orcpt),
];

enum Fault {
    Unknown,
    Twice,
    Value,
}

/// Calls `take` with each parameter, and turns what it finds wrong into a [`CommandError`].
fn each(
    verb: Verb,
    text: &str,
    mut take: impl FnMut(Name, Option<&str>) -> Result<(), Fault>,
) -> Result<(), CommandError> {
    for word in words(text) {
        let (keyword, value) = match split_once(word, b'=') {
            Some((keyword, value)) => (keyword, Some(value)),
            None => (word, None),
        };
        let known = NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(keyword));
        let &(spelling, name) = known.ok_or_else(|| not_known(verb, keyword))?;
        take(name, value).map_err(|fault| match fault {
            Fault::Unknown => CommandError::UnknownParameter(verb),
            Fault::Twice => CommandError::DuplicateParameter(verb),
            Fault::Value => CommandError::InvalidParameter(verb, spelling),
        })?;
    }
    Ok(())
}

/// What is wrong with a keyword that is none of ours (RFC 5321 section 4.1.2, `esmtp-keyword`).
fn not_known(verb: Verb, keyword: &str) -> CommandError {
    let well_formed = keyword.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !keyword.is_empty()
        && !keyword.starts_with('-');
    if well_formed { CommandError::UnknownParameter(verb) } else { CommandError::InvalidArguments(verb) }
}

fn once<T>(place: &mut Option<T>, value: Option<T>) -> Result<(), Fault> {
    if place.is_some() {
        return Err(Fault::Twice);
    }
    *place = Some(value.ok_or(Fault::Value)?);
    Ok(())
}

fn body_type(value: &str) -> Option<BodyType> {
    [("7BIT", BodyType::SevenBit), ("8BITMIME", BodyType::EightBitMime), ("BINARYMIME", BodyType::BinaryMime)]
        .into_iter()
        .find_map(|(name, body)| name.eq_ignore_ascii_case(value).then_some(body))
}

fn ret(value: &str) -> Option<Ret> {
    [("FULL", Ret::Full), ("HDRS", Ret::Headers)]
        .into_iter()
        .find_map(|(name, ret)| name.eq_ignore_ascii_case(value).then_some(ret))
}

/// RFC 3461 section 4.1: `NEVER` alone, or any of the others.
fn notify(value: &str) -> Option<Notify> {
    let mut notify = Notify::default();
    if value.eq_ignore_ascii_case("NEVER") {
        return Some(notify);
    }
    for word in value.split(',') {
        let place = if word.eq_ignore_ascii_case("SUCCESS") {
            &mut notify.success
        } else if word.eq_ignore_ascii_case("FAILURE") {
            &mut notify.failure
        } else if word.eq_ignore_ascii_case("DELAY") {
            &mut notify.delay
        } else {
            return None;
        };
        *place = true;
    }
    Some(notify)
}

/// RFC 3461 section 4.4: printable ASCII in xtext. It comes back in a field of a DSN, where a
/// line end hidden in it would do harm.
fn is_envid(value: &str) -> bool {
    !value.is_empty() && value.len() <= MAX_ENVID && is_printable(value)
}

/// RFC 3461 section 4.2: an address type, a semicolon, and printable ASCII in xtext. The type
/// `utf-8` may hold UTF-8 as it is (RFC 6533 section 3).
fn is_orcpt(value: &str) -> bool {
    let Some((kind, address)) = split_once(value, b';') else { return false };
    let typed = !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let utf8 = kind.eq_ignore_ascii_case("utf-8") && !address.contains(['+', '=']);
    typed && value.len() <= MAX_ORCPT && (utf8 || is_printable(address))
}

/// RFC 4954 section 5: a mailbox or `<>` in xtext. It is read and not believed.
fn is_auth(value: &str) -> bool {
    !value.is_empty() && value.len() <= MAX_AUTH && is_printable(value)
}

/// Whether a text is xtext and stands for printable ASCII and tabs.
fn is_printable(xtext: &str) -> bool {
    xtext::all(xtext, |b| matches!(b, b' '..=b'~' | b'\t'))
}
