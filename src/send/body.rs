//! The content of a message, in pieces of bounded size.

use std::borrow::Cow;

use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::OutgoingContent;
use crate::queue::spool::{ContentReader, StoredContent};

/// Size of the pieces larger content goes out in: each is one BDAT chunk, or one write of DATA.
pub(super) const PIECE: usize = 256 * 1024;

/// Content being sent.
pub(super) struct Body<'a> {
    source: Source<'a>,
    left: u64,
}

enum Source<'a> {
    Memory {
        pieces: Cow<'a, [Bytes]>,
        /// First piece not wholly taken.
        at: usize,
        /// Bytes of it that were.
        taken: usize,
    },
    /// None while it is out reading.
    Disk(Option<ContentReader>),
}

impl<'a> Body<'a> {
    /// Makes content ready to be sent, and checks that it is as long as the queue says: a wrong
    /// `BDAT` size would turn content into commands.
    pub(super) async fn open(content: &'a OutgoingContent, size: u64) -> Result<Self, String> {
        let (source, length) = match content {
            OutgoingContent::Memory(pieces) => {
                let length = pieces.iter().map(|piece| piece.len() as u64).sum();
                (Source::Memory { pieces: pieces.into(), at: 0, taken: 0 }, length)
            }
            OutgoingContent::Stored(stored) => (stored_source(stored.clone()).await?, stored.len()),
        };
        if length != size {
            return Err(format!("it has {length} bytes where the queue says {size}"));
        }
        Ok(Self { source, left: size })
    }

    /// All of it, if it is in memory.
    pub(super) fn whole(&self) -> Option<&[Bytes]> {
        match &self.source {
            Source::Memory { pieces, .. } => Some(pieces),
            Source::Disk(_) => None,
        }
    }

    /// Bytes not yet taken.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Puts the next piece, of at most [`PIECE`] bytes, into `slices`: its length, 0 at the end. The
    /// last piece of stored content comes only if the whole was read back as it was written.
    pub(super) async fn next(&mut self, slices: &mut Vec<Bytes>) -> Result<usize, String> {
        slices.clear();
        match &mut self.source {
            Source::Memory { pieces, at, taken } => from_memory(pieces, at, taken, slices),
            Source::Disk(slot) => {
                let mut reader = slot.take().ok_or("reading it was interrupted")?;
                let (reader, piece) = spawn_blocking(move || {
                    let piece = reader.next_chunk(PIECE);
                    (reader, piece)
                })
                .await
                .map_err(|e| e.to_string())?;
                *slot = Some(reader);
                slices.extend(piece.map_err(|e| e.to_string())?);
            }
        }
        let len = slices.iter().map(Bytes::len).sum();
        self.left = self.left.saturating_sub(len as u64);
        Ok(len)
    }
}

async fn stored_source<'a>(stored: StoredContent) -> Result<Source<'a>, String> {
    let work = spawn_blocking(move || {
        if stored.len() <= PIECE as u64 {
            let whole = stored.read()?;
            Ok(Source::Memory { pieces: vec![whole].into(), at: 0, taken: 0 })
        } else {
            stored.open_reader().map(|reader| Source::Disk(Some(reader)))
        }
    });
    work.await.map_err(|e| e.to_string())?.map_err(|e: crate::queue::spool::SpoolError| e.to_string())
}

fn from_memory(pieces: &[Bytes], at: &mut usize, taken: &mut usize, slices: &mut Vec<Bytes>) {
    let mut room = PIECE;
    while room > 0 && *at < pieces.len() {
        let part = take(pieces, at, taken, room);
        room -= part.len();
        if !part.is_empty() {
            slices.push(part);
        }
    }
}

/// Up to `limit` bytes of the first piece that has any left.
fn take(pieces: &[Bytes], at: &mut usize, taken: &mut usize, limit: usize) -> Bytes {
    let Some(piece) = pieces.get(*at) else { return Bytes::new() };
    let end = piece.len().min(*taken + limit);
    let part = piece.slice(*taken..end);
    if end == piece.len() {
        (*at, *taken) = (*at + 1, 0);
    } else {
        *taken = end;
    }
    part
}

#[cfg(test)]
#[path = "stored_tests.rs"]
mod tests;
