//! Texts that repeat, kept once: connectors, ciphers, certificate names.

use std::collections::HashMap;

/// Longest text kept, in bytes; a host name has at most 255.
const LONGEST: usize = 255;

/// Stands for a text in [`Names`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(u32);

impl Name {
    /// No text.
    pub const NONE: Self = Self(0);
    /// One of the texts for which there was no room.
    pub const OTHERS: Self = Self(1);
    /// Any text: several were summed up.
    pub const ANY: Self = Self(u32::MAX);
}

/// The texts by their [`Name`]; a bounded number of them.
#[derive(Debug)]
pub struct Names {
    ids: HashMap<Box<[u8]>, Name>,
    texts: Vec<Box<str>>,
    most: usize,
}

impl Names {
    /// Room for `most` texts; all beyond are [`Name::OTHERS`].
    pub fn new(most: usize) -> Self {
        Self { ids: HashMap::new(), texts: vec!["".into(), "(others)".into()], most }
    }

    /// The name of a text.
    pub fn name(&mut self, text: &[u8]) -> Name {
        let text = &text[..text.len().min(LONGEST)];
        if text.is_empty() {
            return Name::NONE;
        }
        if let Some(&name) = self.ids.get(text) {
            return name;
        }
        if self.texts.len() >= self.most.saturating_add(2) {
            return Name::OTHERS;
        }
        let name = Name(self.texts.len() as u32);
        self.texts.push(printable(text));
        self.ids.insert(text.into(), name);
        name
    }

    /// The text of a name; empty for [`Name::NONE`] and [`Name::ANY`].
    pub fn text(&self, name: Name) -> &str {
        self.texts.get(name.0 as usize).map_or("", |text| text)
    }
}

/// A field of a log as text that is safe to show: peers choose much of it, and Exchange writes it as
/// it came. The doubled quotes of CSV become single.
pub(super) fn printable(text: &[u8]) -> Box<str> {
    let text = &text[..text.len().min(LONGEST)];
    String::from_utf8_lossy(text)
        .replace("\"\"", "\"")
        .chars()
        .map(|c| if c.is_control() || is_invisible(c) { '?' } else { c })
        .collect::<String>()
        .into()
}

/// Characters that reorder or end a line of text without being control characters.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_one_name_and_there_is_an_end_to_them() {
        let mut names = Names::new(2);
        let a = names.name(b"a");
        assert_eq!(names.name(b"a"), a);
        assert_eq!(names.name(b""), Name::NONE);
        let b = names.name(b"b");
        assert_eq!(names.name(b"c"), Name::OTHERS);
        assert_eq!(names.name(b"a"), a);
        let texts = [a, b, Name::NONE, Name::OTHERS, Name::ANY].map(|name| names.text(name).to_owned());
        assert_eq!(texts, ["a", "b", "", "(others)", ""]);
    }

    #[test]
    fn what_a_terminal_would_obey_is_not_shown() {
        assert_eq!(&*printable(b"a\x1b[2Jb\xff\"\"c\"\""), "a?[2Jb\u{fffd}\"c\"");
        assert_eq!(&*printable("a\u{202e}b".as_bytes()), "a?b");
        assert_eq!(printable(&[b'x'; 1000]).len(), LONGEST);
    }
}
