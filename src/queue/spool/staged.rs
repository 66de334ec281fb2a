//! A big message while it is being received: its bytes go straight to a file of their own.

use std::{io::IoSlice, sync::Arc};

use bytes::Bytes;

use super::{
    MessageId, SpoolError,
    disk::{self, Area, Disk, DiskFile},
    names,
};

/// A file that becomes the content of a message with [`super::Spool::append`]. Dropped before that,
/// it is deleted. Memory does not grow with the message.
pub struct StagedFile {
    disk: Arc<dyn Disk>,
    file: Arc<dyn DiskFile>,
    id: u64,
    len: u64,
    hasher: crc32fast::Hasher,
    synced: bool,
    /// It belongs to a message now.
    landed: bool,
}

impl StagedFile {
    pub(super) fn create(disk: Arc<dyn Disk>, id: MessageId) -> Result<Self, SpoolError> {
        let file =
            disk.create(Area::Big, &names::staged(id.0)).map_err(SpoolError::io("create staged file"))?;
        let hasher = crc32fast::Hasher::new();
        Ok(Self { disk, file, id: id.0, len: 0, hasher, synced: false, landed: false })
    }

    /// Appends bytes. Blocks while the kernel takes them; hand it 64 KiB or more at a time.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        self.write_slices(&mut [IoSlice::new(bytes)])
    }

    fn write_slices(&mut self, slices: &mut [IoSlice<'_>]) -> Result<(), SpoolError> {
        let mut hasher = self.hasher.clone();
        for slice in slices.iter() {
            hasher.update(slice);
        }
        let len: u64 = slices.iter().map(|slice| slice.len() as u64).sum();
        disk::write_all_at(&*self.file, slices, self.len).map_err(SpoolError::io("write staged file"))?;
        self.hasher = hasher;
        self.len += len;
        self.synced = false;
        Ok(())
    }

    /// Makes the bytes durable (blocks). The name is made so by `append`.
    pub fn finish(&mut self) -> Result<(), SpoolError> {
        if !self.synced {
            self.file.sync().map_err(SpoolError::io("sync staged file"))?;
            self.synced = true;
        }
        Ok(())
    }

    /// [`StagedFile::write`] of several pieces on tokio's blocking threads. Call within a runtime.
    pub async fn written(mut self, pieces: Vec<Bytes>) -> Result<Self, SpoolError> {
        blocking(move || {
            let mut slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            self.write_slices(&mut slices)?;
            Ok(self)
        })
        .await
    }

    /// [`StagedFile::finish`] on tokio's blocking threads. Call within a runtime.
    pub async fn finished(mut self) -> Result<Self, SpoolError> {
        blocking(move || self.finish().map(|()| self)).await
    }

    /// Bytes so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Gives the synced file its final name; length and CRC. The directory is the caller's to sync.
    pub(super) fn land(mut self) -> Result<(u64, u32), SpoolError> {
        self.finish()?;
        self.disk
            .rename(Area::Big, &names::staged(self.id), &names::big(self.id))
            .map_err(SpoolError::io("rename staged file"))?;
        self.landed = true;
        Ok((self.len, self.hasher.clone().finalize()))
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if !self.landed {
            // Should this fail, the next recovery deletes the file.
            let _ = self.disk.remove(Area::Big, &names::staged(self.id));
        }
    }
}

impl std::fmt::Debug for StagedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StagedFile").field("id", &self.id).field("len", &self.len).finish_non_exhaustive()
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SpoolError> + Send + 'static,
) -> Result<T, SpoolError> {
    // The task is neither aborted nor panicking, so this fails only when the runtime shuts down.
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(SpoolError::Closed))
}
