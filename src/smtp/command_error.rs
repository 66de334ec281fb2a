//! What can be wrong with a command line, and the reply to it.

use super::address::AddressError;
use super::reply::{EnhancedCode, Reply};
use super::verb::Verb;

/// Why a line is no command. One variant for each reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// No verb of ours.
    #[error("the command is not known")]
    UnknownVerb,
    /// Control characters, or bytes over 127 that are not UTF-8.
    #[error("the command line contains characters that are not allowed")]
    NotText,
    /// Arguments that are missing, malformed, or too many.
    #[error("the arguments of {0} are not valid")]
    InvalidArguments(Verb),
    /// The argument of EHLO or HELO.
    #[error("the domain name is not valid")]
    InvalidDomain,
    /// The reverse path of MAIL.
    #[error("the sender is not valid: {0}")]
    InvalidSender(AddressError),
    /// The forward path of RCPT.
    #[error("the recipient is not valid: {0}")]
    InvalidRecipient(AddressError),
    /// A parameter of MAIL or RCPT that we do not offer.
    #[error("a parameter of {0} is not known")]
    UnknownParameter(Verb),
    /// A parameter of MAIL or RCPT given twice (RFC 3461 sections 4.1 to 4.4).
    #[error("a parameter of {0} is given twice")]
    DuplicateParameter(Verb),
    /// A known parameter of MAIL or RCPT with a bad value.
    #[error("the value of {1} is not valid")]
    InvalidParameter(Verb, &'static str),
    /// A non-ASCII address in a transaction without SMTPUTF8. [`Command::parse`] does not know
    /// the transaction and never says so: the session does.
    ///
    /// [`Command::parse`]: super::Command::parse
    #[error("{0} has a non-ASCII address without SMTPUTF8")]
    NeedsSmtpUtf8(Verb),
}

impl CommandError {
    /// The reply, in Exchange's words where it has any. An unknown parameter gets the 555 of
    /// RFC 5321 section 4.1.1.11.
    pub fn reply(self) -> Reply {
        let (code, enhanced, text) = match self {
            Self::UnknownVerb => (500, EnhancedCode(5, 3, 3), "Unrecognized command"),
            Self::NotText => {
                (500, EnhancedCode(5, 5, 2), "Syntax error, command contains invalid characters")
            }
            Self::InvalidArguments(_) | Self::InvalidParameter(..) | Self::DuplicateParameter(_) => {
                (501, EnhancedCode(5, 5, 4), "Invalid arguments")
            }
            Self::InvalidDomain => (501, EnhancedCode(5, 5, 4), "Invalid domain name"),
            Self::InvalidSender(_) => (501, EnhancedCode(5, 1, 7), "Invalid address"),
            Self::InvalidRecipient(_) => (501, EnhancedCode(5, 1, 3), "Invalid address"),
            Self::NeedsSmtpUtf8(_) => (553, EnhancedCode(5, 6, 7), "Non-ASCII address requires SMTPUTF8"),
            Self::UnknownParameter(_) => (555, EnhancedCode(5, 5, 4), "Unsupported parameter"),
        };
        Reply::new(code, Some(enhanced), text)
    }
}
