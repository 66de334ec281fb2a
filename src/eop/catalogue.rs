//! The refusals of Exchange Online that a magic recipient may ask for (exchange-edge.md 8.4, 8.5).
//!
//! `docs/faults.md` lists each with its symptom and usual cause; a test holds the two together.

use std::ops::RangeInclusive;

use crate::smtp::EnhancedCode;

/// The text of a code that is not in the catalogue.
pub const UNKNOWN: &str = "Asked for by the recipient's address";

/// A refusal: its enhanced codes and its text. `%ip` stands for the client's address.
#[derive(Debug)]
pub struct Row {
    /// The basic code that Exchange Online gives with it.
    pub code: u16,
    /// Class and subject.
    pub class: (u8, u16),
    /// Details.
    pub details: RangeInclusive<u16>,
    /// Text.
    pub text: &'static str,
}

/// The text that goes with an enhanced code.
pub fn text(code: EnhancedCode) -> &'static str {
    let fits = |row: &&Row| row.class == (code.0, code.1) && row.details.contains(&code.2);
    ROWS.iter().find(fits).map_or(UNKNOWN, |row| row.text)
}

const fn row(code: u16, (class, subject, detail): (u8, u16, u16), text: &'static str) -> Row {
    Row { code, class: (class, subject), details: detail..=detail, text }
}

/// All of them.
pub static ROWS: &[Row] = &[
    // Attribution and relaying.
    row(550, (5, 7, 64), "TenantAttribution; Relay Access Denied SMTP"),
    row(451, (4, 4, 62), "Mail sent to the wrong Office 365 region. ATTR35."),
    row(
        550,
        (5, 7, 51),
        "TenantInboundAttribution; There is a partner connector configured that matched the message's recipient domain. The connector had either the RestrictDomainsToIPAddresses or RestrictDomainsToCertificate set",
    ),
    row(
        550,
        (5, 7, 1),
        "Service unavailable, Client host [%ip] blocked using Spamhaus. To request removal from this list see https://www.spamhaus.org/query/ip/%ip",
    ),
    row(550, (5, 4, 1), "Recipient address rejected: Access denied"),
    // Reputation of the address.
    Row {
        code: 451,
        class: (4, 7),
        details: 500..=699,
        text: "Server busy. Please try again later from [%ip]. (AS77713)",
    },
    Row { code: 451, class: (4, 7), details: 850..=899, text: "Access denied, please try again later" },
    Row {
        code: 550,
        class: (5, 7),
        details: 606..=649,
        text: "Access denied, banned sending IP [%ip]. To request removal from this list please visit https://sender.office.com/ and follow the directions. For more information please go to  http://go.microsoft.com/fwlink/?LinkID=526655 (AS16012609)",
    },
    row(550, (5, 7, 506), "Access Denied, Bad HELO"),
    row(550, (5, 7, 508), "Access denied, [%ip] has exceeded permitted limits within range"),
    row(
        550,
        (5, 7, 511),
        "Access denied, banned sender[%ip]. To request removal from this list please forward this message to delist@messaging.microsoft.com",
    ),
    row(
        450,
        (4, 7, 26),
        "Access denied, a message sent over IPv6 [%ip] must pass either SPF or DKIM validation, this message is not signed",
    ),
    row(550, (5, 7, 25), "Access denied, the sending IPv6 address [%ip] must have a reverse DNS record"),
    // The message and its sender.
    row(
        550,
        (5, 7, 509),
        "Access denied, sending domain does not pass DMARC verification and has a DMARC policy of reject.",
    ),
    row(550, (5, 7, 512), "Access denied, message must be RFC 5322 section 3.6.2 compliant"),
    row(
        550,
        (5, 7, 513),
        "Service unavailable, Client host [%ip] blocked by Customer Block list (AS16012607)",
    ),
    row(550, (5, 1, 20), "Multiple From addresses are not allowed without Sender address"),
    row(550, (5, 7, 23), "The message was rejected because of Sender Policy Framework violation"),
    // The tenant.
    row(550, (5, 7, 705), "Access denied, tenant has exceeded threshold"),
    row(
        550,
        (5, 7, 708),
        "Service unavailable. Access denied, traffic not accepted from this IP. For more information please go to http://go.microsoft.com/fwlink/?LinkId=526653 AS(7230)",
    ),
    row(550, (5, 7, 750), "Service unavailable. Client blocked from sending from unregistered domains"),
    row(
        550,
        (5, 7, 232),
        "Your message can't be sent because your trial tenant has exceeded its external recipient limit",
    ),
    row(
        550,
        (5, 7, 233),
        "Your message can't be sent because your tenant exceeded its daily limit for sending email to external recipients",
    ),
    // Limits.
    row(452, (4, 5, 3), "Too many recipients"),
    row(
        421,
        (4, 3, 2),
        "The maximum number of concurrent connections per resource forest has exceeded a limit, closing transmission channel",
    ),
    row(452, (4, 3, 1), "Insufficient system resources"),
    row(554, (5, 4, 14), "Hop count exceeded - possible mail loop"),
    // Recipients and TLS, as Exchange says it.
    row(550, (5, 1, 10), "RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup"),
    row(451, (5, 7, 3), "Must issue a STARTTLS command first"),
    row(454, (4, 7, 5), "Certificate validation failure, Reason:UntrustedRoot"),
    row(454, (4, 7, 0), "TLS not available due to temporary reason"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_single_codes_have_their_texts() {
        let of = |text_of: &str| text(EnhancedCode::parse(text_of).unwrap());
        assert!(of("4.7.500").starts_with("Server busy.") && of("4.7.699").starts_with("Server busy."));
        assert!(of("5.7.649").starts_with("Access denied, banned sending IP"));
        assert_eq!(of("5.7.650"), UNKNOWN);
    }

    /// One reply line, the trace suffix included, has 512 octets.
    #[test]
    fn every_text_leaves_room_for_address_and_trace() {
        for row in ROWS {
            assert!(row.text.len() < 320 && row.text.is_ascii(), "{}", row.text);
            assert!((400..600).contains(&row.code), "{}", row.code);
        }
    }

    #[test]
    fn the_page_of_faults_lists_every_row() {
        let page = include_str!("../../docs/faults.md");
        for row in ROWS {
            let ((class, subject), low, high) = (row.class, row.details.start(), row.details.end());
            let magic = format!("`fault+{}-{class}.{subject}.{low}`", row.code);
            assert!(page.contains(&magic), "docs/faults.md lacks {magic}");
            if low != high {
                let range = format!("{class}.{subject}.{low}-{high}");
                assert!(page.contains(&range), "docs/faults.md lacks {range}");
            }
        }
    }
}
