//! The bytes on disk. All numbers are little-endian.
//!
//! A segment starts with two copies of its header (one bad block must not cost 64 MiB of mail),
//! then records follow without gaps; what lies behind the last one is zeros.
//!
//! A record is a fixed head, the changes that hold if and only if its message does, the meta data,
//! and for a message its content. One CRC covers head, changes and meta; the content has its own,
//! stored in the head, so that it can be checked on every read and survives a copy unchanged.
//!
//! Every segment has a random nonce that each of its records repeats. After a damaged record the
//! reader looks for the next one by magic and nonce; a sender cannot know the nonce, so a message
//! body that imitates a record is never taken for one.

use bytes::Bytes;

use super::{Change, MessageId};

/// Size of the part of a record that always exists.
pub(super) const HEAD: usize = 52;
/// Bytes by which a record is found again after damage: magic and nonce.
pub(super) const MARK: usize = 12;
/// Where the first record of a segment starts.
pub(super) const DATA_START: u64 = 8192;
/// Changes and meta together; also bounds what a damaged length can make the reader do.
pub(super) const MAX_PAYLOAD: u64 = 64 << 20;
/// Content of one record within a segment.
pub(super) const MAX_INLINE: u64 = 1 << 30;

const SEGMENT_MAGIC: [u8; 8] = *b"GPSPOOL\n";
const VERSION: u32 = 1;
const SEGMENT_HEADER: usize = 32;
const SECOND_COPY: u64 = 4096;
const RECORD_MAGIC: [u8; 4] = *b"GPr\x01";

/// What identifies a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) number: u64,
    pub(super) nonce: u64,
}

impl SegmentHeader {
    /// Offsets at which [`SegmentHeader::encode`] is stored.
    pub(super) const COPIES: [u64; 2] = [0, SECOND_COPY];

    pub(super) fn encode(self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        put(&mut bytes, 0, &SEGMENT_MAGIC);
        put(&mut bytes, 8, &VERSION.to_le_bytes());
        put(&mut bytes, 12, &self.number.to_le_bytes());
        put(&mut bytes, 20, &self.nonce.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..28]);
        put(&mut bytes, 28, &crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; SEGMENT_HEADER]) -> Option<Self> {
        let sound = bytes[..8] == SEGMENT_MAGIC
            && u32_at(bytes, 8) == VERSION
            && u32_at(bytes, 28) == crc32fast::hash(&bytes[..28]);
        sound.then(|| Self { number: u64_at(bytes, 12), nonce: u64_at(bytes, 20) })
    }

    /// How the records of this segment start.
    pub(super) fn mark(self) -> [u8; MARK] {
        let mut mark = [0; MARK];
        put(&mut mark, 0, &RECORD_MAGIC);
        put(&mut mark, 4, &self.nonce.to_le_bytes());
        mark
    }
}

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A message with its content.
    Message,
    /// A message whose content is the file `big/<id>`.
    Big,
    /// The state of a message; the last one holds.
    State,
    /// The message is gone for ever.
    Remove,
    /// First record of a segment in use: ids below `id` may have been given out; the meta data
    /// name the previous segment and how much of it was synced.
    Open,
    /// Ids below `id` may have been given out.
    Reserve,
    /// Stands where a recovery found a write that a crash had cut short, so that no later recovery
    /// judges it differently. Its content is anything.
    Void,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Message,
            2 => Self::Big,
            3 => Self::State,
            4 => Self::Remove,
            5 => Self::Open,
            6 => Self::Reserve,
            7 => Self::Void,
            _ => return None,
        })
    }

    fn byte(self) -> u8 {
        match self {
            Self::Message => 1,
            Self::Big => 2,
            Self::State => 3,
            Self::Remove => 4,
            Self::Open => 5,
            Self::Reserve => 6,
            Self::Void => 7,
        }
    }
}

/// The fixed part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: Kind,
    pub(super) id: u64,
    pub(super) changes: u32,
    pub(super) meta: u32,
    pub(super) content: u64,
    pub(super) content_crc: u32,
    /// The segment was synced up to here when the record was written: damage before this offset
    /// hits acknowledged mail, damage behind may be a write the crash cut short.
    pub(super) synced: u32,
    /// Over the 48 bytes before it, the changes and the meta data.
    crc: u32,
}

impl Head {
    /// Reads lengths and kind; the CRC needs the payload as well: [`Head::verify`].
    pub(super) fn decode(bytes: &[u8; HEAD], mark: &[u8; MARK]) -> Option<Self> {
        if bytes[..MARK] != *mark || bytes[13..16] != [0; 3] {
            return None;
        }
        let head = Self {
            kind: Kind::from_byte(bytes[12])?,
            id: u64_at(bytes, 16),
            changes: u32_at(bytes, 24),
            meta: u32_at(bytes, 28),
            content: u64_at(bytes, 32),
            content_crc: u32_at(bytes, 40),
            synced: u32_at(bytes, 44),
            crc: u32_at(bytes, 48),
        };
        let sane = head.payload() <= MAX_PAYLOAD && head.inline() <= MAX_INLINE + MAX_PAYLOAD;
        sane.then_some(head)
    }

