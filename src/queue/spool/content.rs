//! The content of a stored message.

use std::{io, sync::Arc};

use bytes::Bytes;

use super::{
    MessageId, Place, SpoolError,
    disk::{Area, DiskFile, read_exact_at},
    names,
    shared::Shared,
};

/// A handle to the content of a message in the spool. It follows the message when the log is
/// cleaned; once the message is removed, reading says [`SpoolError::Gone`].
#[derive(Clone)]
pub struct StoredContent {
    shared: Arc<Shared>,
    id: u64,
    len: u64,
}

impl StoredContent {
    pub(super) fn new(shared: Arc<Shared>, id: u64, len: u64) -> Self {
        Self { shared, id, len }
    }

    /// Whose content it is.
    pub fn id(&self) -> MessageId {
        MessageId(self.id)
    }

    /// Bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// No bytes at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The whole content, checked. Blocks on the disk.
    pub fn read(&self) -> Result<Bytes, SpoolError> {
        let mut reader = self.open_reader()?;
        let mut bytes = vec![0; usize::try_from(self.len).map_err(|_| SpoolError::TooLarge("content"))?];
        reader.fill(&mut bytes)?;
        Ok(bytes.into())
    }

    /// The content in pieces, for a message too big to hold. Blocks on the disk.
    pub fn open_reader(&self) -> Result<ContentReader, SpoolError> {
        let (file, offset, crc) = {
            let index = self.shared.index();
            let entry = index.messages.get(&self.id).ok_or(SpoolError::Gone(self.id()))?;
            let spot = entry.spot;
            if spot.big {
                drop(index);
                let file = self.shared.disk.open(Area::Big, &names::big(self.id)).map_err(|error| {
                    if error.kind() == io::ErrorKind::NotFound {
                        self.corrupt("big file is missing")
                    } else {
                        SpoolError::io("open big file")(error)
                    }
                })?;
                (file, 0, spot.content_crc)
            } else {
                let segment = index.segments.get(&spot.segment).ok_or(SpoolError::Gone(self.id()))?;
                (Arc::clone(&segment.file), spot.content_offset(), spot.content_crc)
            }
        };
        Ok(ContentReader { file, offset, left: self.len, crc, hasher: crc32fast::Hasher::new(), id: self.id })
    }

    fn corrupt(&self, what: &'static str) -> SpoolError {
        SpoolError::Corrupt { what, place: Place::Message(self.id()) }
    }
}

impl std::fmt::Debug for StoredContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredContent").field("id", &self.id).field("len", &self.len).finish_non_exhaustive()
    }
}

/// Reads a content in pieces. It holds the file open, so neither a removal nor a move disturbs it.
pub struct ContentReader {
    file: Arc<dyn DiskFile>,
    offset: u64,
    left: u64,
    crc: u32,
    hasher: crc32fast::Hasher,
    id: u64,
}

impl ContentReader {
    /// The next piece of at most `limit` bytes; none at the end. The last piece comes only when the
    /// CRC of the whole is right, so a reader that gets to the end has had the true content.
    pub fn next_chunk(&mut self, limit: usize) -> Result<Option<Bytes>, SpoolError> {
        let len = self.left.min(limit.max(1) as u64) as usize;
        let mut bytes = vec![0; len];
        self.fill(&mut bytes)?;
        Ok((len > 0).then(|| bytes.into()))
    }

    /// Bytes still to come.
    pub fn remaining(&self) -> u64 {
        self.left
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), SpoolError> {
        read_exact_at(&*self.file, bytes, self.offset).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                self.corrupt("content is cut short")
            } else {
                SpoolError::io("read content")(error)
            }
        })?;
        self.hasher.update(bytes);
        self.offset += bytes.len() as u64;
        self.left -= bytes.len() as u64;
        if self.left == 0 && self.hasher.clone().finalize() != self.crc {
            return Err(self.corrupt("content has a wrong CRC"));
        }
        Ok(())
    }

    fn corrupt(&self, what: &'static str) -> SpoolError {
        SpoolError::Corrupt { what, place: Place::Message(MessageId(self.id)) }
    }
}

impl io::Read for ContentReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.left.min(buffer.len() as u64) as usize;
        let Some(part) = buffer.get_mut(..len).filter(|part| !part.is_empty()) else { return Ok(0) };
        self.fill(part).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(len)
    }
}

impl std::fmt::Debug for ContentReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContentReader")
            .field("id", &self.id)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}
