//! The verbs of SMTP.

use std::fmt;

/// The verb of a command that we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// EHLO (RFC 5321 section 4.1.1.1)
    Ehlo,
    /// HELO (RFC 5321 section 4.1.1.1)
    Helo,
    /// MAIL (RFC 5321 section 4.1.1.2)
    Mail,
    /// RCPT (RFC 5321 section 4.1.1.3)
    Rcpt,
    /// DATA (RFC 5321 section 4.1.1.4)
    Data,
    /// BDAT (RFC 3030 section 2)
    Bdat,
    /// RSET (RFC 5321 section 4.1.1.5)
    Rset,
    /// VRFY (RFC 5321 section 4.1.1.6)
    Vrfy,
    /// EXPN (RFC 5321 section 4.1.1.7)
    Expn,
    /// HELP (RFC 5321 section 4.1.1.8)
    Help,
    /// NOOP (RFC 5321 section 4.1.1.9)
    Noop,
    /// QUIT (RFC 5321 section 4.1.1.10)
    Quit,
    /// STARTTLS (RFC 3207 section 4)
    StartTls,
    /// AUTH (RFC 4954 section 4)
    Auth,
}

impl Verb {
    /// Recognises a verb in any case.
    pub fn parse(word: &[u8]) -> Option<Self> {
        if let Ok(mut four) = <[u8; 4]>::try_from(word) {
            four.make_ascii_uppercase();
            return Some(match &four {
                b"MAIL" => Self::Mail,
                b"RCPT" => Self::Rcpt,
                b"DATA" => Self::Data,
                b"BDAT" => Self::Bdat,
                b"EHLO" => Self::Ehlo,
                b"RSET" => Self::Rset,
                b"QUIT" => Self::Quit,
                b"NOOP" => Self::Noop,
                b"HELO" => Self::Helo,
                b"AUTH" => Self::Auth,
                b"VRFY" => Self::Vrfy,
                b"EXPN" => Self::Expn,
                b"HELP" => Self::Help,
                _ => return None,
            });
        }
        word.eq_ignore_ascii_case(b"STARTTLS").then_some(Self::StartTls)
    }

    /// The verb in upper case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ehlo => "EHLO",
            Self::Helo => "HELO",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::Bdat => "BDAT",
            Self::Rset => "RSET",
            Self::Vrfy => "VRFY",
            Self::Expn => "EXPN",
            Self::Help => "HELP",
            Self::Noop => "NOOP",
            Self::Quit => "QUIT",
            Self::StartTls => "STARTTLS",
            Self::Auth => "AUTH",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
