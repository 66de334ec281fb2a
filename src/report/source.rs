//! Which files to read, and in which order.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How deep directories are searched.
const DEEPEST: usize = 16;

/// A file's time of change may be off by a time zone after it was copied.
const SLACK: Duration = Duration::from_hours(24);

/// One text to read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// A file that was named: read whatever it is.
    Named(PathBuf),
    /// A file found in a directory: read if it begins like a protocol log.
    Found(PathBuf),
    /// Standard input.
    Stdin,
}

impl Source {
    /// What to call it in a message.
    pub fn title(&self) -> String {
        match self {
            Self::Named(path) | Self::Found(path) => path.display().to_string(),
            Self::Stdin => "standard input".to_owned(),
        }
    }
}

/// The sources behind `paths`: files, directories (searched for `*.log` and `*.gz`, oldest name
/// first), `-`. Files of directories that were not changed since `since` are left out.
///
/// # Errors
///
/// A path that does not exist or a directory that cannot be read, in one sentence.
pub fn find(paths: &[PathBuf], since: Option<SystemTime>) -> Result<Vec<Source>, String> {
    let mut sources = Vec::new();
    let mut seen = HashSet::new();
    for path in paths {
        if path == Path::new("-") {
            sources.push(Source::Stdin);
            continue;
        }
        let what = fs::metadata(path).map_err(|e| format!("{}: {e}", path.display()))?;
        if !what.is_dir() {
            if new(path, &mut seen) {
                sources.push(Source::Named(path.clone()));
            }
            continue;
        }
        let mut files = Vec::new();
        search(path, 0, &mut files)?;
        let plain: HashSet<PathBuf> = files.iter().cloned().collect();
        files.retain(|file| {
            // A packed copy beside the file itself would count everything twice.
            let copy = is(file, "gz") && plain.contains(&file.with_extension(""));
            !copy && changed_since(file, since) && new(file, &mut seen)
        });
        files.sort_by(|a, b| by_age(a, b));
        sources.extend(files.into_iter().map(Source::Found));
    }
    Ok(sources)
}

fn search(directory: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("{}: {e}", directory.display());
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        // A link to a directory may lead back here; one to a file may not.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if depth < DEEPEST {
                search(&path, depth + 1, files)?;
            }
        } else if (is(&path, "log") || is(&path, "gz")) && path.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

fn is(path: &Path, extension: &str) -> bool {
    path.extension().and_then(OsStr::to_str).is_some_and(|e| e.eq_ignore_ascii_case(extension))
}

fn new(path: &Path, seen: &mut HashSet<PathBuf>) -> bool {
    seen.insert(fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()))
}

fn changed_since(path: &Path, since: Option<SystemTime>) -> bool {
    let Some(since) = since.and_then(|since| since.checked_sub(SLACK)) else { return true };
    fs::metadata(path).and_then(|m| m.modified()).map_or(true, |changed| changed >= since)
}

/// By directory, then by name with numbers as numbers: `RECV2026100509-2` before
/// `RECV2026100509-10`.
fn by_age(a: &Path, b: &Path) -> Ordering {
    a.parent().cmp(&b.parent()).then_with(|| {
        let name =
            |path: &Path| path.file_name().map(OsStr::to_string_lossy).unwrap_or_default().into_owned();
        natural(name(a).as_bytes(), name(b).as_bytes())
    })
}

fn natural(mut left: &[u8], mut right: &[u8]) -> Ordering {
    let digits = |text: &[u8]| text.iter().take_while(|b| b.is_ascii_digit()).count();
    loop {
        let ordering = match (digits(left), digits(right)) {
            (0, _) | (_, 0) => match (left.split_first(), right.split_first()) {
                (Some((one, more)), Some((other, others))) => {
                    (left, right) = (more, others);
                    one.to_ascii_lowercase().cmp(&other.to_ascii_lowercase())
                }
                _ => return left.len().cmp(&right.len()),
            },
            (here, there) => {
                let one = without_zeros(&left[..here]);
                let other = without_zeros(&right[..there]);
                (left, right) = (&left[here..], &right[there..]);
                one.len().cmp(&other.len()).then_with(|| one.cmp(other))
            }
        };
        if ordering != Ordering::Equal {
            return ordering;
        }
    }
}

fn without_zeros(digits: &[u8]) -> &[u8] {
    &digits[digits.iter().take_while(|&&b| b == b'0').count()..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(sources: &[Source]) -> Vec<String> {
        sources.iter().map(|s| s.title().rsplit('/').next().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn a_directory_is_read_in_the_order_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        for name in [
            "SmtpReceive/RECV2026100510-1.LOG",
            "SmtpReceive/RECV2026100509-10.LOG",
            "SmtpReceive/RECV2026100509-9.log",
            "SmtpReceive/RECV2026100509-2.LOG.gz",
            "SmtpReceive/RECV2026100509-9.log.gz",
            "SmtpReceive/notes.txt",
            "SmtpSend/SEND2026100509-1.LOG",
        ] {
            write(name);
        }
        let path = directory.path().to_owned();
        let found = find(&[path.clone(), path.join("SmtpSend/SEND2026100509-1.LOG")], None).unwrap();
        assert_eq!(
            names(&found),
            [
                "RECV2026100509-2.LOG.gz",
                "RECV2026100509-9.log",
                "RECV2026100509-10.LOG",
                "RECV2026100510-1.LOG",
                "SEND2026100509-1.LOG"
            ]
        );
        let later = SystemTime::now() + Duration::from_hours(72);
        assert_eq!(find(std::slice::from_ref(&path), Some(later)).unwrap(), []);
        assert_eq!(find(&["-".into()], Some(later)).unwrap(), [Source::Stdin]);
        let error = find(&[path.join("none")], None).unwrap_err();
        assert!(error.contains("/none: No such file"), "{error}");
    }

    #[test]
    fn numbers_order_as_numbers() {
        let mut names = ["b10", "b9", "b09x", "a", "b", "", "B1", "1", "01"];
        names.sort_by(|a, b| natural(a.as_bytes(), b.as_bytes()));
        assert_eq!(names, ["", "1", "01", "a", "b", "B1", "b9", "b09x", "b10"]);
    }
}
