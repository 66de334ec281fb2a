//! Time stamps of the logs, read without a calendar.

use std::fmt;
use std::time::SystemTime;

/// `2026-10-05T09:00:00.113Z` as the number 20261005090000113: cheap to read, and ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(u64);

impl Stamp {
    /// Reads `yyyy-MM-ddTHH:mm:ss`, with a fraction or without; what follows the milliseconds does
    /// not count. None when it is no time.
    pub fn parse(text: &[u8]) -> Option<Self> {
        const SEPARATORS: [(usize, u8); 5] = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
        let whole: &[u8; 19] = text.first_chunk()?;
        if SEPARATORS.iter().any(|&(at, byte)| whole[at] != byte) {
            return None;
        }
        let mut number = 0;
        for (from, digits) in [(0, 4), (5, 2), (8, 2), (11, 2), (14, 2), (17, 2)] {
            for &byte in &whole[from..from + digits] {
                number = number * 10 + digit(byte)?;
            }
        }
        let mut fraction = text[19..].strip_prefix(b".").unwrap_or_default().iter();
        for _ in 0..3 {
            let millis = fraction.as_slice().first().and_then(|&byte| digit(byte));
            if millis.is_some() {
                fraction.next();
            }
            number = number * 10 + millis.unwrap_or(0);
        }
        Some(Self(number))
    }

    /// The same of a clock's time.
    pub fn of(time: SystemTime) -> Self {
        Self::parse(crate::log::time::exchange_utc(time).as_bytes()).unwrap_or(Self(0))
    }

    /// `2026-10-05 09:00`, for people.
    pub fn minute(self) -> String {
        let mut text = self.to_string();
        text.truncate(16);
        text.replace('T', " ")
    }

    /// `2026-10-05`
    pub fn day(self) -> String {
        let mut text = self.to_string();
        text.truncate(10);
        text
    }
}

/// RFC 3339, with milliseconds.
impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |divisor: u64, modulus: u64| self.0 / divisor % modulus;
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            part(10_000_000_000_000, 10_000),
            part(100_000_000_000, 100),
            part(1_000_000_000, 100),
            part(10_000_000, 100),
            part(100_000, 100),
            part(1000, 100),
            part(1, 1000)
        )
    }
}

fn digit(byte: u8) -> Option<u64> {
    byte.is_ascii_digit().then(|| u64::from(byte - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn stamps_read_print_and_order() {
        let stamp = Stamp::parse(b"2026-10-05T09:00:00.113Z").unwrap();
        assert_eq!(stamp.to_string(), "2026-10-05T09:00:00.113Z");
        assert_eq!((stamp.minute(), stamp.day()), ("2026-10-05 09:00".into(), "2026-10-05".into()));
        assert!(stamp < Stamp::parse(b"2026-10-05T09:00:00.2Z").unwrap());
        assert_eq!(Stamp::parse(b"2026-10-05T09:00:00").unwrap().to_string(), "2026-10-05T09:00:00.000Z");
        assert_eq!(
            Stamp::parse(b"2026-10-05T09:00:00.1137654Z").unwrap().to_string(),
            "2026-10-05T09:00:00.113Z"
        );
        assert_eq!(Stamp::of(UNIX_EPOCH + Duration::from_millis(1_791_190_800_113)), stamp);
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in ["", "2026-10-05", "2026-10-05 09:00:00", "2026-1x-05T09:00:00Z", "date-time"] {
            assert_eq!(Stamp::parse(text.as_bytes()), None, "{text}");
        }
    }
}
