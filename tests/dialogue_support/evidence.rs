//! What a relay leaves behind: delivered messages and its protocol log.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::client::PATIENCE;
use crate::pattern::Pattern;

/// Looks until `found` says yes. A no comes with its reason, of which the last is reported.
pub(crate) fn eventually(mut found: impl FnMut() -> Result<(), String>) -> Result<(), String> {
    let end = Instant::now() + PATIENCE;
    loop {
        match found() {
            Ok(()) => return Ok(()),
            Err(why) if Instant::now() >= end => return Err(why),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// The messages in the Maildir of an address, be it a connector's or a cloud mailbox.
pub(crate) fn messages(dir: &Path, address: &str) -> Vec<Vec<u8>> {
    let (user, domain) = address.split_once('@').unwrap_or((address, ""));
    let maildirs = ["mail", "spool/eop"].map(|root| dir.join(root).join(domain).join(user).join("new"));
    maildirs.iter().flat_map(|maildir| files(maildir)).filter_map(|path| std::fs::read(path).ok()).collect()
}

/// The lines of a message's header, unfolded. In a Maildir lines end in LF, those of a binary
/// message in CRLF.
pub(crate) fn header_lines(message: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(message).replace("\r\n", "\n");
    let text = text.replace("\n ", " ").replace("\n\t", "\t");
    text.split('\n').take_while(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// What stands behind a message's first empty line.
pub(crate) fn body(message: &[u8]) -> &[u8] {
    let behind = |end: &[u8]| message.windows(end.len()).position(|w| w == end).map(|at| at + end.len());
    let start = [behind(b"\n\n"), behind(b"\r\n\r\n")].into_iter().flatten().min();
    start.map_or(b"", |at| &message[at..])
}

/// The lines of the receive log. What no two runs have alike is masked once its form was
/// checked: times are `TIME`, sessions `S1`, `S2` in order of appearance, ports `P`.
pub(crate) fn receive_log(dir: &Path) -> Result<Vec<String>, String> {
    let time = Pattern::parse("{utc}")?;
    let session = Pattern::parse("{hex}")?;
    let mut sessions: Vec<String> = Vec::new();
    let mut lines = Vec::new();
    for path in files(&dir.join("log/ProtocolLog/SmtpReceive")) {
        let text = std::fs::read_to_string(&path).map_err(|e| e.to_string())?;
        for line in text.split_inclusive("\r\n").filter(|l| !l.starts_with('#')) {
            // A line still being written is looked at the next time.
            let Some(line) = line.strip_suffix("\r\n") else { continue };
            let fields: Vec<&str> = line.splitn(7, ',').collect();
            let [at, connector, id, number, local, remote, rest] = fields[..] else {
                return Err(format!("a log line with too few fields: {line}"));
            };
            if !time.matches(at) || !session.matches(id) {
                return Err(format!("time or session id of this log line are malformed: {line}"));
            }
            let known = sessions.iter().position(|s| s == id).unwrap_or_else(|| {
                sessions.push(id.to_owned());
                sessions.len() - 1
            });
            let (local, remote) = (without_port(local), without_port(remote));
            lines.push(format!("TIME,{connector},S{},{number},{local},{remote},{rest}", known + 1));
        }
    }
    Ok(lines)
}

fn without_port(endpoint: &str) -> String {
    match endpoint.rsplit_once(':') {
        Some((ip, port)) if port.parse::<u16>().is_ok() => format!("{ip}:P"),
        _ => endpoint.to_owned(),
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<_> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    paths.sort();
    paths
}
