//! Patterns of `include`: `*` and `?` within one component of a path.

use std::path::{Component, Path, PathBuf};

/// Whether the text has a wildcard in it; a plain path has to exist.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// The files a pattern stands for, sorted by path, so that the order of merged lists does not
/// depend on the file system. As in a shell, `*` does not match a leading dot.
pub(super) fn expand(dir: &Path, pattern: &str) -> Vec<PathBuf> {
    if pattern.is_empty() || pattern.contains('\0') {
        return Vec::new();
    }
    let mut found = vec![PathBuf::new()];
    for component in dir.join(pattern).components() {
        found = match component.as_os_str().to_str() {
            Some(text) if is_pattern(text) && matches!(component, Component::Normal(_)) => {
                found.iter().flat_map(|below| matching(below, text)).collect()
            }
            _ => found.into_iter().map(|below| below.join(component)).collect(),
        };
    }
    found.retain(|path| path.exists() && (!is_pattern(pattern) || path.is_file()));
    found.sort();
    found
}

fn matching(dir: &Path, pattern: &str) -> Vec<PathBuf> {
    let here = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let Ok(entries) = std::fs::read_dir(here) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .filter(|name| {
            name.starts_with('.') == pattern.starts_with('.') && matches(pattern.as_bytes(), name.as_bytes())
        })
        .map(|name| dir.join(name))
        .collect()
}

/// Whether `name` fits the pattern, in time proportional to the product of the two lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where to go on after a mismatch: behind the last star, one more byte swallowed by it.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(&c) if c == b'?' || Some(&c) == name.get(n) => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    p = after;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|&c| c == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, name) in [("*.toml", "a.toml"), ("a*b*c", "axxbyyc"), ("?.toml", "a.toml"), ("*", "x")]
        {
            assert!(matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
        for (pattern, name) in [("*.toml", "a.tom"), ("a*b", "axc"), ("?", ""), ("", "a")] {
            assert!(!matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
    }

    #[test]
    fn files_come_sorted() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.toml", "a.toml", ".c.toml", "d.txt"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let found = expand(dir.path(), "*.toml");
        assert_eq!(found, [dir.path().join("a.toml"), dir.path().join("b.toml")]);
        assert_eq!(expand(dir.path(), "d.txt"), [dir.path().join("d.txt")]);
        assert!(expand(dir.path(), "e.txt").is_empty());
    }
}
