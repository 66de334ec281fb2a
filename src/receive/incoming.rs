//! The message of a running transaction: decoded, measured, and kept in memory or on disk.
//!
//! A small message stays in memory until the spool writes it. A large one goes to its own file
//! as it arrives, so that a session's memory does not grow with the message; so does any
//! message once all sessions together hold [`MEMORY_BUDGET`].

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::buf::Limit;
use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use super::gather::Text;
use crate::config::BareLineFeeds;
use crate::message::{HeaderFacts, HeaderProgress, HeaderScanner, trace};
use crate::queue::Queue;
use crate::queue::spool::{Content, MessageId, SpoolError, StagedFile};
use crate::smtp::{Bare, BdatDecoder, BodyFacts, DataDecoder, Part};

/// Size at which a message goes to a file of its own.
const INLINE_LIMIT: usize = 1 << 20;

/// Size below which a message is never moved out of memory, budget or not.
const ALWAYS_INLINE: usize = 64 << 10;

/// Bytes all running transactions may hold in memory together.
const MEMORY_BUDGET: u64 = 256 << 20;

/// What a staged message collects before it writes.
const WRITE_CHUNK: usize = 256 << 10;

static IN_MEMORY: AtomicU64 = AtomicU64::new(0);

/// Limits of the connector that bear on a message's content.
#[derive(Debug, Clone, Copy)]
pub(super) struct ContentLimits {
    pub(super) max_message_size: u64,
    pub(super) bare: BareLineFeeds,
}

/// What is known when the content begins.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) id: MessageId,
    pub(super) limits: ContentLimits,
    pub(super) scanner: HeaderScanner,
    /// The `Received` field.
    pub(super) trace: Vec<u8>,
    /// Domain of the `Message-ID` that a message without one is given.
    pub(super) fqdn: String,
    /// The size the client announced, a hint only.
    pub(super) expected: u64,
}

/// How the content arrives.
#[derive(Debug)]
enum Decoder {
    Data(DataDecoder),
    Bdat(BdatDecoder),
}

impl Decoder {
    /// Which parts of the input are text.
    fn parts(&mut self, input: &[u8], emit: impl FnMut(Part)) -> Fed {
        match self {
            Self::Data(decoder) => {
                let (consumed, done) = decoder.parts(input, emit);
                Fed { consumed, done }
            }
            Self::Bdat(decoder) => {
                decoder.parts(input, emit);
                Fed { consumed: input.len(), done: false }
            }
        }
    }
}

/// A message on its way in.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) id: MessageId,
    decoder: Decoder,
    binary: bool,
    /// Reads the header until it ends; what it found is then in `header`.
    scanner: Option<HeaderScanner>,
    header: HeaderFacts,
    limits: ContentLimits,
    /// Our own fields, to stand before the content: `Received`, known from the start.
    trace: Vec<u8>,
    fqdn: String,
    front_len: u64,
    text: Text,
    counted: u64,
    /// Kept for its capacity.
    parts: Vec<Part>,
    staged: Option<StagedFile>,
    size: u64,
    failed: Option<SpoolError>,
}

/// A message that has arrived.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) content: Content,
    pub(super) resident: Option<Vec<Bytes>>,
    pub(super) facts: BodyFacts,
    pub(super) header: HeaderFacts,
    pub(super) size: u64,
    pub(super) header_len: u64,
    pub(super) message_id: String,
}

/// What feeding a piece of input came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fed {
    pub(super) consumed: usize,
    pub(super) done: bool,
}

impl Incoming {
    /// A message that comes by DATA.
    pub(super) fn data(opening: Opening) -> Self {
        Self::new(Decoder::Data(DataDecoder::new(policy(opening.limits.bare))), opening)
    }

    /// A message that comes by BDAT; a `binary` one is kept octet for octet.
    pub(super) fn bdat(opening: Opening, binary: bool) -> Self {
        let bare = if binary { Bare::Keep } else { policy(opening.limits.bare) };
        let mut this = Self::new(Decoder::Bdat(BdatDecoder::new(bare)), opening);
        this.binary = binary;
        this
    }

