//! Configurations: every broken one gives exactly its golden problems, every example is accepted.
//!
//! `tests/config/NAME.toml` is broken; `NAME.expected` holds what is printed for it, errors before
//! warnings. After a deliberate change, `UPDATE_EXPECTED=1 cargo test --test config` writes the
//! files anew; read the difference before committing it.

// A test that cannot write its files has to stop, and says where.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use gatepost::config::{Config, Inspection, Routing};

/// What `check` prints, with paths relative to the directory.
fn printed(inspection: &Inspection, dir: &Path) -> String {
    let mut text = String::new();
    for problem in &inspection.errors {
        let _ = writeln!(text, "{problem}");
    }
    for warning in &inspection.warnings {
        let place = format!("{}:{}:{}", warning.file.display(), warning.line, warning.column);
        let _ = writeln!(text, "{place}: warning: {}", warning.message);
    }
    text.replace(&format!("{}/", dir.display()), "")
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    files.sort();
    files
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Writes a certificate and its key under the names the configurations use.
fn write_certificate(dir: &Path, names: &[&str], chain: &str, key: &str) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    for (name, text) in [(chain, made.cert.pem()), (key, made.signing_key.serialize_pem())] {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn every_broken_configuration_gives_its_golden_problems() {
    let source = root().join("tests/config");
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    copy(&source, dir);
    write_certificate(dir, &["edge.contoso.com"], "tls/edge.pem", "tls/edge.key");
    write_certificate(dir, &["other.contoso.com"], "tls/other.pem", "tls/other.key");

    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let files = files(dir, "toml");
    assert!(update || files.len() >= 20, "only {} broken configurations", files.len());
    let mut failures = String::new();
    for path in files {
        let inspection = Config::inspect(&path);
        let actual = printed(&inspection, dir);
        assert!(!actual.is_empty(), "{} is not broken", path.display());
        assert_eq!(inspection.config.is_none(), !inspection.errors.is_empty());
        let golden = source.join(path.file_name().unwrap()).with_extension("expected");
        if update {
            std::fs::write(&golden, &actual).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        if actual != expected {
            let _ = writeln!(failures, "{}:\nexpected:\n{expected}actual:\n{actual}", path.display());
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn every_example_is_accepted() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    copy(&root().join("conf"), dir);
    write_certificate(dir, &["edge.contoso.com"], "tls/fullchain.pem", "tls/privkey.pem");
    std::fs::write(dir.join("relay.pass"), "secret\n").unwrap();
    let examples = files(dir, "toml");
    assert!(examples.len() >= 3);
    for path in examples {
        let inspection = Config::inspect(&path);
        assert!(inspection.config.is_some(), "{}", printed(&inspection, dir));
        let unexpected: Vec<_> =
            inspection.warnings.iter().filter(|w| !w.message.contains("there is no user")).collect();
        assert!(unexpected.is_empty(), "{unexpected:?}");
    }
}

#[test]
fn check_prints_problems_or_a_summary() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    copy(&root().join("conf"), dir);
    write_certificate(dir, &["edge.contoso.com"], "tls/fullchain.pem", "tls/privkey.pem");
    let run = |name: &str, json: bool| {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let valid = gatepost::cli::check::check_to(&dir.join(name), json, &mut out, &mut err);
        (valid, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    };

    let (valid, out, err) = run("edge.toml", false);
    assert!(valid && err.is_empty(), "{err}");
    for line in [
        "    serves      10.20.0.11, 10.20.0.12",
        "    takes mail  to any domain",
        "    routes      all accepted domains (cost 1)",
        "    next hops   contoso-com.mail.protection.outlook.com:25",
        "    TLS         required, the certificate must verify and name mail.protection.outlook.com; presents certificate edge",
        "  a next hop that cannot be reached is tried again 4 times every 1m, 6 times every 10m, then every 30m",
    ] {
        assert!(out.lines().any(|l| l == line), "{line} is not in\n{out}");
    }

    let (valid, out, err) = run("edge.toml", true);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(valid && err.is_empty());
    assert_eq!(value["valid"], true);
    assert_eq!(value["summary"]["send_connectors"][0]["tls"], "validate_domain");

    std::fs::write(dir.join("bad.toml"), "[server]\nhostname = 1\n").unwrap();
    let (valid, out, err) = run("bad.toml", false);
    assert!(!valid && out.is_empty());
    assert_eq!(err.lines().count(), 3);
    let (valid, out, _) = run("bad.toml", true);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(!valid && value["valid"] == false && value["summary"].is_null());
    assert_eq!(value["problems"][2]["column"], 12);
}

#[test]
fn a_file_with_every_key_is_accepted() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    copy(&root().join("tests/config/complete"), dir);
    write_certificate(dir, &["edge.contoso.com"], "tls/fullchain.pem", "tls/privkey.pem");
    for name in ["admin.token", "relay.pass", "secret", "blocked.txt", "recipients.txt"] {
        std::fs::write(dir.join(name), "x\n").unwrap();
    }
    let inspection = Config::inspect(&dir.join("gatepost.toml"));
    let Some(config) = &inspection.config else { panic!("{}", printed(&inspection, dir)) };
    // Two in the file, and the two that every tenant of [eop] has.
    let domains: Vec<_> = config.accepted_domains.iter().map(|d| d.domain.name()).collect();
    assert_eq!(domains[2..], ["contoso.onmicrosoft.com", "contoso.mail.onmicrosoft.com"]);
    let names: Vec<_> = config.send_connectors.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["To EOP", "XOAUTH2", "DNS", "Maildir", "LMTP"]);
    assert_eq!(
        config.send_connectors[3].routing,
        Routing::Maildir(dir.join("conf.d/mail/%d/%u").display().to_string())
    );
    assert_eq!(config.connection_filter.ip_block_list.len(), 2);
    assert_eq!(config.eop.as_ref().map(|eop| eop.faults.len()), Some(1));
    // What there is to warn about is what comes later, and perhaps the user.
    for warning in &inspection.warnings {
        assert!(
            warning.message.ends_with("has no effect yet") || warning.message.starts_with("there is no user"),
            "{warning}"
        );
    }
}
