//! Mailboxes as SMTP writes them (RFC 5321 section 4.1.2, RFC 6531 section 3.3).

use std::fmt;

use memchr::memchr;

/// Longest address taken, as in Exchange without long addresses (exchange-edge.md 1.3).
pub const MAX_ADDRESS: usize = 571;

/// `local-part@domain`, kept exactly as the client wrote it: a quoted local part keeps its
/// quotes, so that it can be forwarded.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address {
    text: Box<str>,
    at: u16,
}

/// Why a text is no mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No `@` outside quotes, or nothing on one side of it.
    #[error("an address has the form local-part@domain")]
    Form,
    /// Over [`MAX_ADDRESS`] bytes.
    #[error("the address is longer than {MAX_ADDRESS} bytes")]
    TooLong,
    /// Not a Dot-string or Quoted-string.
    #[error("the local part is not valid")]
    LocalPart,
    /// Not a domain or address literal.
    #[error("the domain is not valid")]
    Domain,
}

impl Address {
    /// Reads a mailbox without angle brackets or source route.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.len() > MAX_ADDRESS {
            return Err(AddressError::TooLong);
        }
        let at = local_part_end(text)?;
        check_domain(&text[at + 1..])?;
        Ok(Self { text: text.into(), at: at as u16 })
    }

    /// The whole address as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part before the `@`, with its quotes if it has any.
    pub fn local_part(&self) -> &str {
        &self.text[..usize::from(self.at)]
    }

    /// The part behind the `@`, in the case it was written in.
    pub fn domain(&self) -> &str {
        &self.text[usize::from(self.at) + 1..]
    }

    /// Whether both name one mailbox for certain: domains in any case are one, local parts are
    /// the next hop's business and must be equal (RFC 5321 section 2.4).
    pub fn is_same_mailbox(&self, other: &Self) -> bool {
        self.local_part() == other.local_part() && self.domain().eq_ignore_ascii_case(other.domain())
    }

    /// Whether SMTPUTF8 is not needed to send it.
    pub fn is_ascii(&self) -> bool {
        self.text.is_ascii()
    }
}

/// Index of the `@` that ends the local part.
fn local_part_end(text: &str) -> Result<usize, AddressError> {
    let bytes = text.as_bytes();
    if bytes.first() == Some(&b'"') {
        let mut i = 1;
        loop {
            match bytes.get(i) {
                // qtextSMTP is %d32-33 / %d35-91 / %d93-126; a pair may be %d32-126.
                Some(b'\\') => match bytes.get(i + 1) {
                    Some(32..=126) => i += 2,
                    _ => return Err(AddressError::LocalPart),
                },
                Some(b'"') => break,
                Some(32..=126 | 128..) => i += 1,
                _ => return Err(AddressError::LocalPart),
            }
        }
        return if bytes.get(i + 1) == Some(&b'@') && bytes.len() > i + 2 {
            Ok(i + 1)
        } else {
            Err(AddressError::Form)
        };
    }
    let at = memchr(b'@', bytes).ok_or(AddressError::Form)?;
    if at == 0 || at + 1 == text.len() {
        return Err(AddressError::Form);
    }
    // Dots stand between atoms, of which none is empty.
    let mut after_dot = true;
    for &b in &bytes[..at] {
        if is_atext(b) {
            after_dot = false;
        } else if b == b'.' && !after_dot {
            after_dot = true;
        } else {
            return Err(AddressError::LocalPart);
        }
    }
    if after_dot { Err(AddressError::LocalPart) } else { Ok(at) }
}

/// RFC 5322 section 3.2.3, with UTF-8 as RFC 6531 extends it.
pub(super) fn is_atext(b: u8) -> bool {
    ATEXT[usize::from(b)]
}

/// A table, because each byte of each address asks.
static ATEXT: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 256 {
        table[b] = b >= 128 || (b as u8).is_ascii_alphanumeric();
        b += 1;
    }
    let specials = b"!#$%&'*+-/=?^_`{|}~";
    let mut i = 0;
    while i < specials.len() {
        table[specials[i] as usize] = true;
        i += 1;
    }
    table
};