    fn new(decoder: Decoder, opening: Opening) -> Self {
        let room = opening.expected.clamp(4096, ALWAYS_INLINE as u64) as usize;
        Self {
            id: opening.id,
            decoder,
            binary: false,
            scanner: Some(opening.scanner),
            header: HeaderFacts::default(),
            limits: opening.limits,
            trace: opening.trace,
            fqdn: opening.fqdn,
            front_len: 0,
            text: Text::with_capacity(room),
            counted: 0,
            parts: Vec::new(),
            staged: None,
            size: 0,
            failed: None,
        }
    }

    /// Takes in a piece of what the client sent. Never fails: a full disk or a message over its
    /// limit is remembered and the rest read to its real end, as SMTP requires.
    pub(super) async fn feed(&mut self, input: &[u8], queue: &Queue) -> Fed {
        let (size, scanner, text) = (&mut self.size, &mut self.scanner, &mut self.text);
        let fed = self.decoder.parts(input, |part| {
            let part = part.of(input);
            *size += part.len() as u64;
            scan(scanner, part);
            text.copy(part);
        });
        self.settle(queue).await;
        fed
    }

    /// Whether more has come than most messages have: what follows is read to [`Self::room`].
    pub(super) fn in_bulk(&self) -> bool {
        self.size > 0
    }

    /// Where to read at most `limit` bytes; [`Self::feed_read`] takes them in.
    pub(super) fn room(&mut self, limit: u64) -> Limit<&mut Vec<u8>> {
        let room = self.text.room();
        let free = room.capacity() - room.len();
        room.limit(usize::try_from(limit).unwrap_or(usize::MAX).min(free))
    }

    /// Takes in what was read to [`Self::room`]. What was not used is handed to `rest`.
    pub(super) async fn feed_read(&mut self, queue: &Queue, rest: &mut BytesMut) -> Fed {
        let mut parts = std::mem::take(&mut self.parts);
        let read = self.text.read();
        let (size, scanner) = (&mut self.size, &mut self.scanner);
        let fed = self.decoder.parts(read, |part| {
            let bytes = part.of(read);
            *size += bytes.len() as u64;
            scan(scanner, bytes);
            parts.push(part);
        });
        rest.extend_from_slice(read.get(fed.consumed..).unwrap_or_default());
        self.text.keep(&mut parts);
        self.parts = parts;
        self.settle(queue).await;
        fed
    }

    /// What follows from the text that has just been added.
    async fn settle(&mut self, queue: &Queue) {
        if self.scanner.as_ref().is_some_and(|scanner| scanner.progress() == HeaderProgress::Complete) {
            self.end_header();
        }
        if self.is_refused() {
            self.drop_content();
        } else {
            self.keep(queue).await;
        }
    }

    /// Whether the message is lost whatever follows, so that its bytes need not be kept. Bare
    /// line ends are judged at the end only: a CR that ends a piece may yet be followed by its LF.
    fn is_refused(&self) -> bool {
        self.too_big() || self.failed.is_some() || self.header_too_big()
    }

    /// Over the connector's message size limit.
    pub(super) fn too_big(&self) -> bool {
        self.size > self.limits.max_message_size
    }

    /// Over the connector's header size limit.
    pub(super) fn header_too_big(&self) -> bool {
        self.scanner.as_ref().map_or(&self.header, HeaderScanner::facts).too_large
    }

    /// Holds a bare CR or LF where those are refused. Only valid once all has arrived.
    pub(super) fn bare_refused(&self) -> bool {
        if self.limits.bare != BareLineFeeds::Reject || self.binary {
            return false;
        }
        self.facts().has_bare()
    }

    fn facts(&self) -> BodyFacts {
        match &self.decoder {
            Decoder::Data(d) => d.facts(),
            Decoder::Bdat(d) => d.facts(),
        }
    }

    fn drop_content(&mut self) {
        self.text.clear();
        self.staged = None;
        self.uncount();
    }

