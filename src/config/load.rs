//! From files to a [`Config`]: reads the file and what it includes, then the tables, then checks.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::check;
use super::glob;
use super::model::Config;
use super::problem::{Inspection, Loaded, Problems};
use super::read;
use super::report::{Pos, Report};
use super::schema;
use super::table::{Table, reason};
use super::value::quoted;

/// More than any configuration needs; a device file named by accident must not fill the memory.
const LARGEST_FILE: u64 = 16 << 20;

/// Files one configuration may consist of.
const MOST_FILES: usize = 1000;

impl Config {
    /// Reads, resolves and checks the configuration in `path`. On failure every problem is named,
    /// not just the first.
    pub fn load(path: &Path) -> Result<Loaded, Problems> {
        Self::inspect(path).into()
    }

    /// The same for a text that is in no file, as in tests and the lab. Relative paths are
    /// relative to `base_dir`; problems name the file `<configuration>`.
    pub fn from_toml(text: &str, base_dir: &Path) -> Result<Loaded, Problems> {
        let report = Report::default();
        let mut files = Files { report: &report, texts: Vec::new(), seen: BTreeSet::new(), whole: true };
        files.parse(PathBuf::from("<configuration>"), text.to_owned(), base_dir);
        let config = files.into_config(PathBuf::new());
        inspection(report, config).into()
    }

    /// Like [`Config::load`], but with the warnings even where there are errors.
    pub fn inspect(path: &Path) -> Inspection {
        let report = Report::default();
        let mut files = Files { report: &report, texts: Vec::new(), seen: BTreeSet::new(), whole: true };
        files.read(path, None);
        let config = files.into_config(path.to_owned());
        inspection(report, config)
    }
}

fn inspection(report: Report, config: Option<Config>) -> Inspection {
    let (errors, warnings) = report.finish();
    Inspection { config: config.filter(|_| errors.is_empty()), errors, warnings }
}

impl From<Inspection> for Result<Loaded, Problems> {
    fn from(inspection: Inspection) -> Self {
        match inspection.config {
            Some(config) => Ok(Loaded { config, warnings: inspection.warnings }),
            None => Err(Problems(inspection.errors)),
        }
    }
}

/// A file that is TOML, as text.
struct Text {
    content: String,
    start: Pos,
    dir: PathBuf,
}

impl Text {
    fn document(&self) -> Document<'_> {
        let (table, _) = DeTable::parse_recoverable(&self.content);
        Document { table: table.into_inner(), start: self.start, dir: &self.dir }
    }
}

/// The same, parsed.
pub(super) struct Document<'a> {
    /// Its tables.
    pub(super) table: DeTable<'a>,
    /// Its start.
    pub(super) start: Pos,
    /// Its directory: what its relative paths are relative to.
    pub(super) dir: &'a Path,
}

/// The files of a configuration, being gathered.
struct Files<'a> {
    report: &'a Report,
    texts: Vec<Text>,
    seen: BTreeSet<PathBuf>,
    /// Whether each could be read. Where one could not, what the others lack may stand in it, and
    /// to complain about that would hide the one problem there is.
    whole: bool,
}

impl Files<'_> {
    /// Reads one file and what it includes. `from` is the place of the `include`, if any.
    fn read(&mut self, path: &Path, from: Option<Pos>) {
        let fail = |files: &mut Self, message: String| {
            files.whole = false;
            let at = from.unwrap_or_else(|| {
                let file = files.report.add_source(path.to_owned(), String::new());
                Pos { file, offset: 0 }
            });
            files.report.error(at, message);
        };
        // A file is read once: a pattern may match the file it stands in, and two may overlap.
        if !self.seen.insert(std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())) {
            return;
        }
        if self.seen.len() > MOST_FILES {
            fail(self, format!("a configuration may consist of at most {MOST_FILES} files"));
            return;
        }
        let mut bytes = Vec::new();
        let read = std::fs::File::open(path).and_then(|f| f.take(LARGEST_FILE + 1).read_to_end(&mut bytes));
        if let Err(e) = read {
            fail(self, format!("{} cannot be read: {}", path.display(), reason(&e)));
            return;
        }
        if bytes.len() as u64 > LARGEST_FILE {
            fail(self, format!("{} is larger than {} MB", path.display(), LARGEST_FILE >> 20));
            return;
        }
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        match String::from_utf8(bytes) {
            Ok(text) => self.parse(path.to_owned(), text, dir),
            Err(e) => {
                let offset = e.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(e.as_bytes()).into_owned();
                let file = self.report.add_source(path.to_owned(), text);
                self.whole = false;
                self.report.error(Pos { file, offset }, "the file is not UTF-8 from here on");
            }
        }
    }

    fn parse(&mut self, path: PathBuf, text: String, dir: &Path) {
        let start = Pos { file: self.report.add_source(path, text.clone()), offset: 0 };
        let (table, errors) = DeTable::parse_recoverable(&text);
        for error in &errors {
            let offset = error.span().map_or(0, |span| span.start);
            self.whole = false;
            self.report
                .error(Pos { offset, ..start }, format!("not TOML: {}", error.message().replace('\n', ", ")));
        }
        if !errors.is_empty() {
            return;
        }
        // On the side: the reader proper notes what is wrong with the keys of the top, once.
        let quiet = Report::default();
        let included = included(&Table::open(&quiet, dir, &schema::TOP, start, table.get_ref()));
        self.texts.push(Text { content: text, start, dir: dir.to_owned() });
        for (pattern, at) in included {
            let paths = glob::expand(dir, &pattern);
            if paths.is_empty() && !glob::is_pattern(&pattern) {
                self.whole = false;
                self.report.error(at, format!("`include`: {} does not exist", quoted(&pattern)));
            }
            for path in paths {
                self.read(&path, Some(at));
            }
        }
    }

    fn into_config(self, path: PathBuf) -> Option<Config> {
        if !self.whole {
            return None;
        }
        let documents: Vec<Document<'_>> = self.texts.iter().map(Text::document).collect();
        let mut draft = read::read(self.report, &documents)?;
        check::check(self.report, &mut draft);
        Some(draft.into_config(path))
    }
}

/// The patterns of `include`, each with its place.
fn included(top: &Table<'_>) -> Vec<(String, Pos)> {
    let patterns = top.list("include", "a list of paths", |text| Ok(text.to_owned())).unwrap_or_default();
    patterns.into_iter().enumerate().map(|(i, pattern)| (pattern, top.at_element("include", i))).collect()
}
