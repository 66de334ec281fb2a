//! The files of one log: names, header, rotation, retention (exchange-edge.md 4.1).
//!
//! Runs on the writer's thread only, with the time handed in, so that everything here can be
//! tested without waiting.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::time::{exchange_utc, file_hour};

/// What a log is called and how its files begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Format {
    /// First letters of its file names.
    pub(super) prefix: &'static str,
    /// `#Version:`
    pub(super) version: &'static str,
    /// `#Log-type:`
    pub(super) log_type: &'static str,
    /// `#Fields:`
    pub(super) fields: &'static str,
}

/// How much a log may keep.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Bytes one file may hold.
    pub(super) file: u64,
    /// Bytes all files together may hold.
    pub(super) directory: u64,
    /// Age at which a file is deleted; zero = for ever.
    pub(super) age: Duration,
}

/// The directory of one log and the file being written.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    format: Format,
    limits: Limits,
    current: Option<Current>,
    last_retention: Option<SystemTime>,
}

#[derive(Debug)]
struct Current {
    file: File,
    name: Name,
    size: u64,
}

/// `RECV2023011116-1.LOG`: hour and instance. Orders by age.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    hour: String,
    instance: u32,
}

/// How often old files are looked for when no new one is begun.
const RETENTION_INTERVAL: Duration = Duration::from_mins(10);

