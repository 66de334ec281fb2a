//! The `xtext` of RFC 3461 section 4, in which ENVID, ORCPT and AUTH travel.

/// Writes a text as xtext: printable ASCII but `+` and `=` as it is, every other byte as `+HH`.
pub fn encode(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_xchar(byte) {
            out.push(char::from(byte));
        } else {
            out.push('+');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    out
}

/// Reads xtext; none if it is malformed or the bytes it stands for are not UTF-8.
pub fn decode(xtext: &str) -> Option<String> {
    let mut out = Vec::with_capacity(xtext.len());
    let whole = all(xtext, |byte| {
        out.push(byte);
        true
    });
    if whole { String::from_utf8(out).ok() } else { None }
}

/// Whether a text is well-formed xtext. The hexadecimal digits are upper case only.
pub fn is_xtext(text: &str) -> bool {
    all(text, |_| true)
}

/// Whether a text is well-formed xtext and every byte it stands for is `good`.
pub(super) fn all(xtext: &str, mut good: impl FnMut(u8) -> bool) -> bool {
    let mut rest = xtext.as_bytes();
    while let [first, tail @ ..] = rest {
        let byte = if is_xchar(*first) {
            rest = tail;
            *first
        } else {
            let [b'+', high, low, tail @ ..] = rest else { return false };
            let (Some(high), Some(low)) = (hex(*high), hex(*low)) else { return false };
            rest = tail;
            high << 4 | low
        };
        if !good(byte) {
            return false;
        }
    }
    true
}

fn is_xchar(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~') && byte != b'+' && byte != b'='
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}
