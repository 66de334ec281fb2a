//! Who wrote a Received field (RFC 5321 section 4.4).

/// Whether the field's `by` clause names one of `names`, in any case.
///
/// Only the clause's own word counts: `by` inside a comment, a quoted string or another word
/// says nothing about who received the message.
pub(super) fn names_us(value: &[u8], names: &[Box<str>]) -> bool {
    let mut words = Words { rest: value };
    while let Some(word) = words.next() {
        if word.eq_ignore_ascii_case(b"by") {
            let Some(host) = words.next() else { return false };
            return names.iter().any(|name| host.eq_ignore_ascii_case(name.as_bytes()));
        }
    }
    false
}

/// The words of a structured field, comments skipped. A `;` ends them: behind it stands the date.
struct Words<'a> {
    rest: &'a [u8],
}

/// A table, because each byte of each Received field asks.
static ENDS_WORD: [bool; 256] = {
    let mut table = [false; 256];
    let ends = b" \t\n\x0C\r();\"";
    let mut i = 0;
    while i < ends.len() {
        table[ends[i] as usize] = true;
        i += 1;
    }
    table
};

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            match *self.rest.first()? {
                b'(' => self.skip_comment(),
                b'"' => self.skip_quoted(),
                b';' => return None,
                byte if byte.is_ascii_whitespace() || byte == b')' => self.rest = &self.rest[1..],
                _ => {
                    let end = self.rest.iter().position(|&b| ENDS_WORD[usize::from(b)]);
                    let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
                    self.rest = rest;
                    return Some(word);
                }
            }
        }
    }
}

impl Words<'_> {
    /// Comments nest (RFC 5322 section 3.2.2). One that never ends hides the rest, as it would
    /// from any reader.
    fn skip_comment(&mut self) {
        let mut depth = 0_u32;
        let mut i = 0;
        while let Some(&byte) = self.rest.get(i) {
            i += 1;
            match byte {
                b'\\' => i += 1,
                b'(' => depth += 1,
                b')' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
        self.rest = self.rest.get(i..).unwrap_or_default();
    }

    fn skip_quoted(&mut self) {
        let mut i = 1;
        while let Some(&byte) = self.rest.get(i) {
            i += 1;
            match byte {
                b'\\' => i += 1,
                b'"' => break,
                _ => {}
            }
        }
        self.rest = self.rest.get(i..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_by_clause_counts() {
        let names: Vec<Box<str>> = vec!["edge.contoso.com".into(), "EDGE01".into()];
        for (value, ours) in [
            ("from a (1.2.3.4) by edge.contoso.com (5.6.7.8) with SMTP; Mon, 1 Jan 2026", true),
            ("from a\r\n\tBY Edge.Contoso.COM(x) with ESMTP id 1", true),
            ("by edge01", true),
            ("from edge.contoso.com by other", false),
            ("from a (by edge.contoso.com) by other", false),
            ("from a (x (y) \\) by edge.contoso.com) by other", false),
            ("from \"by edge.contoso.com\" by other", false),
            ("from a by (really) edge.contoso.com id 1", true),
            ("from a by edge.contoso.com.evil", false),
            ("from a; by edge.contoso.com", false),
            ("from a by", false),
            ("(", false),
            ("\"", false),
            ("(\\", false),
            ("))) by edge01", true),
            ("", false),
        ] {
            assert_eq!(names_us(value.as_bytes(), &names), ours, "{value}");
        }
    }
}
