//! What `benches/instructions` counts of the spool.

use super::format::{Draft, Kind, SegmentHeader, encode};

/// Appends the record of a message to `out`, without its content.
pub fn encode_record(id: u64, meta: &[u8], content: u64, content_crc: u32, out: &mut Vec<u8>) {
    let draft = Draft { kind: Kind::Message, id, changes: &[], meta, content, content_crc };
    encode(&draft, &SegmentHeader { number: 1, nonce: 7 }.mark(), 8192, out);
}
