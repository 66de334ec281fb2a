//! `[connection_filter]`, `[recipient_filter]` and `[sender_filter]`.

use std::net::IpAddr;
use std::time::SystemTime;

use toml::de::DeValue;

use super::elements;
use crate::config::filters::{
    BlockedRange, ConnectionFilter, ListMatch, ListProvider, RecipientFilter, SenderFilter,
};
use crate::config::schema;
use crate::config::table::{Table, described};
use crate::config::value::{self, quoted};

/// Exchange's limit; the text has to fit a reply line with code and address.
const LONGEST_REJECTION: usize = 240;

pub(super) fn connection(t: &Table<'_>) -> ConnectionFilter {
    ConnectionFilter {
        ip_allow_list: t.list("ip_allow_list", "a list of IP ranges", value::range).unwrap_or_default(),
        ip_block_list: blocked_ranges(t),
        ip_block_list_file: t.existing_file("ip_block_list_file"),
        bypassed_recipients: addresses(t, "bypassed_recipients"),
        block_list_providers: providers(t, "block_list_providers", &schema::BLOCK_LIST_PROVIDERS),
        allow_list_providers: providers(t, "allow_list_providers", &schema::ALLOW_LIST_PROVIDERS),
    }
}

pub(super) fn recipient(t: &Table<'_>) -> RecipientFilter {
    let filter = RecipientFilter {
        validate: t.flag("validate", t.is_set("recipients_file")),
        recipients_file: t.existing_file("recipients_file"),
        blocked_recipients: addresses(t, "blocked_recipients"),
    };
    if filter.validate && !t.is_set("recipients_file") {
        t.missing(
            "recipients_file",
            "with `validate = true` and no list of recipients, all would be refused",
        );
    }
    filter
}

pub(super) fn sender(t: &Table<'_>) -> SenderFilter {
    SenderFilter {
        blocked_senders: addresses(t, "blocked_senders"),
        blocked_domains: t
            .list("blocked_domains", "a list of domains", value::domain_pattern)
            .unwrap_or_default(),
        block_blank_sender: t.flag("block_blank_sender", false),
    }
}

pub(super) fn addresses(t: &Table<'_>, key: &'static str) -> Vec<String> {
    t.list(key, "a list of mail addresses", value::mail_address).unwrap_or_default()
}

/// Entries are ranges, or tables with a range and more about it.
fn blocked_ranges(t: &Table<'_>) -> Vec<BlockedRange> {
    const KEY: &str = "ip_block_list";
    const EXPECTED: &str = "a list of IP ranges and of tables such as { range = \"203.0.113.5\", expires = \"2030-01-31T00:00:00Z\" }";
    let mut list = Vec::new();
    if let Some(other) = t.get(KEY).filter(|v| !matches!(v.value, DeValue::Array(_))) {
        t.refuse(KEY, other.at, format!("`{KEY}` expects {EXPECTED}, not {}", described(other.value)));
        return list;
    }
    for element in elements(t, KEY) {
        match element.value {
            DeValue::String(text) => match value::range(text) {
                Ok(range) => list.push(BlockedRange { range, expires: None, comment: None }),
                Err(problem) => t.refuse(KEY, element.at, format!("`{KEY}`: {problem}")),
            },
            DeValue::Table(table) => {
                let entry = t.open_below(&schema::BLOCKED_RANGE, element.at, table);
                if !entry.is_set("range") {
                    entry.missing("range", "the peers to block");
                }
                let range = entry.parsed("range", "an IP range", value::range);
                let expires = expiry(&entry);
                let comment = entry.parsed("comment", "some text", value::words);
                list.extend(range.map(|range| BlockedRange { range, expires, comment }));
            }
            other => {
                t.refuse(KEY, element.at, format!("`{KEY}` expects {EXPECTED}, not {}", described(other)));
            }
        }
    }
    list
}

/// A time with its offset, as a string or as TOML's own date-time.
fn expiry(t: &Table<'_>) -> Option<SystemTime> {
    let found = t.get("expires")?;
    let (text, shown) = match found.value {
        DeValue::String(text) => (text.to_string(), quoted(text)),
        DeValue::Datetime(time) => (time.to_string(), quoted(&time.to_string())),
        other => (String::new(), described(other).to_owned()),
    };
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time.into());
    }
    let expected = "a time with its offset such as \"2030-01-31T00:00:00Z\" (RFC 3339)";
    t.refuse("expires", found.at, format!("`expires` expects {expected}, not {shown}"));
    None
}

fn providers(t: &Table<'_>, key: &'static str, section: &'static schema::Section) -> Vec<ListProvider> {
    let mut names = std::collections::HashSet::new();
    let mut list = Vec::new();
    for entry in t.tables(key, section) {
        for (key, why) in [("name", "the agent log names it"), ("lookup_domain", "the zone to look up in")] {
            if !entry.is_set(key) {
                entry.missing(key, why);
            }
        }
        let name = entry.parsed("name", "a name", value::name);
        if let Some(name) = name.as_ref().filter(|name| !names.insert(name.to_lowercase())) {
            entry.refuse(
                "name",
                entry.at("name"),
                format!("there is another provider called {}", quoted(name)),
            );
        }
        let blocks = section.keys.contains(&"rejection_response");
        let rejection_response =
            blocks.then(|| entry.parsed("rejection_response", "a line of text", rejection)).flatten();
        let lookup_domain = entry.parsed("lookup_domain", "a domain", value::host_name);
        let matching = matching(&entry);
        if let (Some(name), Some(lookup_domain)) = (name, lookup_domain) {
            list.push(ListProvider { name, lookup_domain, matching, rejection_response });
        }
    }
    list
}

fn rejection(text: &str) -> Result<String, String> {
    let length = text.chars().count();
    if length > LONGEST_REJECTION {
        return Err(format!("the text has {length} characters; at most {LONGEST_REJECTION} are allowed"));
    }
    if !text.bytes().all(|b| (0x20..0x7F).contains(&b)) {
        return Err("the text must be one line of printable ASCII".into());
    }
    value::words(text)
}

fn matching(t: &Table<'_>) -> ListMatch {
    let Some(found) = t.get("match") else { return ListMatch::Any };
    match found.value {
        DeValue::String(text) if text == "any" => return ListMatch::Any,
        DeValue::Table(table) => {
            let below = t.open_below(&schema::MATCH, found.at, table);
            let bitmask = below.parsed("bitmask", "an IP address", ip);
            let addresses = below.list("addresses", "a list of IP addresses", ip);
            match (below.is_set("bitmask"), below.is_set("addresses")) {
                (true, false) => return bitmask.map_or(ListMatch::Any, ListMatch::Bitmask),
                (false, true) => return addresses.map_or(ListMatch::Any, ListMatch::Addresses),
                _ => t.refuse("match", found.at, "`match` takes either `bitmask` or `addresses`"),
            }
        }
        other => t.refuse(
            "match",
            found.at,
            format!("`match` must be \"any\", {{ bitmask = \"127.0.0.4\" }} or {{ addresses = [\"127.0.0.2\"] }}, not {}", described(other)),
        ),
    }
    ListMatch::Any
}

fn ip(text: &str) -> Result<IpAddr, String> {
    text.trim().parse().map_err(|_| format!("{} is no IP address", quoted(text)))
}
