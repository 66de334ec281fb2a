//! Certificates that are renewed on disk: seen without a signal, and a word ahead of their end.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::store::CertificateStore;
use crate::config::{Config, TrustedRoots};

/// How long before its end a certificate is worth a word.
pub const EXPIRES_SOON: Duration = Duration::from_hours(24 * 30);

/// What tells one state of a file from another. Links are followed: programs that renew
/// certificates often replace a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

/// The files of our certificates, keys and trusted roots, and what they were when they were last
/// looked at.
#[derive(Debug)]
pub struct CertificateFiles {
    files: Vec<PathBuf>,
    /// As they are in use.
    used: Vec<Option<Stamp>>,
    /// As they were seen to have changed.
    changing: Option<Vec<Option<Stamp>>>,
}

impl CertificateFiles {
    /// The files of a configuration, as they are now.
    pub fn of(config: &Config) -> Self {
        let certificates = config.certificates.iter().flat_map(|entry| [&entry.chain, &entry.key]);
        let roots = config.tls.trusted_roots.iter().filter_map(|root| match root {
            TrustedRoots::File(file) => Some(file),
            TrustedRoots::System => None,
        });
        let files: Vec<PathBuf> = certificates.chain(roots).cloned().collect();
        let used = stamps(&files);
        Self { files, used, changing: None }
    }

    /// Whether they have changed, and not since the last look: chain and key are often written one
    /// after the other. What has been reported is not reported again.
    pub fn have_changed(&mut self) -> bool {
        let now = stamps(&self.files);
        if now == self.used {
            self.changing = None;
            return false;
        }
        if self.changing.as_ref() != Some(&now) {
            self.changing = Some(now);
            return false;
        }
        self.changing = None;
        self.used = now;
        true
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    let stamp = |file: &PathBuf| {
        let metadata = std::fs::metadata(file).ok()?;
        Some(Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    };
    files.iter().map(stamp).collect()
}

/// Warns of each certificate that is out of date or will soon be.
pub fn warn_of_expiry(certificates: &CertificateStore, now: SystemTime) {
    for identity in certificates.identities() {
        let (facts, name) = (&identity.facts, identity.name().unwrap_or("self-signed"));
        let not_after = crate::log::time::rfc3339(facts.not_after);
        match facts.not_after.duration_since(now) {
            Err(_) => tracing::warn!(certificate = name, not_after, "the certificate has expired"),
            Ok(left) if left < EXPIRES_SOON => {
                let days = left.as_secs() / 86_400;
                tracing::warn!(certificate = name, not_after, "the certificate expires in {days} days");
            }
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_once_it_has_settled() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let files: Vec<PathBuf> = ["chain.pem", "key.pem"].map(path).into();
        for file in &files {
            std::fs::write(file, "old").unwrap();
        }
        let mut watched = CertificateFiles { used: stamps(&files), files: files.clone(), changing: None };
        assert!(!watched.have_changed());
        std::fs::write(&files[0], "renewed").unwrap();
        assert!(!watched.have_changed(), "the key may be about to follow");
        std::fs::write(path("new"), "renewed").unwrap();
        std::fs::rename(path("new"), &files[1]).unwrap();
        assert!(!watched.have_changed(), "it followed");
        assert!(watched.have_changed());
        assert!(!watched.have_changed(), "once");
        std::fs::remove_file(&files[1]).unwrap();
        assert!(!watched.have_changed());
        assert!(watched.have_changed(), "gone is a change too");
    }

    #[test]
    fn what_is_taken_back_at_once_is_no_change() {
        let dir = tempfile::tempdir().unwrap();
        let (file, aside) = (dir.path().join("chain.pem"), dir.path().join("aside"));
        std::fs::write(&file, "old").unwrap();
        let mut watched = CertificateFiles {
            used: stamps(std::slice::from_ref(&file)),
            files: vec![file.clone()],
            changing: None,
        };
        std::fs::rename(&file, &aside).unwrap();
        assert!(!watched.have_changed());
        std::fs::rename(&aside, &file).unwrap();
        assert!(!watched.have_changed());
        assert!(!watched.have_changed());
    }
}
