//! A decoder for message text that is too simple to be wrong: it sees everything at once, cuts it
//! into lines, and looks at each. The fast one is held against it, here and when fuzzing.

/// No longest line is told apart from this.
const TEXT_LINE: usize = 998;

/// What decoding should give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Bytes used, with the end of data.
    pub(crate) used: usize,
    pub(crate) text: Vec<u8>,
    pub(crate) bare_cr: u64,
    pub(crate) bare_lf: u64,
    pub(crate) eight_bit: bool,
    pub(crate) nul: bool,
    pub(crate) longest_line: usize,
    pub(crate) ends_with_crlf: bool,
}

/// DATA: none if the end of data is not there.
pub(crate) fn decode_data(wire: &[u8], normalize: bool) -> Option<Expected> {
    let mut lines = Vec::new();
    let mut used = 0;
    for line in split_crlf(wire) {
        // Only lines that are ended count.
        let line = line.strip_suffix(b"\r\n")?;
        used += line.len() + 2;
        if line == b"." {
            let mut expected = decode(&lines, normalize);
            expected.used = used;
            return Some(expected);
        }
        lines.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        lines.extend_from_slice(b"\r\n");
    }
    None
}

/// BDAT, or DATA after its dots were dealt with.
pub(crate) fn decode(content: &[u8], normalize: bool) -> Expected {
    let (mut text, mut bare_cr, mut bare_lf) = (Vec::new(), 0, 0);
    for line in split_crlf(content) {
        let (inner, end) = line.strip_suffix(b"\r\n").map_or((line, &b""[..]), |l| (l, b"\r\n"));
        for &byte in inner {
            bare_cr += u64::from(byte == b'\r');
            bare_lf += u64::from(byte == b'\n');
            if normalize && (byte == b'\r' || byte == b'\n') {
                text.extend_from_slice(b"\r\n");
            } else {
                text.push(byte);
            }
        }
        text.extend_from_slice(end);
    }
    Expected {
        used: content.len(),
        bare_cr,
        bare_lf,
        eight_bit: content.iter().any(|&b| b > 127),
        nul: content.contains(&0),
        longest_line: split_crlf(&text)
            .iter()
            .map(|line| line.strip_suffix(b"\r\n").unwrap_or(line).len())
            .chain([TEXT_LINE])
            .max()
            .unwrap_or_default(),
        ends_with_crlf: text.ends_with(b"\r\n"),
        text,
    }
}

/// Cuts behind each CRLF; the last piece may lack it.
fn split_crlf(text: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut start = 0;
    for i in 1..text.len() {
        if text[i] == b'\n' && text[i - 1] == b'\r' {
            lines.push(&text[start..=i]);
            start = i + 1;
        }
    }
    if start < text.len() {
        lines.push(&text[start..]);
    }
    lines
}
