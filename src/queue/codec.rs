//! How a message's envelope and delivery state stand in the spool.
//!
//! Each record begins with a format version, so that a later Gatepost can read what an earlier
//! one queued. What is read back is untrusted: every address and count is checked again.

use serde::{Deserialize, Serialize};

use crate::message::{Envelope, Recipient};
use crate::smtp::{Address, BodyFacts, BodyType, Notify, Ret};

use super::message::{MessageMeta, RecipientStatus, Source, State, Statuses};

/// Version of both records.
const FORMAT: u8 = 1;

/// Why a record from the spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Written by a newer Gatepost, or not by Gatepost.
    #[error("record format {0} is unknown; this version reads {FORMAT}")]
    Version(u8),
    /// Not the shape it should have.
    #[error("the record does not decode: {0}")]
    Shape(#[from] postcard::Error),
    /// Decodes, but says something impossible.
    #[error("the record holds an invalid {0}")]
    Value(&'static str),
}

#[derive(Serialize, Deserialize)]
struct MetaRecord<'a> {
    network_message_id: [u8; 16],
    received_ms: u64,
    size: u64,
    header_len: u32,
    message_id: &'a str,
    subject: &'a str,
    connector: &'a str,
    peer: Option<std::net::IpAddr>,
    helo: &'a str,
    facts: FactsRecord,
    from: Option<&'a str>,
    body: u8,
    smtputf8: bool,
    ret: Option<bool>,
    envid: Option<&'a str>,
    #[serde(borrow)]
    recipients: Vec<RecipientRecord<'a>>,
}

#[derive(Serialize, Deserialize)]
struct FactsRecord {
    bare_cr: u64,
    bare_lf: u64,
    longest_line: u64,
    flags: u8,
}

#[derive(Serialize, Deserialize)]
struct RecipientRecord<'a> {
    address: &'a str,
    notify: Option<u8>,
    orcpt: Option<&'a str>,
}

#[derive(Serialize, Deserialize)]
struct StateRecord<'a> {
    delay_notified: bool,
    attempts: u32,
    last_error: Option<&'a str>,
    recipients: Vec<u8>,
}

/// Encodes what is known of a message when it is accepted.
pub(super) fn encode_meta(meta: &MessageMeta) -> Vec<u8> {
    let envelope = &meta.envelope;
    let record = MetaRecord {
        network_message_id: meta.network_message_id,
        received_ms: meta.received_ms,
        size: meta.size,
        header_len: meta.header_len,
        message_id: &meta.message_id,
        subject: &meta.subject,
        connector: &meta.source.connector,
        peer: meta.source.peer,
        helo: &meta.source.helo,
        facts: facts_record(&meta.facts),
        from: envelope.from.as_ref().map(Address::as_str),
        body: match envelope.body {
            BodyType::SevenBit => 0,
            BodyType::EightBitMime => 1,
            BodyType::BinaryMime => 2,
        },
        smtputf8: envelope.smtputf8,
        ret: envelope.ret.map(|r| r == Ret::Full),
        envid: envelope.envid.as_deref(),
        recipients: envelope
            .recipients
            .iter()
            .map(|r| RecipientRecord {
                address: r.address.as_str(),
                notify: r.notify.map(notify_bits),
                orcpt: r.orcpt.as_deref(),
            })
            .collect(),
    };
    // Serialising plain data into a growing Vec has no failure case.
    postcard::to_extend(&record, vec![FORMAT]).unwrap_or_default()
}

/// Reads back what [`encode_meta`] wrote.
pub(super) fn decode_meta(bytes: &[u8]) -> Result<MessageMeta, CodecError> {
    let record: MetaRecord<'_> = postcard::from_bytes(versioned(bytes)?)?;
    let address = |text: &str| Address::parse(text).map_err(|_| CodecError::Value("address"));
    let recipients = record
        .recipients
        .into_iter()
        .map(|r| {
            Ok(Recipient {
                address: address(r.address)?,
                notify: r.notify.map(notify_from_bits),
                orcpt: r.orcpt.map(Into::into),
            })
        })
        .collect::<Result<Vec<_>, CodecError>>()?;
    Ok(MessageMeta {
        network_message_id: record.network_message_id,
        received_ms: record.received_ms,
        size: record.size,
        header_len: record.header_len,
        message_id: record.message_id.into(),
        subject: record.subject.into(),
        source: Source { connector: record.connector.into(), peer: record.peer, helo: record.helo.into() },
        facts: facts(&record.facts),
        envelope: Envelope {
            from: record.from.map(address).transpose()?,
            body: match record.body {
                0 => BodyType::SevenBit,
                1 => BodyType::EightBitMime,
                2 => BodyType::BinaryMime,
                _ => return Err(CodecError::Value("body type")),
            },
            smtputf8: record.smtputf8,
            ret: record.ret.map(|full| if full { Ret::Full } else { Ret::Headers }),
            envid: record.envid.map(Into::into),
            recipients,
        },
    })
}

