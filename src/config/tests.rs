//! Tests of the whole way from text to configuration. Broken files with their exact problems are in
//! `tests/config/`.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;

use super::schema::{SECTIONS, Section};
use super::*;

const SERVER: &str = "[server]\nhostname = \"edge.contoso.com\"\nspool = \"spool\"\nlog_dir = \"logs\"\n";

fn load(rest: &str) -> Loaded {
    Config::from_toml(&format!("{SERVER}{rest}"), Path::new("/base")).unwrap()
}

#[test]
fn what_is_not_said_has_exchanges_default() {
    let loaded = load("[[receive_connectors]]\nname = \"a\"\nbindings = [\"127.0.0.1:25\"]\n");
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let config = loaded.config;
    assert_eq!(config.server.spool, Path::new("/base/spool"));
    let connector = &config.receive_connectors[0];
    assert_eq!(connector.fqdn, "edge.contoso.com");
    assert_eq!(connector.remote_ip_ranges, [IpRange::all_v4(), IpRange::all_v6()]);
    assert_eq!(connector.max_message_size, 37_748_736);
    assert_eq!(connector.max_header_size, 262_144);
    assert_eq!(connector.bare_line_feeds, BareLineFeeds::Reject);
    assert_eq!(config.transport.message_expiration_timeout.as_secs(), 172_800);
    assert_eq!(config.tls.trusted_roots, [TrustedRoots::System]);
    assert!(config.dns.servers.is_empty() && config.admin.is_none() && config.eop.is_none());
}

#[test]
fn a_send_connector_is_trusted_where_it_leads_inward() {
    let loaded = load(
        "[[accepted_domains]]\ndomain = \"*.contoso.com\"\n\
         [[send_connectors]]\nname = \"in\"\naddress_spaces = [\"--\", \"mail.contoso.com\"]\nmaildir = \"m/%d/%u\"\n\
         [[send_connectors]]\nname = \"out\"\naddress_spaces = [\"--\", \"*\"]\ndns_routing = true\n\
         [[send_connectors]]\nname = \"said\"\naddress_spaces = [\"fabrikam.com;7\"]\ndns_routing = true\ntrusted = true\n",
    );
    let trusted: Vec<bool> = loaded.config.send_connectors.iter().map(|c| c.trusted).collect();
    assert_eq!(trusted, [true, false, true]);
    assert_eq!(loaded.config.send_connectors[0].routing, Routing::Maildir("/base/m/%d/%u".into()));
    assert_eq!(loaded.config.send_connectors[2].address_spaces[0].cost, 7);
}

#[test]
fn the_general_minimum_tls_version_is_the_default_of_connectors() {
    let loaded = load(
        "[tls]\nmin_version = \"1.3\"\n[[receive_connectors]]\nname = \"a\"\nbindings = [\"127.0.0.1:25\"]\n",
    );
    assert_eq!(loaded.config.receive_connectors[0].min_tls_version, MinTlsVersion::Tls13);
}

#[test]
fn problems_name_file_line_and_column() {
    let problems = Config::from_toml("[server]\nhostname = 5\n", Path::new(".")).unwrap_err();
    let first = "<configuration>:1:1: `spool` is missing: the directory of the durable queue";
    assert_eq!(problems.0[0].to_string(), first);
    assert_eq!(
        problems.0[2].to_string(),
        "<configuration>:2:12: `hostname` expects a host name, not a whole number"
    );
    assert!(problems.to_string().starts_with(&format!("{first}\n")));
}

#[test]
fn a_missing_file_is_a_problem_too() {
    let problems = Config::load(Path::new("/nowhere/gatepost.toml")).unwrap_err();
    assert_eq!(
        problems.to_string(),
        "/nowhere/gatepost.toml:1:1: /nowhere/gatepost.toml cannot be read: No such file or directory"
    );
    assert!(Config::load(Path::new("/")).is_err());
}