pub(super) fn check_domain(domain: &str) -> Result<(), AddressError> {
    if let Some(literal) = domain.strip_prefix('[') {
        let inner = literal.strip_suffix(']').ok_or(AddressError::Domain)?;
        let v6 = inner.get(..5).is_some_and(|tag| tag.eq_ignore_ascii_case("IPv6:"));
        let good = if v6 {
            inner[5..].parse::<std::net::Ipv6Addr>().is_ok()
        } else {
            inner.parse::<std::net::Ipv4Addr>().is_ok()
        };
        return if good { Ok(()) } else { Err(AddressError::Domain) };
    }
    let bytes = domain.as_bytes();
    if bytes.len() > 255 {
        return Err(AddressError::Domain);
    }
    // Labels of 1 to 63 bytes, with no hyphen at either end (RFC 1123 section 2.1).
    let mut start = 0;
    for (at, &b) in bytes.iter().enumerate() {
        if is_label_byte(b) {
            continue;
        }
        let good = match b {
            b'.' => is_label(&bytes[start..at]),
            b'-' => at > start,
            _ => false,
        };
        if !good {
            return Err(AddressError::Domain);
        }
        if b == b'.' {
            start = at + 1;
        }
    }
    if is_label(&bytes[start..]) { Ok(()) } else { Err(AddressError::Domain) }
}

/// What is left to check of a label whose bytes are good and whose first one is no hyphen.
fn is_label(label: &[u8]) -> bool {
    label.len() <= 63 && label.last().is_some_and(|&b| b != b'-')
}

/// A letter, a digit, an underscore, or a part of a U-label.
fn is_label_byte(b: u8) -> bool {
    LABEL[usize::from(b)]
}

static LABEL: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 256 {
        table[b] = b >= 128 || b == b'_' as usize || (b as u8).is_ascii_alphanumeric();
        b += 1;
    }
    table
};

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn good_addresses_keep_their_spelling() {
        for text in [
            "a@b",
            "Don.Hall@Contoso.com",
            "\"john doe\"@x.example",
            "\"a@b\\\"c\"@x.example",
            "a@[127.0.0.1]",
            "a@[IPv6:::1]",
            "用户@例え.jp",
            "a+b=c@x",
            "a%b@x",
            "a!b@x",
        ] {
            let a = Address::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(a.as_str(), text);
            assert_eq!(format!("{}@{}", a.local_part(), a.domain()), text);
        }
    }

    #[test]
    fn bad_addresses_are_refused() {
        for text in [
            "",
            "a",
            "@b",
            "a@",
            "a@@b",
            "a@b@c",
            ".a@b",
            "a..b@c",
            "a.@b",
            "a b@c",
            "a@b c",
            "a@-b",
            "a@b-",
            "a@b..c",
            "a@[300.1.1.1]",
            "a@[::1]",
            "\"a@b",
            "\"a\"b@c",
            "a@b.",
            "a\r@b",
            "a@b\n",
            "<a@b>",
        ] {
            assert!(Address::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(Address::parse(&format!("{}@b", "a".repeat(600))), Err(AddressError::TooLong));
    }

    /// Label by label, atom by atom.
    fn naive(text: &str) -> bool {
        let Some((local, domain)) = text.split_once('@') else { return false };
        let atom = |atom: &str| !atom.is_empty() && atom.bytes().all(is_atext);
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b >= 128)
        };
        local.split('.').all(atom) && domain.len() <= 255 && domain.split('.').all(label)
    }

    proptest! {
        #[test]
        fn agrees_with_the_naive_reader(
            pieces in prop::collection::vec(prop::sample::select(&[
                "a", "b1", ".", "-", "@", "_", " ", "é", "+", ":", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            ][..]), 0..24),
        ) {
            let text = pieces.concat();
            prop_assert_eq!(Address::parse(&text).is_ok(), naive(&text));
        }
    }
}
