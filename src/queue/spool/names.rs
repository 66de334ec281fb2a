//! The names of the spool's files.

/// A segment.
pub(super) fn segment(number: u64) -> String {
    format!("{number:016x}.seg")
}

/// A segment nobody can read, kept for a person to look at.
pub(super) fn quarantined(number: u64) -> String {
    format!("{number:016x}.seg.bad")
}

pub(super) fn segment_number(name: &str) -> Option<u64> {
    hex(name.strip_suffix(".seg")?)
}

/// Also of a quarantined segment.
pub(super) fn any_segment_number(name: &str) -> Option<u64> {
    segment_number(name.strip_suffix(".bad").unwrap_or(name))
}

/// The content of a big message.
pub(super) fn big(id: u64) -> String {
    format!("{id:016x}")
}

/// The same while it is being received.
pub(super) fn staged(id: u64) -> String {
    format!("{id:016x}.tmp")
}

pub(super) fn big_id(name: &str) -> Option<u64> {
    hex(name)
}

pub(super) fn is_staged(name: &str) -> bool {
    name.strip_suffix(".tmp").and_then(hex).is_some()
}

/// Exactly what the functions above write, so that foreign files are left alone.
fn hex(digits: &str) -> Option<u64> {
    let ours = digits.len() == 16 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if ours { u64::from_str_radix(digits, 16).ok() } else { None }
}
