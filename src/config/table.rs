//! One TOML table being read: typed access to its keys, each with its place.
//!
//! A key with a wrong value is noted once and counts as *broken*: the reader goes on with the
//! default, and checks that would only repeat the consequence leave it alone.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::{Pos, Report};
use super::schema::{Section, has_no_effect_yet};
use super::suggest;
use super::value::quoted;

/// A value with its place.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    pub(super) at: Pos,
    pub(super) value: &'a DeValue<'a>,
}

impl<'a> Value<'a> {
    pub(super) fn new(file: usize, value: &'a Spanned<DeValue<'a>>) -> Self {
        Self { at: Pos { file, offset: value.span().start }, value: value.get_ref() }
    }
}

/// A table and what its reader has learnt about it.
pub(super) struct Table<'a> {
    pub(super) report: &'a Report,
    pub(super) section: &'static Section,
    /// Where it starts: for what is missing in it.
    pub(super) header: Pos,
    content: &'a DeTable<'a>,
    /// Directory that relative paths are relative to.
    dir: &'a std::path::Path,
    broken: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Table<'a> {
    /// Takes a table in hand; unknown keys and keys without effect are noted at once.
    pub(super) fn open(
        report: &'a Report,
        dir: &'a std::path::Path,
        section: &'static Section,
        header: Pos,
        table: &'a DeTable<'a>,
    ) -> Self {
        for key in table.keys() {
            let at = Pos { file: header.file, offset: key.span().start };
            if !section.keys.contains(&&**key.get_ref()) {
                report.error(at, suggest::unknown_key(section, key.get_ref()));
            } else if has_no_effect_yet(section.title, key.get_ref()) {
                report.warn(at, format!("`{}` has no effect yet", key.get_ref()));
            }
        }
        Self { report, section, header, content: table, dir, broken: RefCell::default() }
    }

    /// A table below this one, by its place and value.
    pub(super) fn open_below(&self, section: &'static Section, at: Pos, table: &'a DeTable<'a>) -> Self {
        Self::open(self.report, self.dir, section, at, table)
    }

    /// The raw value of a key.
    pub(super) fn get(&self, key: &'static str) -> Option<Value<'a>> {
        debug_assert!(self.section.keys.contains(&key), "`{key}` is missing from the schema");
        self.content.get(key).map(|value| Value::new(self.header.file, value))
    }

    /// Whether the file sets the key, rightly or wrongly.
    pub(super) fn is_set(&self, key: &'static str) -> bool {
        self.get(key).is_some()
    }

    /// Whether the key's value was refused, so that what stands in the model is only the default.
    pub(super) fn is_broken(&self, key: &'static str) -> bool {
        self.broken.borrow().contains(key)
    }

    /// The key's value in the file, or the table's header where it is not set.
    pub(super) fn at(&self, key: &'static str) -> Pos {
        self.get(key).map_or(self.header, |v| v.at)
    }

    /// The place of a list's element; of the list where it has no such element.
    pub(super) fn at_element(&self, key: &'static str, index: usize) -> Pos {
        match self.get(key).map(|v| v.value) {
            Some(DeValue::Array(items)) => {
                items.get(index).map_or(self.at(key), |v| Value::new(self.header.file, v).at)
            }
            _ => self.at(key),
        }
    }

    /// Notes a problem with a key's value, which thereby is broken.
    pub(super) fn refuse(&self, key: &'static str, at: Pos, message: impl Into<String>) {
        self.broken.borrow_mut().insert(key);
        self.report.error(at, message);
    }

    /// Notes that a required key is not there.
    pub(super) fn missing(&self, key: &'static str, why: &str) {
        self.refuse(key, self.header, format!("`{key}` is missing: {why}"));
    }

    fn wrong_type(&self, key: &'static str, found: Value<'_>, expected: &str) {
        self.refuse(key, found.at, format!("`{key}` expects {expected}, not {}", described(found.value)));
    }

    /// A switch.
    pub(super) fn flag(&self, key: &'static str, default: bool) -> bool {
        match self.get(key) {
            None => default,
            Some(Value { value: DeValue::Boolean(b), .. }) => *b,
            Some(other) => {
                self.wrong_type(key, other, "true or false");
                default
            }
        }
    }

    /// A whole number within bounds; where `unlimited` has a meaning, also that word.
    pub(super) fn number(
        &self,
        key: &'static str,
        default: u64,
        bounds: (u64, u64),
        unlimited: Option<u64>,
    ) -> u64 {
        let Some(found) = self.get(key) else { return default };
        let (low, high) = bounds;
        let or = if unlimited.is_some() { " or \"unlimited\"" } else { "" };
        match (found.value, unlimited) {
            (DeValue::Integer(n), _) => {
                let value = u64::from_str_radix(n.as_str(), n.radix()).ok();
                if let Some(value) = value.filter(|v| (low..=high).contains(v)) {
                    return value;
                }
                self.refuse(
                    key,
                    found.at,
                    format!("`{key}` must be a whole number from {low} to {high}{or}"),
                );
            }
            (DeValue::String(s), Some(unlimited)) if s.eq_ignore_ascii_case("unlimited") => return unlimited,
            _ => self.wrong_type(key, found, &format!("a whole number from {low} to {high}{or}")),
        }
        default
    }

    /// A string of a form of its own.
    pub(super) fn parsed<T>(
        &self,
        key: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let found = self.get(key)?;
        let DeValue::String(text) = found.value else {
            self.wrong_type(key, found, expected);
            return None;
        };
        parse(text).map_err(|problem| self.refuse(key, found.at, format!("`{key}`: {problem}"))).ok()
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, default: T, words: &[(&'static str, T)]) -> T {
        let names: Vec<&'static str> = words.iter().map(|(name, _)| *name).collect();
        let listed = one_of(&names);
        let Some(found) = self.get(key) else { return default };
        let DeValue::String(text) = found.value else {
            self.wrong_type(key, found, &listed);
            return default;
        };
        if let Some((_, value)) = words.iter().find(|(name, _)| name == text) {
            return *value;
        }
        let near = suggest::nearest_word(text, &names)
            .map(|n| format!("; did you mean \"{n}\"?"))
            .unwrap_or_default();
        self.refuse(key, found.at, format!("`{key}` must be {listed}, not {}{near}", quoted(text)));
        default
    }

    /// A list of strings of a form of their own. Elements that are wrong are noted and left out;
    /// the list then is broken, so that an index into it means nothing to later checks.
    pub(super) fn list<T>(
        &self,
        key: &'static str,
        expected: &str,
        mut parse: impl FnMut(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let found = self.get(key)?;
        let DeValue::Array(items) = found.value else {
            self.wrong_type(key, found, expected);
            return None;
        };
        let mut list = Vec::with_capacity(items.len().min(1024));
        for item in items {
            let item = Value::new(self.header.file, item);
            match item.value {
                DeValue::String(text) => match parse(text) {
                    Ok(value) => list.push(value),
                    Err(problem) => self.refuse(key, item.at, format!("`{key}`: {problem}")),
                },
                _ => self.wrong_type(key, item, expected),
            }
        }
        Some(list)
    }

    /// A path, relative to the directory of the file that holds it.
    pub(super) fn path(&self, key: &'static str) -> Option<PathBuf> {
        self.parsed(key, "a path", |text| self.resolve(text))
    }

    /// A path out of some text of this table.
    pub(super) fn resolve(&self, text: &str) -> Result<PathBuf, String> {
        if text.is_empty() || text.contains('\0') {
            return Err(format!("{} is no path", quoted(text)));
        }
        Ok(self.dir.join(text))
    }

    /// A path to a file that has to be there.
    pub(super) fn existing_file(&self, key: &'static str) -> Option<PathBuf> {
        let path = self.path(key)?;
        match std::fs::metadata(&path) {
            Ok(facts) if facts.is_dir() => {
                self.refuse(key, self.at(key), format!("`{key}`: {} is a directory", path.display()));
            }
            Ok(_) => {}
            Err(e) => self.refuse(key, self.at(key), format!("`{key}`: {}: {}", path.display(), reason(&e))),
        }
        Some(path)
    }

    /// The tables of a list of tables (`[[eop.faults]]`), each opened.
    pub(super) fn tables(&self, key: &'static str, section: &'static Section) -> Vec<Self> {
        let Some(found) = self.get(key) else { return Vec::new() };
        let DeValue::Array(items) = found.value else {
            self.wrong_type(key, found, &format!("a list of tables, {}", section.title));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in items {
            let item = Value::new(self.header.file, item);
            match item.value {
                DeValue::Table(table) => tables.push(self.open_below(section, item.at, table)),
                _ => self.wrong_type(key, item, &format!("a list of tables, {}", section.title)),
            }
        }
        tables
    }

    /// A table that is the value of a key (`auth = { … }`), opened.
    pub(super) fn table(&self, key: &'static str, section: &'static Section) -> Option<Self> {
        let found = self.get(key)?;
        let DeValue::Table(table) = found.value else {
            self.wrong_type(key, found, &format!("a table with {}", all_of(section.keys)));
            return None;
        };
        Some(self.open_below(section, found.at, table))
    }
}

/// An I/O error without the number that `std` appends.
pub(super) fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// A TOML type with its article.
pub(super) fn described(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(true) => "true",
        DeValue::Boolean(false) => "false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// `"a", "b" or "c"`.
fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| format!("\"{w}\"")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

fn all_of(keys: &[&str]) -> String {
    keys.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ")
}
