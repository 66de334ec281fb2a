//! The text of a message while it arrives: what is read in bulk is never copied.
//!
//! The socket is read into chunks. The decoder says which parts of a chunk are text, and slices of
//! the chunk become pieces of the message: the spool writes them, and the next hop is sent them,
//! from where the kernel put them. Short text is copied instead, so that a few bytes never hold a
//! whole chunk.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use crate::smtp::Part;

/// Size of a chunk.
pub(super) const CHUNK: usize = 64 << 10;

/// A chunk with less text than this is copied.
const WORTH_SHARING: usize = CHUNK / 2;

/// A chunk with less room than this counts as full.
const LEAST_ROOM: usize = 4 << 10;

/// The text of a chunk is copied if it lies in parts smaller than this on average: each costs a
/// slice in every write.
const SMALL_PART: usize = 1 << 10;

/// Text so far, in order.
#[derive(Debug, Default)]
pub(super) struct Text {
    pieces: Vec<Bytes>,
    /// Copied text behind the pieces.
    open: Vec<u8>,
    /// Text in `chunk`, behind that.
    parts: Vec<Part>,
    chunk: Option<Chunk>,
    /// So much of the chunk is decoded.
    seen: usize,
    len: usize,
}

impl Text {
    pub(super) fn with_capacity(room: usize) -> Self {
        Self { open: Vec::with_capacity(room), ..Self::default() }
    }

    /// Bytes of text.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Where to read to: a chunk that has room.
    pub(super) fn room(&mut self) -> &mut Vec<u8> {
        if self.chunk.as_ref().is_some_and(|chunk| chunk.room() < LEAST_ROOM) {
            self.seal();
        }
        &mut self.chunk.get_or_insert_with(Chunk::new).0
    }

    /// Takes text from bytes that are not in the chunk.
    pub(super) fn copy(&mut self, bytes: &[u8]) {
        if let Some(chunk) = self.chunk.as_mut().filter(|chunk| chunk.room() >= bytes.len())
            && !self.parts.is_empty()
        {
            // So that many short chunks of BDAT do not leave many chunks of ours half empty.
            chunk.0.extend_from_slice(bytes);
            return self.keep(&mut vec![Part::Input(0..bytes.len())]);
        }
        self.seal();
        self.open.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    /// What was read into the chunk and not yet decoded.
    pub(super) fn read(&self) -> &[u8] {
        self.chunk.as_ref().and_then(|chunk| chunk.0.get(self.seen..)).unwrap_or_default()
    }

    /// Takes those parts of [`Self::read`] that are text.
    pub(super) fn keep(&mut self, parts: &mut Vec<Part>) {
        let Some(chunk) = &self.chunk else { return };
        let start = self.seen;
        self.seen = chunk.0.len();
        for part in parts.drain(..) {
            let part = match part {
                Part::Input(range) => Part::Input(range.start + start..range.end + start),
                own @ Part::Own(_) => own,
            };
            self.len += part.len();
            match (self.parts.last_mut(), &part) {
                (Some(Part::Input(last)), Part::Input(next)) if last.end == next.start => {
                    last.end = next.end;
                }
                _ => self.parts.push(part),
            }
        }
    }

    /// Makes pieces of what is in the chunk, or copies it.
    fn seal(&mut self) {
        let Some(mut chunk) = self.chunk.take() else { return };
        self.seen = 0;
        let len: usize = self.parts.iter().map(Part::len).sum();
        if len < WORTH_SHARING || len < self.parts.len() * SMALL_PART {
            self.open.reserve(len);
            for part in self.parts.drain(..) {
                self.open.extend_from_slice(part.of(&chunk.0));
            }
            chunk.0.clear();
            self.chunk = Some(chunk);
            return;
        }
        self.close();
        let whole = Bytes::from_owner(chunk);
        self.pieces.extend(self.parts.drain(..).map(|part| match part {
            Part::Input(range) => whole.slice(range),
            Part::Own(bytes) => Bytes::from_static(bytes),
        }));
    }

    /// Makes a piece of what was copied.
    fn close(&mut self) {
        if !self.open.is_empty() {
            self.pieces.push(std::mem::take(&mut self.open).into());
        }
    }

    /// Takes all text out.
    pub(super) fn take(&mut self) -> Vec<Bytes> {
        self.seal();
        self.close();
        self.len = 0;
        std::mem::take(&mut self.pieces)
    }

    /// Forgets the text.
    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.open.clear();
        self.parts.clear();
        (self.seen, self.len) = (0, 0);
        if let Some(chunk) = &mut self.chunk {
            chunk.0.clear();
        }
    }
}

