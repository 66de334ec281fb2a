//! The content of a message, in pieces of bounded size.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
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

    /// The next piece, of at most [`PIECE`] bytes; an empty one at the end. The last piece of
    /// stored content comes only if the whole was read back as it was written.
    pub(super) async fn next(&mut self) -> Result<Bytes, String> {
        let piece = match &mut self.source {
            Source::Memory { pieces, at, taken } => from_memory(pieces, at, taken, self.left),
            Source::Disk(slot) => {
                let mut reader = slot.take().ok_or("reading it was interrupted")?;
                let (reader, piece) = spawn_blocking(move || {
                    let piece = reader.next_chunk(PIECE);
                    (reader, piece)
                })
                .await
                .map_err(|e| e.to_string())?;
                *slot = Some(reader);
                piece.map_err(|e| e.to_string())?.unwrap_or_default()
            }
        };
        self.left = self.left.saturating_sub(piece.len() as u64);
        Ok(piece)
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

fn from_memory(pieces: &[Bytes], at: &mut usize, taken: &mut usize, left: u64) -> Bytes {
    let first = take(pieces, at, taken, PIECE);
    if first.len() >= PIECE / 4 || first.len() as u64 == left {
        return first;
    }
    // A header and its body often lie apart; as one piece they cost one reply less.
    let mut joined = BytesMut::with_capacity(left.min(PIECE as u64) as usize);
    joined.extend_from_slice(&first);
    while joined.len() < PIECE && *at < pieces.len() {
        let room = PIECE - joined.len();
        joined.extend_from_slice(&take(pieces, at, taken, room));
    }
    joined.freeze()
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