    /// Whether head and payload are what was written.
    pub(super) fn verify(&self, bytes: &[u8; HEAD], payload: &[u8]) -> bool {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&bytes[..48]);
        hasher.update(payload);
        hasher.finalize() == self.crc
    }

    /// Changes and meta data.
    pub(super) fn payload(&self) -> u64 {
        u64::from(self.changes) + u64::from(self.meta)
    }

    /// Content that lies within the segment.
    pub(super) fn inline(&self) -> u64 {
        if matches!(self.kind, Kind::Message | Kind::Void) { self.content } else { 0 }
    }

    /// The whole record.
    pub(super) fn record(&self) -> u64 {
        HEAD as u64 + self.payload() + self.inline()
    }
}

/// What [`encode`] needs to know of a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draft<'a> {
    pub(super) kind: Kind,
    pub(super) id: u64,
    pub(super) changes: &'a [Change],
    pub(super) meta: &'a [u8],
    pub(super) content: u64,
    pub(super) content_crc: u32,
}

/// Appends head, changes and meta data to `out`; an inline content is the caller's to add.
pub(super) fn encode(draft: &Draft<'_>, mark: &[u8; MARK], synced: u64, out: &mut Vec<u8>) {
    let start = out.len();
    let changes = changes_len(draft.changes) as u32;
    out.extend_from_slice(mark);
    out.extend_from_slice(&[draft.kind.byte(), 0, 0, 0]);
    out.extend_from_slice(&draft.id.to_le_bytes());
    out.extend_from_slice(&changes.to_le_bytes());
    out.extend_from_slice(&(draft.meta.len() as u32).to_le_bytes());
    out.extend_from_slice(&draft.content.to_le_bytes());
    out.extend_from_slice(&draft.content_crc.to_le_bytes());
    out.extend_from_slice(&u32::try_from(synced).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    for change in draft.changes {
        let (kind, id, state): (Kind, MessageId, &[u8]) = match change {
            Change::State(id, state) => (Kind::State, *id, state),
            Change::Remove(id) => (Kind::Remove, *id, &[]),
        };
        out.push(kind.byte());
        out.extend_from_slice(&id.0.to_le_bytes());
        out.extend_from_slice(&(state.len() as u32).to_le_bytes());
        out.extend_from_slice(state);
    }
    out.extend_from_slice(draft.meta);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&out[start..start + 48]);
    hasher.update(&out[start + HEAD..]);
    put(out, start + 48, &hasher.finalize().to_le_bytes());
}

const CHANGE: usize = 13;

/// Encoded size of the changes of a message.
pub(super) fn changes_len(changes: &[Change]) -> u64 {
    changes
        .iter()
        .map(|change| match change {
            Change::State(_, state) => CHANGE as u64 + state.len() as u64,
            Change::Remove(_) => CHANGE as u64,
        })
        .sum()
}

/// Reads the changes of a message back. Nothing but a bug can make them unreadable under a good
/// CRC; the record then counts as damaged.
pub(super) fn decode_changes(mut bytes: &[u8]) -> Option<Vec<Change>> {
    let mut changes = Vec::new();
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_first_chunk::<CHANGE>()?;
        let id = MessageId(u64_at(head, 1));
        let (state, rest) = rest.split_at_checked(u32_at(head, 9) as usize)?;
        changes.push(match Kind::from_byte(head[0])? {
            Kind::State => Change::State(id, Bytes::copy_from_slice(state)),
            Kind::Remove => Change::Remove(id),
            _ => return None,
        });
        bytes = rest;
    }
    Some(changes)
}

/// The head that takes the place of the head of a record that does not count.
pub(super) fn void(head: &Head, mark: &[u8; MARK]) -> Vec<u8> {
    let content = head.record() - HEAD as u64;
    let mut out = Vec::with_capacity(HEAD);
    let draft = Draft { kind: Kind::Void, id: 0, changes: &[], meta: &[], content, content_crc: 0 };
    encode(&draft, mark, 0, &mut out);
    out
}

/// Meta data of [`Kind::Open`]: the previous segment and how much of it was synced.
pub(super) fn encode_previous(number: u64, synced: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    put(&mut bytes, 0, &number.to_le_bytes());
    put(&mut bytes, 8, &synced.to_le_bytes());
    bytes
}

/// The reverse of [`encode_previous`].
pub(super) fn decode_previous(bytes: &[u8]) -> Option<(u64, u64)> {
    (bytes.len() == 16).then(|| (u64_at(bytes, 0), u64_at(bytes, 8)))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// The callers pass arrays or checked lengths; short input reads as zero rather than panicking.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |chunk| u32::from_le_bytes(*chunk))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |chunk| u64::from_le_bytes(*chunk))
}
