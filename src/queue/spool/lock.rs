//! One spool, one process.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::SpoolError;

/// Held as long as the file is open; the kernel lets go of it however the process ends, so a stale
/// lock file means nothing.
pub(super) fn acquire(dir: &Path) -> Result<File, SpoolError> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(dir.join("lock"))
        .map_err(SpoolError::io("open lock file"))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            let _ = (&mut file).take(32).read_to_string(&mut pid);
            return Err(SpoolError::Locked { pid: pid.trim().parse().unwrap_or(0) });
        }
        Err(error) => return Err(SpoolError::io("lock the spool")(error.into())),
    }
    // The number is for people. A full disk must not keep the relay from draining its spool.
    let mut write = || -> std::io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    let _ = write();
    Ok(file)
}
