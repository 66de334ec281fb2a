//! Expected text with places left open, and bytes to send written as text.

use jiff::fmt::rfc2822;

/// A line that is known but for some parts: `InternalId={number}`.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    source: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Literal(String),
    Open(Open),
}

/// What may stand in an open place.
#[derive(Debug, Clone, Copy)]
enum Open {
    /// Digits, without a zero in front.
    Number,
    /// 16 upper-case hex digits, as session ids have.
    Hex,
    /// A Message-ID made by the relay, with its angle brackets.
    Id,
    /// A date as Exchange's banner has it: RFC 5322, no zero in front of the day.
    Date,
    /// A time as Exchange's logs have it.
    Utc,
    /// Anything.
    Any,
}

impl Pattern {
    /// Reads `{number}`, `{hex}`, `{id}`, `{date}`, `{utc}` and `{any}` as open places, and
    /// `{TEXT*N}` as N times the text.
    pub(crate) fn parse(source: &str) -> Result<Self, String> {
        let (mut parts, mut rest) = (Vec::new(), source);
        while let Some((literal, behind)) = rest.split_once('{') {
            let (name, behind) = behind.split_once('}').ok_or("a `{` without its `}`")?;
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            if let Some((text, times)) = name.rsplit_once('*') {
                let times: usize = times.parse().map_err(|_| format!("{times:?} is no number of times"))?;
                parts.push(Part::Literal(text.repeat(times)));
                rest = behind;
                continue;
            }
            parts.push(Part::Open(match name {
                "number" => Open::Number,
                "hex" => Open::Hex,
                "id" => Open::Id,
                "date" => Open::Date,
                "utc" => Open::Utc,
                "any" => Open::Any,
                other => return Err(format!("there is no open place called {{{other}}}")),
            }));
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Ok(Self { source: source.to_owned(), parts })
    }

    /// Whether the whole text fits.
    pub(crate) fn matches(&self, text: &str) -> bool {
        fits(&self.parts, text)
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.source)
    }
}

fn fits(parts: &[Part], text: &str) -> bool {
    match parts.split_first() {
        None => text.is_empty(),
        Some((Part::Literal(literal), rest)) => {
            text.strip_prefix(literal.as_str()).is_some_and(|text| fits(rest, text))
        }
        Some((Part::Open(open), rest)) => (0..=text.len())
            .filter(|&end| text.is_char_boundary(end))
            .any(|end| open.takes(&text[..end]) && fits(rest, &text[end..])),
    }
}

impl Open {
    fn takes(self, text: &str) -> bool {
        match self {
            Self::Number => text.parse::<u64>().is_ok_and(|n| n.to_string() == text),
            Self::Hex => {
                text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b))
            }
            Self::Id => text
                .strip_prefix('<')
                .and_then(|id| id.strip_suffix("@edge.contoso.com>"))
                .is_some_and(|id| id.len() == 36 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')),
            Self::Date => {
                let day = text.split(' ').nth(1).unwrap_or_default();
                !day.starts_with('0') && text.len() >= 30 && rfc2822::parse(text).is_ok()
            }
            Self::Utc => text.len() == 24 && text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok(),
            Self::Any => true,
        }
    }
}

/// Bytes from their written form: `\r`, `\n`, `\t`, `\0`, `\\`, `\{`, `\xNN`, and `{TEXT*N}` for
/// N times the text.
pub(crate) fn bytes(source: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let (taken, length) = match first {
            '\\' => escape(rest)?,
            '{' => repetition(rest)?,
            _ => (rest.as_bytes()[..first.len_utf8()].to_vec(), first.len_utf8()),
        };
        out.extend_from_slice(&taken);
        rest = &rest[length..];
    }
    Ok(out)
}

/// The byte of the escape at the head of `rest`, and its written length.
fn escape(rest: &str) -> Result<(Vec<u8>, usize), String> {
    let byte = match rest.as_bytes().get(1) {
        Some(b'r') => b'\r',
        Some(b'n') => b'\n',
        Some(b't') => b'\t',
        Some(b'0') => 0,
        Some(literal @ (b'\\' | b'{' | b'}')) => *literal,
        Some(b'x') => {
            let digits = rest.get(2..4).ok_or("`\\x` needs two hex digits")?;
            let byte = u8::from_str_radix(digits, 16).map_err(|_| format!("`\\x{digits}` is no byte"))?;
            return Ok((vec![byte], 4));
        }
        _ => return Err(format!("unknown escape in {rest:?}")),
    };
    Ok((vec![byte], 2))
}

/// The bytes of the `{TEXT*N}` at the head of `rest`, and its written length.
fn repetition(rest: &str) -> Result<(Vec<u8>, usize), String> {
    let end = rest.find('}').ok_or("a `{` without its `}`")?;
    let (text, times) = rest[1..end].rsplit_once('*').ok_or("`{…}` wants the form {TEXT*N}")?;
    let times: usize = times.parse().map_err(|_| format!("{times:?} is no number of times"))?;
    Ok((bytes(text)?.repeat(times), end + 1))
}