/// A buffer that is used again: memory fresh from the system costs a fault a page.
#[derive(Debug)]
struct Chunk(Vec<u8>);

/// Chunks that are free at the moment.
static FREE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// How many of these are kept: 16 MiB.
const MAX_FREE: usize = 256;

impl Chunk {
    fn new() -> Self {
        let free = FREE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self(free.unwrap_or_else(|| Vec::with_capacity(CHUNK)))
    }

    fn room(&self) -> usize {
        self.0.capacity() - self.0.len()
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0);
        bytes.clear();
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < MAX_FREE {
            free.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What happens to the text of a message.
    #[derive(Debug, Clone)]
    enum Step {
        Copy(usize),
        /// So much is read, and of that the bytes whose place is no multiple of the number are text.
        Read(usize, usize),
        /// A CRLF is put in.
        Own,
        Take,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            2 => (0usize..3_000).prop_map(Step::Copy),
            6 => (1usize..40_000, prop_oneof![Just(2usize), Just(700), Just(5_000), Just(100_000)])
                .prop_map(|(length, gap)| Step::Read(length, gap)),
            1 => Just(Step::Own),
            1 => Just(Step::Take),
        ]
    }

    proptest! {
        #[test]
        fn text_comes_out_as_it_went_in(steps in prop::collection::vec(step(), 0..12)) {
            let (mut text, mut want, mut got) = (Text::default(), Vec::new(), Vec::new());
            let mut next = (0..=u8::MAX).cycle();
            for step in steps {
                match step {
                    Step::Copy(length) => {
                        let bytes: Vec<u8> = next.by_ref().take(length).collect();
                        text.copy(&bytes);
                        want.extend(bytes);
                    }
                    Step::Read(length, gap) => {
                        let chunk = text.room();
                        let length = length.min(chunk.capacity() - chunk.len());
                        prop_assert!(length > 0, "there is always room");
                        chunk.extend(next.by_ref().take(length));
                        prop_assert!(chunk.capacity() == CHUNK);
                        let bytes = text.read().to_vec();
                        prop_assert_eq!(bytes.len(), length);
                        let (mut from, mut parts) = (0, Vec::new());
                        for end in (0..length).step_by(gap).chain([length]) {
                            if from < end {
                                parts.push(Part::Input(from..end));
                                want.extend_from_slice(&bytes[from..end]);
                            }
                            from = end + 1;
                        }
                        text.keep(&mut parts);
                    }
                    Step::Own => {
                        text.room();
                        text.keep(&mut vec![Part::Own(b"\r\n")]);
                        want.extend_from_slice(b"\r\n");
                    }
                    Step::Take => got.extend(text.take().concat()),
                }
                prop_assert_eq!(got.len() + text.len(), want.len());
            }
            got.extend(text.take().concat());
            prop_assert!(got == want);
        }
    }

    #[test]
    fn a_full_chunk_is_shared_and_little_text_is_copied() {
        let mut text = Text::default();
        for length in [CHUNK, 100] {
            text.room().extend(std::iter::repeat_n(b'x', length));
            text.keep(&mut vec![Part::Input(0..length)]);
        }
        assert_eq!(text.pieces.len(), 1);
        let chunk = text.pieces[0].as_ptr();
        let pieces = text.take();
        assert_eq!(pieces.iter().map(Bytes::len).collect::<Vec<_>>(), [CHUNK, 100]);
        assert_eq!(pieces[0].as_ptr(), chunk);
        assert!(text.chunk.is_some(), "the chunk with little in it is there for the next");
        text.clear();
        assert!(text.take().is_empty());
    }
}
