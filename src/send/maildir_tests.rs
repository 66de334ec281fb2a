use std::path::Path;

use bytes::Bytes;

use super::super::testing::{message, told};
use super::super::{Outcome, OutgoingContent};
use super::{deliver_maildir, maildir_path};
use crate::smtp::{Address, BodyType};

fn path(template: &str, address: &str) -> String {
    maildir_path(template, &Address::parse(address).unwrap()).unwrap().display().to_string()
}

fn only_file(directory: &Path) -> (String, Vec<u8>) {
    let mut files: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1);
    let file = files.pop().unwrap();
    (file.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&file).unwrap())
}

#[test]
fn no_address_leaves_its_directory() {
    assert_eq!(path("/m/%d/%u", "Don.Hall@Contoso.com"), "/m/contoso.com/don.hall");
    assert_eq!(path("/m/%d/%u", "\"../../etc\"@x.test"), "/m/x.test/%2E.%2F..%2Fetc");
    assert_eq!(path("/m/%d/%u", "\"..\"@x.test"), "/m/x.test/%2E.");
    assert_eq!(path("/m/%u", "a/b@x.test"), "/m/a%2Fb");
    assert_eq!(path("/m/%u", "a%d@x.test"), "/m/a%25d");
    assert_eq!(path("/m/%u", "\"a b\\\"c\"@x.test"), "/m/a%20b%22c");
    assert_eq!(path("/m/%u@%d%%%x", "ü@[127.0.0.1]"), "/m/%C3%BC@%5B127.0.0.1%5D%%x");
    let long = format!("{}@x.test", "ü".repeat(60));
    assert_eq!(maildir_path("/m/%u", &Address::parse(&long).unwrap()), None);
}

#[tokio::test]
async fn a_message_lies_in_new_with_its_envelope() {
    let directory = tempfile::tempdir().unwrap();
    let template = format!("{}/%d/%u", directory.path().display());
    let mut mail = message(&["b@x.test", "C@x.test"], b"");
    // The line end is split between two pieces.
    let pieces: [&'static [u8]; 3] = [b"Subject: x\r", b"\n\r\na\rb\r\n", b"end\r\n"];
    mail.content = OutgoingContent::Memory(pieces.map(Bytes::from_static).to_vec());
    let outcomes = deliver_maildir(&template, &mail, "edge.test").await;
    assert_eq!(outcomes.iter().map(told).collect::<Vec<_>>(), ["stored 250 2.1.5 Delivered to mailbox"; 2]);
    for user in ["b", "C"] {
        let maildir = directory.path().join("x.test").join(user.to_lowercase());
        let (name, text) = only_file(&maildir.join("new"));
        let expected =
            format!("Return-Path: <a@edge.test>\nDelivered-To: {user}@x.test\nSubject: x\n\na\rb\nend\n");
        assert_eq!(String::from_utf8(text).unwrap(), expected);
        assert!(name.contains(".edge.test,S=") && name.ends_with(&expected.len().to_string()), "{name}");
        assert_eq!(std::fs::read_dir(maildir.join("tmp")).unwrap().count(), 0);
        assert!(maildir.join("cur").is_dir());
    }
}

#[tokio::test]
async fn binary_content_is_kept_to_the_byte() {
    let directory = tempfile::tempdir().unwrap();
    let mut mail = message(&["b@x.test"], b"a\r\nb\nc\0\r\n");
    mail.body = BodyType::BinaryMime;
    mail.from = None;
    let template = directory.path().join("box").display().to_string();
    assert!(deliver_maildir(&template, &mail, "edge.test").await[0].is_success());
    let (_, bytes) = only_file(&directory.path().join("box/new"));
    assert_eq!(bytes, b"Return-Path: <>\r\nDelivered-To: b@x.test\r\na\r\nb\nc\0\r\n");
}

#[tokio::test]
async fn what_the_disk_refuses_is_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    let template = format!("{}/%u", file.display());
    let outcomes = deliver_maildir(&template, &message(&["b@x.test"], b"x\r\n"), "edge.test").await;
    assert!(matches!(&outcomes[0], Outcome::Deferred(failure) if failure.local), "{outcomes:?}");
    // A full disk has words of its own.
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    assert_eq!(super::refusal(&full, &file).to_string(), "452 4.3.1 Insufficient system storage");
}
