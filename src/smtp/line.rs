//! Command lines out of a read buffer (RFC 5321 section 2.3.8).

use bytes::{Buf, BytesMut};
use memchr::memchr;

/// Longest command line taken, without its CRLF. RFC 5321 section 4.5.3.1.4 asks for 512 octets,
/// and each extension for some more.
pub const MAX_COMMAND_LINE: usize = 2_000;

/// Longest line taken in an authentication exchange (RFC 4954 section 4).
pub const MAX_AUTH_LINE: usize = 12_288;

/// Why no line could be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// The line is longer than allowed. It is still in the buffer: close the connection, or call
    /// [`discard_line`] until it says that the line is gone.
    #[error("the line is too long")]
    TooLong,
    /// The line ended in a bare LF, which RFC 5321 section 2.3.8 forbids. The line has been
    /// dropped.
    #[error("the line ends in a bare LF")]
    BareLf,
}

/// Takes one line out of the buffer, without its CRLF; none if no whole line is there yet.
/// `max` is the length allowed, without CRLF.
pub fn take_line(buf: &mut BytesMut, max: usize) -> Result<Option<BytesMut>, LineError> {
    let window = &buf[..buf.len().min(max.saturating_add(2))];
    let Some(lf) = memchr(b'\n', window) else {
        // At max + 1 bytes the last one may still be the CR of a line just short enough.
        let over = window.len() > max.saturating_add(usize::from(window.ends_with(b"\r")));
        return if over { Err(LineError::TooLong) } else { Ok(None) };
    };
    if lf == 0 || window[lf - 1] != b'\r' {
        if lf > max {
            return Err(LineError::TooLong);
        }
        buf.advance(lf + 1);
        return Err(LineError::BareLf);
    }
    let mut line = buf.split_to(lf + 1);
    line.truncate(lf - 1);
    Ok(Some(line))
}

/// Drops a line that was too long: everything up to its LF. False if the LF has not come yet, and
/// the rest of the line must be dropped the same way when it comes.
pub fn discard_line(buf: &mut BytesMut) -> bool {
    if let Some(lf) = memchr(b'\n', buf) {
        buf.advance(lf + 1);
        return true;
    }
    buf.clear();
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(text: &str, max: usize) -> (Result<Option<String>, LineError>, String) {
        let mut buf = BytesMut::from(text);
        let line = take_line(&mut buf, max).map(|l| l.map(|l| String::from_utf8(l.to_vec()).unwrap()));
        (line, String::from_utf8(buf.to_vec()).unwrap())
    }

    #[test]
    fn lines_end_in_crlf_only() {
        assert_eq!(take("QUIT\r\nX", 10), (Ok(Some("QUIT".into())), "X".into()));
        assert_eq!(take("\r\n", 10), (Ok(Some(String::new())), String::new()));
        assert_eq!(take("QUIT\nX", 10), (Err(LineError::BareLf), "X".into()));
        assert_eq!(take("\nX", 10), (Err(LineError::BareLf), "X".into()));
        assert_eq!(take("a\rb\r\n", 10), (Ok(Some("a\rb".into())), String::new()));
        for part in ["", "Q", "QUIT\r"] {
            assert_eq!(take(part, 10), (Ok(None), part.into()));
        }
    }

    #[test]
    fn the_limit_is_exact() {
        assert_eq!(take("1234\r\n", 4).0, Ok(Some("1234".into())));
        assert_eq!(take("1234\r", 4).0, Ok(None));
        assert_eq!(take("1234", 4).0, Ok(None));
        for long in ["12345\r\n", "12345", "12345\n", "12345\r", "1234\rX", "1234567890\r\nX"] {
            let (line, rest) = take(long, 4);
            assert_eq!(line, Err(LineError::TooLong), "{long:?}");
            assert_eq!(rest, long);
        }
        let (mut buf, max) = (BytesMut::from("\r\n"), usize::MAX);
        assert!(take_line(&mut buf, max).unwrap().is_some());
        assert_eq!(take_line(&mut BytesMut::from("a\r"), max), Ok(None));
    }

    #[test]
    fn a_long_line_is_dropped_to_its_end() {
        let mut buf = BytesMut::from("123456");
        assert!(!discard_line(&mut buf));
        buf.extend_from_slice(b"789\r\nQUIT\r\n");
        assert!(discard_line(&mut buf));
        assert_eq!(take_line(&mut buf, 4).unwrap().unwrap(), "QUIT");
    }
}
