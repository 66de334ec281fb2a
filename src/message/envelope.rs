//! The SMTP envelope of a message (RFC 5321 section 2.3.1).

use crate::smtp::{Address, BodyType, Notify, Ret};

/// Who a message is from and for, and what its sender asked of every relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Reverse path; none = the null sender `<>`.
    pub from: Option<Address>,
    /// Declared `BODY=`.
    pub body: BodyType,
    /// `SMTPUTF8` was given.
    pub smtputf8: bool,
    /// `RET=`
    pub ret: Option<Ret>,
    /// `ENVID=`, still in xtext.
    pub envid: Option<Box<str>>,
    /// Accepted recipients, in the order they came.
    pub recipients: Vec<Recipient>,
}

/// One recipient of an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// Forward path.
    pub address: Address,
    /// `NOTIFY=`; none = the default, failure and delay.
    pub notify: Option<Notify>,
    /// `ORCPT=`, as `type;xtext`.
    pub orcpt: Option<Box<str>>,
}
