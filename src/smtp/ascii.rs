//! Plain questions about text, without what `str` does for characters beyond ASCII.

use memchr::memchr;

/// Bytes looked at together: a vector register of every processor we run on.
const WIDTH: usize = 16;

/// Whether there is nothing but printable ASCII, from blank to tilde.
pub(crate) fn is_printable(text: &[u8]) -> bool {
    !any(text, |b| b.wrapping_sub(b' ') > b'~' - b' ')
}

/// Whether `odd` holds for any byte.
///
/// It is asked of all of them in a longer text, without leaving early: so the compiler makes vector
/// instructions of it, and the bytes behind the last whole vector are covered by one that overlaps
/// with it.
#[inline]
pub(crate) fn any(text: &[u8], odd: impl Fn(u8) -> bool) -> bool {
    let Some(last) = text.last_chunk::<WIDTH>() else {
        return text.iter().any(|&b| odd(b));
    };
    let mut found = [false; WIDTH];
    for chunk in text.as_chunks::<WIDTH>().0.iter().chain([last]) {
        for (found, &b) in found.iter_mut().zip(chunk) {
            *found |= odd(b);
        }
    }
    found.iter().fold(false, |any, &found| any | found)
}

/// The words of a text, which blanks stand between.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    words_between(text, |b| b == b' ')
}

/// The words of a text, which bytes stand between that are ASCII and fulfil `separates`.
pub(super) fn words_between(text: &str, separates: impl Fn(u8) -> bool) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = rest.bytes().position(|b| !separates(b))?;
        let length = rest[start..].bytes().position(&separates).unwrap_or(rest.len() - start);
        let (word, tail) = rest[start..].split_at(length);
        rest = tail;
        Some(word)
    })
}

/// What stands before and behind the first `separator`, an ASCII character.
pub(super) fn split_once(text: &str, separator: u8) -> Option<(&str, &str)> {
    debug_assert!(separator.is_ascii());
    let at = memchr(separator, text.as_bytes())?;
    Some((&text[..at], &text[at + 1..]))
}

/// The parts of a text that the ASCII character `separator` stands between.
pub(super) fn split(text: &str, separator: u8) -> impl Iterator<Item = &str> + Clone {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (part, tail) =
            split_once(text, separator).map_or((text, None), |(part, tail)| (part, Some(tail)));
        rest = tail;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_and_halves() {
        for text in ["", " ", "a", "  a b  é ", "é=b=c", "=", "a="] {
            let naive: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
            assert_eq!(words(text).collect::<Vec<_>>(), naive);
            assert_eq!(split_once(text, b'='), text.split_once('='));
            assert!(split(text, b'=').eq(text.split('=')));
        }
    }

    proptest! {
        #[test]
        fn every_byte_is_looked_at(length in 0usize..70, at in 0usize..70, odd: u8) {
            let mut text = vec![b'x'; length];
            prop_assert!(is_printable(&text));
            if let Some(b) = text.get_mut(at) {
                *b = odd;
                prop_assert_eq!(is_printable(&text), matches!(odd, b' '..=b'~'));
            }
        }
    }
}
