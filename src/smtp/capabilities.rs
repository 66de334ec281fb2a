//! What a server offers in its EHLO reply (RFC 5321 section 4.1.1.1).

use super::ascii::words_between;
use super::reply::Reply;

/// The longest keyword of ours, ENHANCEDSTATUSCODES, has no more letters.
const LONGEST: usize = 19;

/// The extensions of a server that a client of ours makes use of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// The domain the server greets with.
    pub name: String,
    /// Its size limit (RFC 1870); none if it named none, 0 if it says there is none.
    pub size: Option<u64>,
    /// SIZE was offered, with or without a limit: MAIL may carry `SIZE=`.
    pub size_offered: bool,
    /// PIPELINING (RFC 2920)
    pub pipelining: bool,
    /// DSN (RFC 3461)
    pub dsn: bool,
    /// ENHANCEDSTATUSCODES (RFC 2034)
    pub enhanced_status_codes: bool,
    /// STARTTLS (RFC 3207)
    pub starttls: bool,
    /// 8BITMIME (RFC 6152)
    pub eight_bit_mime: bool,
    /// BINARYMIME (RFC 3030)
    pub binary_mime: bool,
    /// CHUNKING (RFC 3030)
    pub chunking: bool,
    /// SMTPUTF8 (RFC 6531)
    pub smtputf8: bool,
    /// Mechanisms of AUTH (RFC 4954), in upper case.
    pub auth: Vec<String>,
}

impl Capabilities {
    /// Reads an EHLO reply. The reply to HELO gives the name alone.
    pub fn from_ehlo(reply: &Reply) -> Self {
        let mut found = Self::default();
        let mut lines = reply.lines();
        if let Some(name) = lines.next().and_then(|line| line.split_ascii_whitespace().next()) {
            name.clone_into(&mut found.name);
        }
        for line in lines {
            found.take(line);
        }
        found
    }

    fn take(&mut self, line: &str) {
        // Old servers wrote `AUTH=LOGIN`, from a draft of RFC 2554.
        let mut words = words_between(line, |b| matches!(b, b' ' | b'\t' | b'='));
        let Some(keyword) = words.next() else { return };
        // On the stack: one that is longer than ours is none of ours.
        let mut upper = [0; LONGEST];
        let Some(upper) = upper.get_mut(..keyword.len()) else { return };
        upper.copy_from_slice(keyword.as_bytes());
        upper.make_ascii_uppercase();
        match &*upper {
            b"SIZE" => {
                self.size_offered = true;
                self.size = words.next().and_then(|n| n.parse().ok());
            }
            b"PIPELINING" => self.pipelining = true,
            b"DSN" => self.dsn = true,
            b"ENHANCEDSTATUSCODES" => self.enhanced_status_codes = true,
            b"STARTTLS" => self.starttls = true,
            b"8BITMIME" => self.eight_bit_mime = true,
            b"BINARYMIME" => self.binary_mime = true,
            b"CHUNKING" => self.chunking = true,
            b"SMTPUTF8" => self.smtputf8 = true,
            b"AUTH" => {
                for mechanism in words.map(str::to_ascii_uppercase) {
                    if !self.auth.contains(&mechanism) {
                        self.auth.push(mechanism);
                    }
                }
            }
            _ => {}
        }
    }
}