impl Files {
    pub(super) fn new(directory: PathBuf, format: Format, limits: Limits) -> Self {
        Self { directory, format, limits, current: None, last_retention: None }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Creates the directory when it is missing and tries to write there.
    pub(super) fn prepare(&mut self, now: SystemTime) -> io::Result<()> {
        self.create_directory()?;
        self.retain(now);
        Ok(())
    }

    /// Writes whole lines. A file is closed when its hour is over or the next line would make it
    /// larger than allowed. After an error no part of a line stays behind, and the whole batch
    /// counts as lost even if its first lines reached a file.
    pub(super) fn write(&mut self, lines: &[u8], now: SystemTime) -> io::Result<()> {
        let result = self.write_lines(lines, now);
        if result.is_err() {
            // The next batch begins with a fresh look at the directory.
            self.current = None;
        }
        result
    }

    fn write_lines(&mut self, mut lines: &[u8], now: SystemTime) -> io::Result<()> {
        let hour = file_hour(now);
        while !lines.is_empty() {
            let fresh = self.open(&hour, now)?;
            let max_file = self.limits.file;
            let Some(current) = self.current.as_mut() else { continue };
            let room = max_file.saturating_sub(current.size);
            let mut take = fitting(lines, room);
            if take == 0 {
                if !fresh {
                    self.rotate(&hour, now)?;
                    continue;
                }
                // Not even one line fits into an empty file: it goes in nevertheless.
                take = first_line(lines);
            }
            current.append(&lines[..take])?;
            lines = &lines[take..];
        }
        if self.last_retention.is_none_or(|last| elapsed(last, now) >= RETENTION_INTERVAL) {
            self.retain(now);
        }
        Ok(())
    }

    /// Makes sure that a file of this hour is open; true when it holds nothing but its header.
    fn open(&mut self, hour: &str, now: SystemTime) -> io::Result<bool> {
        if let Some(current) = &self.current
            && current.name.hour == hour
            && current.still_there()
        {
            return Ok(current.size <= self.header_size(now));
        }
        self.current = None;
        self.create_directory()?;
        let newest = self.names()?.into_iter().filter(|(name, _)| name.hour == hour).max();
        match newest {
            // After a restart the last file of the hour is continued, unless a crash left half a
            // line at its end.
            Some((name, size)) if size < self.limits.file && self.ends_whole(&name) => {
                let file = OpenOptions::new().append(true).open(self.path(&name))?;
                self.current = Some(Current { file, name, size });
                Ok(size <= self.header_size(now))
            }
            Some((name, _)) => self.begin(Name { instance: name.instance + 1, ..name }, now).map(|()| true),
            None => self.begin(Name { hour: hour.to_owned(), instance: 1 }, now).map(|()| true),
        }
    }

    fn rotate(&mut self, hour: &str, now: SystemTime) -> io::Result<()> {
        let instance = self.current.take().map_or(1, |current| current.name.instance.saturating_add(1));
        self.begin(Name { hour: hour.to_owned(), instance }, now)
    }

    fn begin(&mut self, name: Name, now: SystemTime) -> io::Result<()> {
        // Append mode: should someone truncate the file under us, no hole appears in it.
        let file = OpenOptions::new().append(true).create_new(true).mode(0o640).open(self.path(&name))?;
        let mut current = Current { file, name, size: 0 };
        current.append(self.header(now).as_bytes())?;
        self.current = Some(current);
        self.retain(now);
        Ok(())
    }

    fn header(&self, now: SystemTime) -> String {
        let Format { version, log_type, fields, .. } = self.format;
        format!(
            "#Software: Microsoft Exchange Server\r\n#Version: {version}\r\n#Log-type: {log_type}\r\n\
             #Date: {}\r\n#Fields: {fields}\r\n",
            exchange_utc(now)
        )
    }

    /// The same for every time stamp.
    fn header_size(&self, now: SystemTime) -> u64 {
        self.header(now).len() as u64
    }

    /// Deletes files of this log that are too old, then the oldest until the directory is small
    /// enough. Files of any other name are not ours to delete; the one being written stays.
    fn retain(&mut self, now: SystemTime) {
        self.last_retention = Some(now);
        let Ok(mut files) = self.names() else { return };
        files.sort();
        let mut total: u64 = files.iter().map(|(_, size)| size).sum();
        let oldest_hour =
            now.checked_sub(self.limits.age).filter(|_| !self.limits.age.is_zero()).map(file_hour);
        for (name, size) in files {
            let in_use = self.current.as_ref().is_some_and(|current| current.name == name);
            let too_old = oldest_hour.as_ref().is_some_and(|oldest| name.hour < *oldest);
            if in_use || !(too_old || total > self.limits.directory) {
                continue;
            }
            let path = self.path(&name);
            match fs::remove_file(&path) {
                Ok(()) => total -= size,
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "an old log file cannot be deleted");
                }
            }
        }
    }

    fn create_directory(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o750).create(&self.directory)
    }

    /// All files of this log with their sizes.
    fn names(&self) -> io::Result<Vec<(Name, u64)>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().and_then(|text| self.parse(text)) else { continue };
            if let Ok(metadata) = entry.metadata()
                && metadata.is_file()
            {
                names.push((name, metadata.len()));
            }
        }
        Ok(names)
    }

    fn parse(&self, text: &str) -> Option<Name> {
        let (hour, instance) =
            text.strip_prefix(self.format.prefix)?.strip_suffix(".LOG")?.split_once('-')?;
        let good = hour.len() == 10 && hour.bytes().all(|b| b.is_ascii_digit());
        let instance: u32 = instance.parse().ok()?;
        good.then(|| Name { hour: hour.to_owned(), instance }).filter(|name| self.text(name) == text)
    }

    fn text(&self, name: &Name) -> String {
        format!("{}{}-{}.LOG", self.format.prefix, name.hour, name.instance)
    }

    fn path(&self, name: &Name) -> PathBuf {
        self.directory.join(self.text(name))
    }

    fn ends_whole(&self, name: &Name) -> bool {
        use std::os::unix::fs::FileExt;
        let mut last = [0];
        let read = File::open(self.path(name)).and_then(|file| {
            let size = file.metadata()?.len();
            if size > 0 { file.read_exact_at(&mut last, size - 1) } else { Ok(()) }
        });
        read.is_ok() && last == [b'\n']
    }
}

impl Current {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
            // A disk that fills up in the middle of a line: take the part back.
            let _ = self.file.set_len(self.size);
            return Err(error);
        }
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// False after someone deleted the file under us: lines written to it would be lost.
    fn still_there(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.nlink() > 0)
    }
}

/// Length of the whole lines at the start of `lines` that fit into `room`.
fn fitting(lines: &[u8], room: u64) -> usize {
    let room = usize::try_from(room).unwrap_or(usize::MAX).min(lines.len());
    memchr::memrchr(b'\n', &lines[..room]).map_or(0, |at| at + 1)
}

fn first_line(lines: &[u8]) -> usize {
    memchr::memchr(b'\n', lines).map_or(lines.len(), |at| at + 1)
}

fn elapsed(since: SystemTime, now: SystemTime) -> Duration {
    // A clock set back counts as due.
    now.duration_since(since).unwrap_or(Duration::MAX)
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
