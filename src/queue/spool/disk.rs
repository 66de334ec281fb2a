//! The seam between the spool and the file system, so that tests can put a disk under it that
//! loses and tears writes, fails to sync, or is full.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, IoSlice},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{fs::FallocateFlags, io::Errno};

/// The two directories of a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Area {
    /// Segments.
    Log,
    /// One file for each big message.
    Big,
}

impl Area {
    fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Big => "big",
        }
    }
}

/// Directories and names. A name is durable only after `sync_dir`.
pub(super) trait Disk: Send + Sync {
    fn list(&self, area: Area) -> io::Result<Vec<String>>;
    /// A new empty file; whatever had the name is emptied.
    fn create(&self, area: Area, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    fn open(&self, area: Area, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    fn remove(&self, area: Area, name: &str) -> io::Result<()>;
    fn rename(&self, area: Area, from: &str, to: &str) -> io::Result<()>;
    fn sync_dir(&self, area: Area) -> io::Result<()>;
}

/// One open file. Contents are durable only after `sync`.
pub(super) trait DiskFile: Send + Sync {
    fn size(&self) -> io::Result<u64>;
    /// Reads what it can, 0 at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes what it can.
    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;
    fn sync(&self) -> io::Result<()>;
    /// Reserves space up to `size`, so that later writes neither allocate nor run out.
    fn allocate(&self, size: u64) -> io::Result<()>;
    fn truncate(&self, size: u64) -> io::Result<()>;
}

/// Fills the buffer or fails; a file that ends early is `UnexpectedEof`.
pub(super) fn read_exact_at(file: &dyn DiskFile, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match file.read_at(buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                buffer = buffer.get_mut(n..).unwrap_or_default();
                offset += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The kernel takes at most this many slices in one call (`IOV_MAX`).
const MAX_SLICES: usize = 1024;

/// Writes all slices one after the other, however many calls that takes.
pub(super) fn write_all_at(
    file: &dyn DiskFile,
    mut slices: &mut [IoSlice<'_>],
    mut offset: u64,
) -> io::Result<()> {
    // `advance_slices` also drops empty slices at the front, which would otherwise look like a
    // write that makes no progress.
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        let window = slices.get(..MAX_SLICES).unwrap_or(slices);
        match file.write_at(window, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                IoSlice::advance_slices(&mut slices, n);
                offset += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A directory of the real file system.
pub(super) struct RealDisk {
    root: PathBuf,
}

impl RealDisk {
    /// Makes the directories that are missing, readable by nobody else, and makes their names durable.
    pub(super) fn prepare(root: &Path) -> io::Result<Self> {
        create_durable(root)?;
        for area in [Area::Log, Area::Big] {
            create_durable(&root.join(area.name()))?;
        }
        Ok(Self { root: root.to_path_buf() })
    }

    fn path(&self, area: Area, name: &str) -> PathBuf {
        self.root.join(area.name()).join(name)
    }
}

/// Makes a directory and all its missing parents; each new name is synced in its parent.
fn create_durable(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create_durable(parent)?;
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(error) => return Err(error),
    }
    File::open(parent)?.sync_all()
}

impl Disk for RealDisk {
    fn list(&self, area: Area) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.root.join(area.name()))? {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, area: Area, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(self.path(area, name))?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, area: Area, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(self.path(area, name))?;
        Ok(Arc::new(RealFile(file)))
    }

    fn remove(&self, area: Area, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(area, name))
    }

    fn rename(&self, area: Area, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(area, from), self.path(area, to))
    }

    fn sync_dir(&self, area: Area) -> io::Result<()> {
        File::open(self.root.join(area.name()))?.sync_all()
    }
}

struct RealFile(File);

impl DiskFile for RealFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(&self.0, slices, offset)?)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, size) {
            // Some file systems cannot; writes then allocate as they go.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.0.set_len(size)
    }
}
