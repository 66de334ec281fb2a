//! A message as the client engine takes it.

use bytes::Bytes;

use crate::message::Recipient;
use crate::queue::spool::StoredContent;

use crate::smtp::{Address, BodyFacts, BodyType, Ret};

/// One message for some of its recipients: those that share a next hop.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Reverse path; none = `<>`.
    pub from: Option<Address>,
    /// Declared `BODY=`.
    pub body: BodyType,
    /// It came with `SMTPUTF8`.
    pub smtputf8: bool,
    /// `RET=`
    pub ret: Option<Ret>,
    /// `ENVID=`, in xtext.
    pub envid: Option<Box<str>>,
    /// Recipients to deliver to; outcomes come in this order.
    pub recipients: Vec<Recipient>,
    /// Bytes of content.
    pub size: u64,
    /// What the content is made of.
    pub facts: BodyFacts,
    /// Header and body.
    pub content: OutgoingContent,
    /// `Message-ID`, for the log.
    pub message_id: String,
    /// The queue's number, for the log.
    pub record_id: u64,
}

/// Where the content of a message lies.
#[derive(Debug, Clone)]
pub enum OutgoingContent {
    /// In memory: these pieces, one after the other.
    Memory(Vec<Bytes>),
    /// In the spool.
    Stored(StoredContent),
}
