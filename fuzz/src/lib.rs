//! What the fuzz targets check. Each takes arbitrary bytes and panics when a promise is broken.

mod log;
#[path = "../../src/smtp/tests/reference.rs"]
mod reference;
mod text;

use bytes::BytesMut;
use gatepost::smtp::{
    Address, Capabilities, Command, ForwardPath, Reply, ReplyError, ReplyReader, take_line, xtext,
};

pub use log::protocol_log;
pub use text::{bdat, data};

/// A command line: no panic, and whatever is accepted can be written to a log or a peer.
pub fn command(input: &[u8]) {
    let mut buffer = BytesMut::from(input);
    while let Ok(Some(line)) = take_line(&mut buffer, 2_000) {
        one_command(&line);
    }
    one_command(input);
}

fn one_command(line: &[u8]) {
    let parsed = Command::parse(line);
    let clean = |text: &str| assert!(!text.contains(char::is_control), "{text:?}");
    let address = |address: &Address| {
        clean(address.as_str());
        assert_eq!(Address::parse(address.as_str()).as_ref(), Ok(address));
    };
    match parsed {
        Ok(Command::Ehlo(name) | Command::Helo(name)) => {
            assert!(!name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic()));
        }
        Ok(Command::Mail(mail)) => {
            mail.from.iter().for_each(address);
            mail.envid.iter().chain(&mail.auth).for_each(|text| {
                assert!(xtext::is_xtext(text));
                assert!(!xtext::decode(text).unwrap().contains(['\r', '\n', '\0']));
            });
        }
        Ok(Command::Rcpt(rcpt)) => {
            if let ForwardPath::Mailbox(to) = &rcpt.to {
                address(to);
            }
            rcpt.orcpt.iter().for_each(|text| clean(text));
        }
        Ok(Command::Auth { mechanism, initial }) => {
            clean(&mechanism);
            initial.iter().for_each(|text| clean(text));
        }
        Ok(_) => {}
        Err(error) => assert!(error.reply().is_permanent()),
    }
}

/// Replies: packets do not matter, what was read can be written and read again, and the buffer
/// stays bounded.
pub fn reply(input: &[u8]) {
    let Some((&step, wire)) = input.split_first() else { return };
    let step = usize::from(step).max(1);
    let whole = read_replies(wire, wire.len().max(1));
    assert_eq!(read_replies(wire, step), whole);
    for reply in &whole.0 {
        assert!((200..600).contains(&reply.code));
        assert!(!reply.to_string().contains(char::is_control));
        let _ = Capabilities::from_ehlo(reply);
        let mut written = Vec::new();
        reply.write(&mut written);
        assert!(written.is_ascii());
        let mut buffer = BytesMut::from(&written[..]);
        let again = ReplyReader::new().next(&mut buffer).expect("ours is valid").expect("ours is whole");
        assert!(buffer.is_empty());
        assert_eq!((again.code, again.lines().count()), (reply.code, reply.lines().count()));
    }
}

fn read_replies(wire: &[u8], step: usize) -> (Vec<Reply>, Option<ReplyError>) {
    let (mut reader, mut buffer, mut replies) = (ReplyReader::new(), BytesMut::new(), Vec::new());
    for chunk in wire.chunks(step) {
        buffer.extend_from_slice(chunk);
        loop {
            match reader.next(&mut buffer) {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => break,
                Err(error) => return (replies, Some(error)),
            }
        }
        assert!(buffer.len() <= 64 * 2_002);
    }
    (replies, None)
}
