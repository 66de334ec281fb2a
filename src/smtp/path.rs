//! Paths of MAIL and RCPT (RFC 5321 section 4.1.2).

use memchr::memchr2;

use super::address::{Address, AddressError, check_domain};
use super::command::ForwardPath;
use super::command_error::CommandError;
use super::verb::Verb;

/// Splits `FROM:<path> parameters`. The path comes without its angle brackets. Clients that
/// leave them out, or put a blank behind the colon, are understood, as Exchange does.
pub(super) fn split_path<'a>(
    verb: Verb,
    keyword: &str,
    rest: &'a str,
) -> Result<(Path<'a>, &'a str), CommandError> {
    let invalid = CommandError::InvalidArguments(verb);
    let (found, rest) = rest.split_at_checked(keyword.len()).ok_or(invalid)?;
    if !found.eq_ignore_ascii_case(keyword) {
        return Err(invalid);
    }
    let rest = rest.trim_start_matches(' ');
    let (path, rest) = if let Some(inner) = rest.strip_prefix('<') {
        let end = end_of(inner, b'>').ok_or(match verb {
            Verb::Rcpt => CommandError::InvalidRecipient(AddressError::Form),
            _ => CommandError::InvalidSender(AddressError::Form),
        })?;
        (Path { text: &inner[..end], bracketed: true }, &inner[end + 1..])
    } else {
        let end = end_of(rest, b' ').unwrap_or(rest.len());
        (Path { text: &rest[..end], bracketed: false }, &rest[end..])
    };
    if (!path.bracketed && path.text.is_empty()) || !(rest.is_empty() || rest.starts_with(' ')) {
        return Err(invalid);
    }
    Ok((path, rest.trim_start_matches(' ')))
}

/// A path without its angle brackets, if it had any.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path<'a> {
    text: &'a str,
    bracketed: bool,
}

/// `<>` is the null sender.
pub(super) fn reverse_path(path: Path<'_>) -> Result<Option<Address>, AddressError> {
    if path.text.is_empty() { Ok(None) } else { mailbox(path).map(Some) }
}

/// `<postmaster>` needs no domain.
pub(super) fn forward_path(path: Path<'_>) -> Result<ForwardPath, AddressError> {
    if path.text.eq_ignore_ascii_case("postmaster") {
        Ok(ForwardPath::Postmaster)
    } else {
        mailbox(path).map(ForwardPath::Mailbox)
    }
}

fn mailbox(path: Path<'_>) -> Result<Address, AddressError> {
    let text = if path.bracketed { without_route(path.text)? } else { path.text };
    Address::parse(text)
}

/// Index of the first `stop` outside a quoted string.
fn end_of(text: &str, stop: u8) -> Option<usize> {
    let first = memchr2(stop, b'"', text.as_bytes())?;
    if text.as_bytes()[first] == stop {
        return Some(first);
    }
    let (mut quoted, mut escaped) = (false, false);
    text.bytes().position(|b| {
        if escaped {
            escaped = false;
            return false;
        }
        match b {
            b'"' => quoted = !quoted,
            b'\\' => escaped = quoted,
            _ => {}
        }
        b == stop && !quoted
    })
}

/// RFC 5321 section 4.1.1.3 and appendix C: a source route is accepted, checked and ignored.
fn without_route(path: &str) -> Result<&str, AddressError> {
    let mut rest = path;
    while let Some(hop) = rest.strip_prefix('@') {
        // A colon inside an address literal does not end the route.
        let literal = if hop.starts_with('[') { hop.find(']').ok_or(AddressError::Domain)? } else { 0 };
        let end = literal + hop[literal..].find([',', ':']).ok_or(AddressError::Form)?;
        check_domain(&hop[..end])?;
        rest = &hop[end + 1..];
        if hop.as_bytes()[end] == b':' {
            return Ok(rest);
        }
        if !rest.starts_with('@') {
            return Err(AddressError::Form);
        }
    }
    Ok(rest)
}
