//! Values of MAIL and RCPT parameters that travel with a message.

/// `BODY=` of MAIL (RFC 6152, RFC 3030).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyType {
    /// `7BIT`, or nothing said.
    #[default]
    SevenBit,
    /// `8BITMIME`
    EightBitMime,
    /// `BINARYMIME`: BDAT only.
    BinaryMime,
}

/// `RET=` of MAIL (RFC 3461 section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ret {
    /// The whole message goes into a failure DSN.
    Full,
    /// Its header only.
    Headers,
}

/// `NOTIFY=` of RCPT (RFC 3461 section 4.1). All false is `NEVER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Notify {
    /// A DSN when it was delivered.
    pub success: bool,
    /// A DSN when it could not be.
    pub failure: bool,
    /// A DSN when it is delayed.
    pub delay: bool,
}