/// Encodes how far delivery has come.
pub(super) fn encode_state(state: &State) -> Vec<u8> {
    let record = StateRecord {
        delay_notified: state.delay_notified,
        attempts: state.attempts,
        last_error: state.last_error.as_deref(),
        recipients: state.recipients.iter().map(|r| *r as u8).collect(),
    };
    postcard::to_extend(&record, vec![FORMAT]).unwrap_or_default()
}

/// Reads back what [`encode_state`] wrote, for a message with `recipients` recipients.
pub(super) fn decode_state(bytes: &[u8], recipients: usize) -> Result<State, CodecError> {
    let record: StateRecord<'_> = postcard::from_bytes(versioned(bytes)?)?;
    if record.recipients.len() != recipients {
        return Err(CodecError::Value("recipient count"));
    }
    let recipients = record
        .recipients
        .into_iter()
        .map(|r| RecipientStatus::from_code(r).ok_or(CodecError::Value("recipient status")))
        .collect::<Result<Statuses, _>>()?;
    Ok(State {
        delay_notified: record.delay_notified,
        attempts: record.attempts,
        last_error: record.last_error.map(Into::into),
        recipients,
    })
}

fn versioned(bytes: &[u8]) -> Result<&[u8], CodecError> {
    match bytes.split_first() {
        Some((&FORMAT, rest)) => Ok(rest),
        Some((&other, _)) => Err(CodecError::Version(other)),
        None => Err(CodecError::Value("length")),
    }
}

fn facts_record(facts: &BodyFacts) -> FactsRecord {
    FactsRecord {
        bare_cr: facts.bare_cr,
        bare_lf: facts.bare_lf,
        longest_line: facts.longest_line as u64,
        flags: u8::from(facts.eight_bit) | u8::from(facts.nul) << 1 | u8::from(facts.ends_with_crlf) << 2,
    }
}

fn facts(record: &FactsRecord) -> BodyFacts {
    BodyFacts {
        bare_cr: record.bare_cr,
        bare_lf: record.bare_lf,
        longest_line: usize::try_from(record.longest_line).unwrap_or(usize::MAX),
        eight_bit: record.flags & 1 != 0,
        nul: record.flags & 2 != 0,
        ends_with_crlf: record.flags & 4 != 0,
    }
}

fn notify_bits(notify: Notify) -> u8 {
    u8::from(notify.success) | u8::from(notify.failure) << 1 | u8::from(notify.delay) << 2
}

fn notify_from_bits(bits: u8) -> Notify {
    Notify { success: bits & 1 != 0, failure: bits & 2 != 0, delay: bits & 4 != 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn meta() -> MessageMeta {
        MessageMeta {
            network_message_id: [7; 16],
            received_ms: 1_790_000_000_123,
            size: 4711,
            header_len: 300,
            message_id: "<a@b>".into(),
            subject: "Grüße".into(),
            source: Source {
                connector: "Default Internet".into(),
                peer: Some("192.0.2.1".parse().unwrap()),
                helo: "mx".into(),
            },
            facts: BodyFacts {
                eight_bit: true,
                longest_line: 77,
                ends_with_crlf: true,
                ..BodyFacts::default()
            },
            envelope: Envelope {
                from: Some(Address::parse("\"a b\"@contoso.com").unwrap()),
                body: BodyType::EightBitMime,
                smtputf8: true,
                ret: Some(Ret::Headers),
                envid: Some("id+2B".into()),
                recipients: vec![
                    Recipient { address: Address::parse("x@y.z").unwrap(), notify: None, orcpt: None },
                    Recipient {
                        address: Address::parse("用户@例え.jp").unwrap(),
                        notify: Some(Notify { delay: true, ..Notify::default() }),
                        orcpt: Some("rfc822;x@y".into()),
                    },
                ],
            },
        }
    }

    #[test]
    fn a_message_survives_the_round_trip() {
        let original = meta();
        assert_eq!(decode_meta(&encode_meta(&original)).unwrap(), original);
        let state = State {
            delay_notified: true,
            attempts: 3,
            last_error: Some("451 4.4.0 later".into()),
            recipients: [RecipientStatus::Delivered, RecipientStatus::Pending].into_iter().collect(),
        };
        assert_eq!(decode_state(&encode_state(&state), 2).unwrap(), state);
        assert!(matches!(decode_state(&encode_state(&state), 3), Err(CodecError::Value(_))));
    }

    #[test]
    fn another_format_is_named() {
        let mut bytes = encode_meta(&meta());
        bytes[0] = 9;
        assert!(matches!(decode_meta(&bytes), Err(CodecError::Version(9))));
    }

    proptest! {
        #[test]
        fn damage_never_panics(at in 0usize..200, with in any::<u8>(), cut in 0usize..250) {
            let mut bytes = encode_meta(&meta());
            let at = at % bytes.len();
            bytes[at] = with;
            let _ = decode_meta(&bytes);
            bytes.truncate(cut);
            let _ = decode_meta(&bytes);
            let _ = decode_state(&bytes, 2);
        }
    }
}
