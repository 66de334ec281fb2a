//! Delivery into Maildirs, for labs without a mailbox server (<https://cr.yp.to/proto/maildir.html>).

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::body::PIECE;
use super::{Outcome, Outgoing, OutgoingContent, words};
use crate::message::Recipient;
use crate::smtp::{Address, BodyType, Reply};

/// Longest directory name made from an address; file systems end at 255 bytes.
const MAX_NAME: usize = 200;

/// Distinguishes files of one moment.
static DELIVERIES: AtomicU64 = AtomicU64::new(0);

/// Delivers a message into the Maildir of each recipient: `template` with `%d` for the domain and
/// `%u` for the local part. Outcomes come in the order of the recipients; a positive one means
/// that the file and its directory entry are on disk.
pub async fn deliver_maildir(template: &str, message: &Outgoing, hostname: &str) -> Vec<Outcome> {
    let count = message.recipients.len();
    let (template, message, hostname) = (template.to_owned(), message.clone(), hostname.to_owned());
    let work = tokio::task::spawn_blocking(move || {
        message.recipients.iter().map(|to| deliver(&template, &message, to, &hostname)).collect()
    });
    work.await.unwrap_or_else(|_| {
        let reply = words::reply(451, (4, 3, 0), "Mailbox delivery was interrupted");
        vec![Outcome::ours(reply, None); count]
    })
}

/// The Maildir of an address. Letter case does not distinguish mailboxes, as in Exchange.
pub fn maildir_path(template: &str, address: &Address) -> Option<PathBuf> {
    let domain = safe_name(&address.domain().to_lowercase())?;
    let user = safe_name(&unquoted(address.local_part()).to_lowercase())?;
    let mut path = String::with_capacity(template.len() + domain.len() + user.len());
    let mut rest = template;
    while let Some(at) = rest.find('%') {
        path.push_str(&rest[..at]);
        let (value, width) = match rest.as_bytes().get(at + 1) {
            Some(b'd') => (domain.as_str(), 2),
            Some(b'u') => (user.as_str(), 2),
            Some(b'%') => ("%", 2),
            _ => ("%", 1),
        };
        path.push_str(value);
        rest = &rest[at + width..];
    }
    path.push_str(rest);
    Some(PathBuf::from(path))
}

/// One path component that can be nothing else: everything but harmless ASCII becomes `%XX`, and
/// so does a leading dot, so that neither `/`, `..` nor a hidden directory can be named.
fn safe_name(text: &str) -> Option<String> {
    let mut name = String::with_capacity(text.len());
    for (index, byte) in text.bytes().enumerate() {
        let harmless =
            byte.is_ascii_alphanumeric() || b"-_+=@~".contains(&byte) || (byte == b'.' && index > 0);
        if harmless {
            name.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(name, "%{byte:02X}");
        }
    }
    (!name.is_empty() && name.len() <= MAX_NAME).then_some(name)
}

/// The local part a quoted string stands for (RFC 5321 section 4.1.2).
fn unquoted(local_part: &str) -> String {
    let Some(inner) = local_part.strip_prefix('"').and_then(|l| l.strip_suffix('"')) else {
        return local_part.to_owned();
    };
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        text.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    text
}

fn deliver(template: &str, message: &Outgoing, to: &Recipient, hostname: &str) -> Outcome {
    let Some(maildir) = maildir_path(template, &to.address) else {
        return Outcome::ours(words::reply(550, (5, 1, 1), "The address makes no mailbox name"), None);
    };
    match store(&maildir, message, to, hostname) {
        Ok(()) => Outcome::Stored(words::reply(250, (2, 1, 5), "Delivered to mailbox")),
        Err(e) => Outcome::ours(refusal(&e, &maildir), None),
    }
}

/// Nothing here is the sender's fault, so everything is worth another try.
fn refusal(error: &io::Error, maildir: &Path) -> Reply {
    tracing::warn!("delivery into {} failed: {error}", maildir.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => words::own(words::DISK_FULL),
        _ => words::reply(451, (4, 3, 0), &format!("Mailbox not available: {error}")),
    }
}

