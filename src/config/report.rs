//! Collects problems while a configuration is read, and turns byte offsets into lines and columns.
//!
//! Readers never stop at the first mistake: they note it, take the default and go on, so that one
//! run of `check` names everything there is to correct.

use std::cell::RefCell;
use std::path::PathBuf;

use super::problem::Problem;

/// A place in one of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pos {
    /// Index of the file, in the order of reading: the main file is 0.
    pub(super) file: usize,
    /// Byte offset in its text.
    pub(super) offset: usize,
}

/// One file's text with its line starts.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    text: String,
    lines: Vec<usize>,
}

impl Source {
    pub(super) fn new(path: PathBuf, text: String) -> Self {
        let lines =
            std::iter::once(0).chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|i| i + 1)).collect();
        Self { path, text, lines }
    }

    /// Line and column of a byte offset, both from 1; an offset past the end is the end.
    fn position(&self, offset: usize) -> (usize, usize) {
        let offset = offset.min(self.text.len());
        let line = self.lines.partition_point(|&start| start <= offset).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or(0);
        // Characters, as editors count; a span never splits one, but a count must not depend on it.
        let column = self.text.as_bytes().get(start..offset).unwrap_or_default();
        (line, 1 + column.iter().filter(|&&b| b & 0xC0 != 0x80).count())
    }
}

/// The files read so far and what was found in them.
#[derive(Debug, Default)]
pub(super) struct Report {
    sources: RefCell<Vec<Source>>,
    errors: RefCell<Vec<(Pos, String)>>,
    warnings: RefCell<Vec<(Pos, String)>>,
}

impl Report {
    /// Adds a file; its index is what a [`Pos`] names.
    pub(super) fn add_source(&self, path: PathBuf, text: String) -> usize {
        let mut sources = self.sources.borrow_mut();
        sources.push(Source::new(path, text));
        sources.len() - 1
    }

    /// Notes what keeps the configuration from running.
    pub(super) fn error(&self, at: Pos, message: impl Into<String>) {
        self.errors.borrow_mut().push((at, message.into()));
    }

    /// Notes what its author should look at.
    pub(super) fn warn(&self, at: Pos, message: impl Into<String>) {
        self.warnings.borrow_mut().push((at, message.into()));
    }

    /// `line 12`, or `conf.d/a.toml:12` when that is another file than `from`'s: for messages
    /// that point at a second place.
    pub(super) fn place(&self, at: Pos, from: Pos) -> String {
        let sources = self.sources.borrow();
        let Some(source) = sources.get(at.file) else { return String::new() };
        let line = source.position(at.offset).0;
        if at.file == from.file {
            format!("line {line}")
        } else {
            format!("{}:{line}", source.path.display())
        }
    }

    /// Everything noted, sorted by place: errors, then warnings.
    pub(super) fn finish(self) -> (Vec<Problem>, Vec<Problem>) {
        let sources = self.sources.into_inner();
        let resolve = |mut notes: Vec<(Pos, String)>| {
            // Stable, so that problems at one place keep the order in which they were found.
            notes.sort_by_key(|note| note.0);
            notes.dedup();
            notes
                .into_iter()
                .filter_map(|(at, message)| {
                    let source = sources.get(at.file)?;
                    let (line, column) = source.position(at.offset);
                    Some(Problem { file: source.path.clone(), line, column, message })
                })
                .collect()
        };
        (resolve(self.errors.into_inner()), resolve(self.warnings.into_inner()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let source = Source::new(PathBuf::new(), "a = \"ü\" # x\nb\n".into());
        assert_eq!(source.position(0), (1, 1));
        assert_eq!(source.position(8), (1, 8));
        assert_eq!(source.position(13), (2, 1));
        assert_eq!(source.position(15), (3, 1));
        assert_eq!(source.position(99), (3, 1));
    }
}
