//! What a status code means to the person who sent the message, and what to do about it.
//!
//! The table is meant to be edited. The first row whose code is a prefix of the status wins: a
//! whole code, then `5.7.` for a subject, then `5.` for a class.

const EXPLANATIONS: &[(&str, &str)] = &[
    (
        "4.4.1",
        "The destination mail system could not be reached. Try again later, or tell your administrator.",
    ),
    (
        "4.4.7",
        "The message could not be delivered in time: the destination mail system did not take it. Try again later, or reach the recipient another way.",
    ),
    (
        "4.7.5",
        "The destination mail system could not prove who it is, and this server sends it nothing without that proof. Please tell your administrator.",
    ),
    ("5.1.0", "The sender's address was refused. Check the address the message was sent from."),
    (
        "5.1.1",
        "The e-mail address could not be found at the destination. Check its spelling and send the message again.",
    ),
    (
        "5.1.10",
        "The e-mail address could not be found at the destination. Check its spelling and send the message again.",
    ),
    ("5.1.2", "The destination domain is not known. Check the part of the address behind the @."),
    ("5.1.3", "The e-mail address is not written as an address can be. Check it and send the message again."),
    (
        "5.1.4",
        "The address belongs to a domain reserved for documentation and tests, which receives no mail.",
    ),
    (
        "5.1.7",
        "The sender's address is not written as an address can be. Check the address the message was sent from.",
    ),
    ("5.1.8", "The sender's address was refused. Check the address the message was sent from."),
    ("5.2.1", "The recipient's mailbox does not take messages now. Reach the recipient another way."),
    ("5.2.2", "The recipient's mailbox is full. Try again later, or reach the recipient another way."),
    ("5.2.3", "The message is too large for the recipient's mailbox. Make it smaller and send it again."),
    (
        "5.3.4",
        "The message is too large for the destination mail system. Make it smaller, remove attachments, and send it again.",
    ),
    (
        "5.3.5",
        "The mail system is set up so that the message comes back to itself. Please tell your administrator.",
    ),
    (
        "5.4.1",
        "The destination mail system does not take mail for this address. Check the address, or ask the recipient's administrator.",
    ),
    (
        "5.4.4",
        "No mail system could be found for the destination domain. Check the part of the address behind the @.",
    ),
    ("5.4.6", "The message went round in a loop between mail systems. Please tell your administrator."),
    ("5.4.14", "The message went round in a loop between mail systems. Please tell your administrator."),
    (
        "5.6.",
        "The destination mail system could not process the content of the message. Send it in another format.",
    ),
    (
        "5.7.1",
        "You are not allowed to send to this recipient, or the message was refused by a rule of the destination. Ask the recipient's administrator.",
    ),
    (
        "5.7.3",
        "The two mail systems could not agree on how to prove who they are. Please tell your administrator.",
    ),
    (
        "5.7.",
        "The destination refused the message for reasons of security or policy. Ask the recipient's administrator.",
    ),
    (
        "4.",
        "The message could not be delivered in time. Try again later, or reach the recipient another way.",
    ),
    ("5.1.", "There is a problem with the recipient's address. Check it and send the message again."),
    (
        "5.2.",
        "There is a problem with the recipient's mailbox. Try again later, or reach the recipient another way.",
    ),
    (
        "5.3.",
        "There is a problem with the destination mail system. Try again later, or ask the recipient's administrator.",
    ),
    ("5.4.", "There is a problem on the way to the destination mail system. Please tell your administrator."),
    ("5.5.", "The two mail systems did not understand each other. Please tell your administrator."),
];

/// For a code no row speaks of.
const OTHERWISE: &str = "The message could not be delivered. The diagnostic information below says what the destination answered.";

/// One paragraph for `status`.
pub(super) fn explanation(status: &str) -> &'static str {
    let fits = |code: &str| if code.ends_with('.') { status.starts_with(code) } else { status == code };
    EXPLANATIONS.iter().find(|(code, _)| fits(code)).map_or(OTHERWISE, |(_, text)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_codes_come_before_their_class() {
        assert!(explanation("5.1.1").contains("could not be found"));
        assert!(explanation("5.1.99").contains("problem with the recipient's address"));
        assert!(explanation("5.7.64").contains("security or policy"));
        assert!(explanation("4.3.2").contains("in time"));
        assert_eq!(explanation("5.0.0"), OTHERWISE);
    }

    #[test]
    fn no_row_hides_another() {
        for (i, (code, _)) in EXPLANATIONS.iter().enumerate() {
            let hidden = EXPLANATIONS[..i].iter().any(|(earlier, _)| {
                if earlier.ends_with('.') { code.starts_with(earlier) } else { code == earlier }
            });
            assert!(!hidden, "{code} is never reached");
        }
    }
}
