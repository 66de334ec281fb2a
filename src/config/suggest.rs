//! What an unknown key was probably meant to be.

use super::schema::{SECTIONS, Section};

/// Parameters of Exchange that have no key of the same name, and how to say the same here.
static EXCHANGE: &[(&str, &str)] = &[
    ("requiretls", "write `tls = \"required\"`"),
    ("ignorestarttls", "write `tls = \"off\"`"),
    (
        "domainsecureenabled",
        "write `tls = \"mutual\"` on a receive connector, `tls = \"validate_domain\"` on a send connector",
    ),
    ("tlsauthlevel", "write `tls = \"required\"`, `\"validate_certificate\"` or `\"validate_domain\"`"),
    ("authmechanism", "STARTTLS follows from `tls`, relaying from `accept_any_recipient`"),
    ("permissiongroups", "relaying follows from `accept_any_recipient`, header trust from `trusted`"),
    ("dnsroutingenabled", "write `dns_routing`"),
    ("smarthostauthmechanism", "write `auth`"),
    ("authenticationcredential", "write `auth`"),
    ("sourceipaddress", "write `source_ip`"),
    ("protocollogginglevel", "write `protocol_logging`"),
    ("maxinboundconnection", "write `max_inbound_connections`"),
    ("barelinefeedrejectionenabled", "write `bare_line_feeds = \"reject\"`"),
    ("smtpmaxmessagesperconnection", "write `max_messages_per_connection`"),
    ("maxperdomainoutboundconnections", "write `max_connections` on the send connector"),
    ("domainname", "write `domain`"),
    ("domaintype", "write `type`"),
];

/// The message for a key that `section` does not have.
pub(super) fn unknown_key(section: &Section, key: &str) -> String {
    let table = if section.title.is_empty() { "at the top of the file" } else { section.title };
    let shown: String = key.chars().take(64).collect();
    let mut message = if section.title.is_empty() {
        format!("`{shown}` is no table or key {table}")
    } else {
        format!("`{shown}` is no key of {table}")
    };
    if let Some(hint) = hint(section, &shown) {
        message.push_str("; ");
        message.push_str(&hint);
    }
    message
}

fn hint(section: &Section, key: &str) -> Option<String> {
    let plain = plain(key);
    if let Some((_, hint)) = EXCHANGE.iter().find(|(name, _)| *name == plain) {
        return Some((*hint).to_owned());
    }
    if let Some(near) = nearest(&plain, section.keys) {
        return Some(format!("did you mean `{near}`?"));
    }
    // A key below the wrong table header is as common as a misspelt one.
    let homes: Vec<&str> = SECTIONS
        .iter()
        .filter(|s| s.keys.contains(&key))
        .map(|s| s.title)
        .filter(|t| !t.is_empty())
        .collect();
    (!homes.is_empty()).then(|| format!("it belongs to {}", homes.join(" or ")))
}

/// The key most like `plain`, if any is like it at all.
fn nearest(plain: &str, keys: &[&'static str]) -> Option<&'static str> {
    let by_edits = keys
        .iter()
        .map(|key| (strsim::damerau_levenshtein(plain, &self::plain(key)), *key))
        .min()
        .filter(|(edits, key)| *edits <= 1 + key.len() / 4)
        .map(|(_, key)| key);
    // Cut off or grown at the end: many edits, and yet plainly the same word.
    by_edits.or_else(|| {
        let alike = |key: &str| strsim::jaro_winkler(plain, &self::plain(key));
        let best = keys.iter().copied().max_by(|a, b| alike(a).total_cmp(&alike(b)))?;
        (alike(best) >= 0.9).then_some(best)
    })
}

/// The nearest of a setting's words, for the message about a wrong one.
pub(super) fn nearest_word(word: &str, words: &[&'static str]) -> Option<&'static str> {
    nearest(&plain(&word.chars().take(64).collect::<String>()), words)
}

/// Without case and separators, so that `RemoteIPRanges` is as near as `remote_ip_ranges`.
fn plain(key: &str) -> String {
    key.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::super::schema;
    use super::*;

    #[test]
    fn misspelt_and_exchange_names_lead_to_the_key() {
        let of = |key| unknown_key(&schema::RECEIVE, key);
        assert!(of("remote_ip_range").ends_with("did you mean `remote_ip_ranges`?"));
        assert!(of("RemoteIPRanges").ends_with("did you mean `remote_ip_ranges`?"));
        assert!(of("require_tls").ends_with("write `tls = \"required\"`"));
        assert!(of("smart_hosts").ends_with("it belongs to [[send_connectors]]"));
        assert_eq!(of("zzzzzz"), "`zzzzzz` is no key of [[receive_connectors]]");
    }
}
