//! What `benches/instructions` counts and nobody else outside this room needs. No public API.

use super::message::MessageMeta;
use super::{CodecError, codec};

pub use super::spool::bench::encode_record;

/// The record of a message's envelope.
pub fn encode_meta(meta: &MessageMeta) -> Vec<u8> {
    codec::encode_meta(meta)
}

/// The envelope of a record.
pub fn decode_meta(bytes: &[u8]) -> Result<MessageMeta, CodecError> {
    codec::decode_meta(bytes)
}