/// A file that sets one key of one table to something no key takes.
fn with_wrong_value(section: &Section, key: &str) -> String {
    let header = match section.title {
        "auth" if key == "mechanism" => "[[send_connectors]]\n[send_connectors.auth]",
        "auth" => "[[send_connectors]]\n[send_connectors.auth]\nmechanism = \"xoauth2\"",
        "ip_block_list" => "[[connection_filter.ip_block_list]]",
        "match" => {
            "[[connection_filter.block_list_providers]]\n[connection_filter.block_list_providers.match]"
        }
        title => title,
    };
    // On a line of its own, the 10th, whatever the header.
    let lines = header.lines().count();
    format!("{header}{}{key} = {{ zzz = 1 }}\n", "\n".repeat(if lines == 0 { 9 } else { 10 - lines }))
}

#[test]
fn every_key_of_the_schema_is_read() {
    for section in SECTIONS {
        for key in section.keys {
            let text = with_wrong_value(section, key);
            let problems = Config::from_toml(&text, Path::new("/nowhere")).unwrap_err();
            let at_key = problems.0.iter().filter(|p| p.line == 10 && p.column > 1);
            assert!(at_key.count() > 0, "nobody reads `{key}` of {}:\n{text}{problems}", section.title);
        }
    }
}

#[test]
fn the_reference_page_has_exactly_the_keys_of_the_schema() {
    let page = include_str!("../../docs/configuration.md");
    let mut title = None;
    let mut described = BTreeSet::new();
    for line in page.lines() {
        if line.starts_with("##") {
            title = Some(line.split('`').nth(1).unwrap_or("").to_owned());
        } else if let Some(key) = line.strip_prefix("| `").and_then(|rest| rest.split('`').next()) {
            let title = title.clone().expect("a key outside any section");
            assert!(described.insert((title, key.to_owned())), "`{key}` is described twice");
            assert!(line.split(" | ").count() >= 5, "`{key}` lacks a column");
        }
    }
    let known: BTreeSet<_> = SECTIONS
        .iter()
        .flat_map(|s| s.keys.iter().map(|key| (s.title.to_owned(), (*key).to_owned())))
        .collect();
    let missing: Vec<_> = known.difference(&described).collect();
    let invented: Vec<_> = described.difference(&known).collect();
    assert!(
        missing.is_empty() && invented.is_empty(),
        "missing {missing:?}, unknown to the parser {invented:?}"
    );
}

#[test]
fn keys_without_effect_are_marked_in_the_reference_page() {
    let page = include_str!("../../docs/configuration.md");
    let marked = page.lines().filter(|line| line.starts_with("| `") && line.contains("**(later)**")).count();
    assert_eq!(marked, schema::NO_EFFECT_YET.len());
}

/// Text that is nearly a configuration: the deeper it gets past the TOML parser, the better.
fn nearly_toml() -> impl Strategy<Value = String> {
    let key = prop::sample::select(SECTIONS.iter().flat_map(|s| s.keys.to_vec()).collect::<Vec<_>>());
    let value = prop_oneof![
        "\"\\PC{0,12}\"".prop_map(|s| s.replace('\\', "/")),
        "-?[0-9]{1,22}",
        "\\[(\"[0-9a-z.:;*/%-]{0,14}\", ?){0,3}\\]",
        "\\{ ?[a-z_]{1,9} = [0-9]{1,3} ?\\}",
        Just("true".to_owned()),
        Just("inf".to_owned()),
        Just("1979-05-27".to_owned()),
    ];
    let header = prop::sample::select(
        SECTIONS.iter().map(|s| s.title).filter(|t| t.starts_with('[')).collect::<Vec<_>>(),
    );
    let line = prop_oneof![
        4 => (key, value).prop_map(|(k, v)| format!("{k} = {v}")),
        2 => header.prop_map(str::to_owned),
        1 => Just("[send_connectors.auth]".to_owned()),
    ];
    prop::collection::vec(line, 0..30).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn no_text_makes_the_loader_panic(text in any::<String>()) {
        let _ = Config::from_toml(&text, Path::new("/nowhere"));
    }

    #[test]
    fn nothing_like_toml_makes_it_panic(text in nearly_toml()) {
        if let Err(problems) = Config::from_toml(&text, Path::new("/nowhere")) {
            prop_assert!(!problems.0.is_empty());
            let lines = text.lines().count();
            for problem in problems.0 {
                prop_assert!(problem.line >= 1 && problem.line <= lines + 1 && problem.column >= 1);
                prop_assert!(!problem.message.contains('\n'));
            }
        }
    }
}