fn store(maildir: &Path, message: &Outgoing, to: &Recipient, hostname: &str) -> io::Result<()> {
    make_maildir(maildir)?;
    let name = unique_name(hostname);
    let tmp = maildir.join("tmp").join(&name);
    let result = write_file(&tmp, message, to).and_then(|size| {
        let new = maildir.join("new");
        fs::rename(&tmp, new.join(format!("{name},S={size}")))?;
        File::open(new)?.sync_all()
    });
    if result.is_err() {
        // Leave no half file behind; the error that counts is the first.
        let _ = fs::remove_file(&tmp);
    }
    result
}

fn make_maildir(maildir: &Path) -> io::Result<()> {
    if maildir.join("new").is_dir() && maildir.join("tmp").is_dir() {
        return Ok(());
    }
    for part in ["cur", "new", "tmp"] {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(maildir.join(part))?;
    }
    // A mailbox that is gone after a power cut takes its mail along.
    for directory in maildir.ancestors().take(3).filter(|d| !d.as_os_str().is_empty()) {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// `seconds.MmicrosecondsPprocessQcount.host`.
fn unique_name(hostname: &str) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let host = hostname.replace('/', "\\057").replace(':', "\\072");
    let count = DELIVERIES.fetch_add(1, Ordering::Relaxed);
    format!("{}.M{}P{}Q{count}.{host}", now.as_secs(), now.subsec_micros(), std::process::id())
}

fn write_file(path: &Path, message: &Outgoing, to: &Recipient) -> io::Result<u64> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut out = LineEnds {
        out: BufWriter::with_capacity(64 * 1024, file),
        // Mailboxes hold lines as the system does, ended by LF. Binary content is left alone:
        // nobody could tell its bare LFs from converted ones.
        convert: message.body != BodyType::BinaryMime || !(message.facts.has_bare() || message.facts.nul),
        held_cr: false,
        written: 0,
    };
    let from = message.from.as_ref().map_or("", Address::as_str);
    out.feed(format!("Return-Path: <{from}>\r\nDelivered-To: {}\r\n", to.address).as_bytes())?;
    match &message.content {
        OutgoingContent::Memory(pieces) => pieces.iter().try_for_each(|piece| out.feed(piece))?,
        OutgoingContent::Stored(stored) => {
            let mut reader = stored.open_reader().map_err(io::Error::other)?;
            while let Some(piece) = reader.next_chunk(PIECE).map_err(io::Error::other)? {
                out.feed(&piece)?;
            }
        }
    }
    let size = out.finish()?;
    Ok(size)
}

/// Writes a file, turning CRLF into LF if it is to.
struct LineEnds {
    out: BufWriter<File>,
    convert: bool,
    /// The last byte was a CR that may yet turn out to belong to an LF.
    held_cr: bool,
    written: u64,
}

impl LineEnds {
    fn feed(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if !self.convert {
            return self.put(bytes);
        }
        if self.held_cr && !bytes.is_empty() {
            self.held_cr = false;
            if bytes[0] != b'\n' {
                self.put(b"\r")?;
            }
        }
        while let Some(cr) = memchr::memchr(b'\r', bytes) {
            self.put(&bytes[..cr])?;
            match bytes.get(cr + 1) {
                None => {
                    self.held_cr = true;
                    return Ok(());
                }
                Some(b'\n') => {}
                Some(_) => self.put(b"\r")?,
            }
            bytes = &bytes[cr + 1..];
        }
        self.put(bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// On disk, or not at all.
    fn finish(mut self) -> io::Result<u64> {
        if self.held_cr {
            self.put(b"\r")?;
        }
        self.out.flush()?;
        self.out.get_ref().sync_all()?;
        Ok(self.written)
    }
}

#[cfg(test)]
#[path = "maildir_tests.rs"]
mod tests;