    fn uncount(&mut self) {
        IN_MEMORY.fetch_sub(self.counted, Ordering::Relaxed);
        self.counted = 0;
    }

    /// Moves what is in memory to disk when it must.
    async fn keep(&mut self, queue: &Queue) {
        let mut front = None;
        if self.staged.is_none() {
            let held = self.text.len() as u64;
            let grown = held - self.counted;
            let total = IN_MEMORY.fetch_add(grown, Ordering::Relaxed) + grown;
            self.counted = held;
            let over_budget = total > MEMORY_BUDGET && self.text.len() > ALWAYS_INLINE;
            // Our own fields come first in the file, and whether Message-ID is among them is
            // only known behind the header.
            if !(self.text.len() > INLINE_LIMIT || over_budget) || self.scanner.is_some() {
                return;
            }
            match queue.spool().stage(self.id) {
                Ok(file) => self.staged = Some(file),
                Err(e) => return self.fail(e),
            }
            front = Some(Bytes::from(self.front()));
            self.uncount();
        } else if self.text.len() < WRITE_CHUNK {
            return;
        }
        self.write_out(front).await;
    }

    /// Our own fields, ready to stand before the content.
    fn front(&mut self) -> Vec<u8> {
        let mut front = std::mem::take(&mut self.trace);
        if self.header.message_id.is_none() {
            let own = trace::message_id(Uuid::new_v4(), &self.fqdn);
            front.extend_from_slice(trace::field("Message-ID", &own).as_bytes());
            self.header.message_id = Some(own);
        }
        if self.header.separator_needed {
            front.extend_from_slice(b"\r\n");
        }
        self.front_len = front.len() as u64;
        front
    }

    fn end_header(&mut self) {
        if let Some(scanner) = self.scanner.take() {
            self.header = scanner.finish();
        }
    }

    fn fail(&mut self, error: SpoolError) {
        self.failed = Some(error);
        self.drop_content();
    }

    /// Writes the text in memory to the file, behind `front`.
    async fn write_out(&mut self, front: Option<Bytes>) {
        let Some(file) = self.staged.take() else { return };
        let mut pieces = self.text.take();
        pieces.splice(..0, front);
        match file.written(pieces).await {
            Ok(file) => self.staged = Some(file),
            Err(e) => self.fail(e),
        }
    }

    /// The end of the message: everything a decision needs. An error is the spool's.
    pub(super) async fn finish(mut self) -> Result<Arrived, SpoolError> {
        if let Decoder::Bdat(decoder) = &mut self.decoder {
            let mut last = Vec::new();
            decoder.finish(&mut last);
            self.text.copy(&last);
            self.size += last.len() as u64;
        }
        self.end_header();
        if let Some(e) = self.failed.take() {
            return Err(e);
        }
        let (content, resident) = if self.staged.is_some() {
            self.write_out(None).await;
            match (self.staged.take(), self.failed.take()) {
                (Some(file), None) => (Content::Staged(file.finished().await?), None),
                (_, e) => return Err(e.unwrap_or(SpoolError::Closed)),
            }
        } else {
            let mut pieces = self.text.take();
            pieces.insert(0, self.front().into());
            (Content::Memory(pieces.clone()), Some(pieces))
        };
        let facts = self.facts();
        let mut header = std::mem::take(&mut self.header);
        let message_id = header.message_id.take().unwrap_or_default();
        let header_len = header.body_offset + self.front_len;
        Ok(Arrived {
            content,
            resident,
            facts,
            size: self.size + self.front_len,
            header_len,
            message_id,
            header,
        })
    }
}

/// Shows the header's scanner, while there is one, what was added.
fn scan(scanner: &mut Option<HeaderScanner>, added: &[u8]) {
    if let Some(scanner) = scanner {
        scanner.feed(added);
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.uncount();
    }
}

fn policy(bare: BareLineFeeds) -> Bare {
    match bare {
        BareLineFeeds::Reject => Bare::Keep,
        BareLineFeeds::Normalize => Bare::Normalize,
    }
}
