//! Our parsers against smtp-proto, an implementation nobody here wrote, where it is right: no
//! quoted local parts, no address literals, no bare postmaster, no empty messages.

use proptest::prelude::*;
use smtp_proto::request::receiver::DataReceiver;
use smtp_proto::response::parser::ResponseReceiver;
use smtp_proto::{
    MAIL_BODY_7BIT, MAIL_BODY_8BITMIME, MAIL_BODY_BINARYMIME, MAIL_RET_FULL, MAIL_RET_HDRS, MAIL_SMTPUTF8,
    RCPT_NOTIFY_DELAY, RCPT_NOTIFY_FAILURE, RCPT_NOTIFY_NEVER, RCPT_NOTIFY_SUCCESS, Request,
};

use crate::smtp::{Bare, BodyType, Command, DataDecoder, ForwardPath, ReplyReader, Ret, xtext};

fn theirs(line: &str) -> Option<Request<String>> {
    let wire = format!("{line}\r\n");
    Request::parse(&mut wire.as_bytes().iter()).ok().map(Request::into_owned)
}

fn same(line: &str) -> Result<(), TestCaseError> {
    let ours = Command::parse(line.as_bytes());
    let theirs = theirs(line);
    match (ours, theirs) {
        (Ok(Command::Mail(ours)), Some(Request::Mail { from: theirs })) => {
            prop_assert_eq!(ours.from.as_ref().map_or("", |a| a.as_str()), &theirs.address);
            prop_assert_eq!(ours.size.unwrap_or(0), theirs.size as u64);
            let flag = |bit: u64| theirs.flags & bit != 0;
            let body = match ours.body {
                BodyType::SevenBit => !flag(MAIL_BODY_8BITMIME | MAIL_BODY_BINARYMIME),
                BodyType::EightBitMime => flag(MAIL_BODY_8BITMIME) && !flag(MAIL_BODY_7BIT),
                BodyType::BinaryMime => flag(MAIL_BODY_BINARYMIME) && !flag(MAIL_BODY_7BIT),
            };
            prop_assert!(body);
            prop_assert_eq!(ours.smtputf8, flag(MAIL_SMTPUTF8));
            prop_assert_eq!(ours.ret == Some(Ret::Full), flag(MAIL_RET_FULL));
            prop_assert_eq!(ours.ret == Some(Ret::Headers), flag(MAIL_RET_HDRS));
            prop_assert_eq!(ours.envid.map(|e| xtext::decode(&e).unwrap()), theirs.env_id);
        }
        (Ok(Command::Rcpt(ours)), Some(Request::Rcpt { to: theirs })) => {
            let ForwardPath::Mailbox(address) = &ours.to else { panic!("{ours:?}") };
            prop_assert_eq!(address.as_str(), &theirs.address);
            let flag = |bit: u64| theirs.flags & bit != 0;
            if let Some(notify) = ours.notify {
                prop_assert_eq!(notify.success, flag(RCPT_NOTIFY_SUCCESS));
                prop_assert_eq!(notify.failure, flag(RCPT_NOTIFY_FAILURE));
                prop_assert_eq!(notify.delay, flag(RCPT_NOTIFY_DELAY));
                let never = !(notify.success || notify.failure || notify.delay);
                prop_assert_eq!(never, flag(RCPT_NOTIFY_NEVER));
            }
            // Theirs drops the type of an ORCPT.
            let orcpt = ours.orcpt.map(|o| xtext::decode(o.split_once(';').unwrap().1).unwrap());
            prop_assert_eq!(orcpt, theirs.orcpt);
        }
        (Ok(Command::Bdat { size, last }), Some(Request::Bdat { chunk_size, is_last })) => {
            prop_assert_eq!((size, last), (chunk_size as u64, is_last));
        }
        (Ok(Command::Ehlo(name)), Some(Request::Ehlo { host })) => prop_assert_eq!(&*name, host),
        (ours, theirs) => prop_assert!(false, "{}: ours {:?}, theirs {:?}", line, ours, theirs),
    }
    Ok(())
}

fn address() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_+=-]{1,8}(\\.[a-z0-9]{1,8}){0,2}@[a-zA-Z0-9]{1,8}(\\.[a-z0-9]{1,8}){1,3}"
}

fn any_order(words: Vec<Option<String>>) -> impl Strategy<Value = String> {
    let words: Vec<String> = words.into_iter().flatten().map(|word| format!(" {word}")).collect();
    Just(words).prop_shuffle().prop_map(|words| words.concat())
}

fn maybe(regex: &str) -> impl Strategy<Value = Option<String>> {
    prop::option::of(prop::string::string_regex(regex).unwrap())
}

fn xtext_of(regex: &str) -> impl Strategy<Value = String> {
    prop::string::string_regex(regex).unwrap().prop_map(|text| xtext::encode(&text))
}

fn mail_parameters() -> impl Strategy<Value = String> {
    (
        maybe("(SIZE|size)=[0-9]{1,15}"),
        maybe("BODY=(7BIT|8BITMIME|BINARYMIME|8bitmime)"),
        maybe("SMTPUTF8"),
        maybe("RET=(FULL|HDRS|hdrs)"),
        prop::option::of(xtext_of("[ -~]{1,20}").prop_map(|e| format!("ENVID={e}"))),
    )
        .prop_flat_map(|(a, b, c, d, e)| any_order(vec![a, b, c, d, e]))
}

fn rcpt_parameters() -> impl Strategy<Value = String> {
    (
        maybe("NOTIFY=(NEVER|SUCCESS|FAILURE|DELAY|SUCCESS,FAILURE|FAILURE,DELAY|success,delay,failure)"),
        prop::option::of(xtext_of("[!-~]{1,20}").prop_map(|o| format!("ORCPT=rfc822;{o}"))),
    )
        .prop_flat_map(|(a, b)| any_order(vec![a, b]))
}

/// A body that has lines, starts with no dot, and in which every CR and LF belongs to a CRLF.
fn clean_wire() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec("((\\.\\.)?[a-z ][a-z. ]{0,20})?", 1..20)
        .prop_map(|lines| format!("x{}\r\n.\r\n", lines.join("\r\n")).into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn mail(from in prop::option::of(address()), parameters in mail_parameters()) {
        same(&format!("MAIL FROM:<{}>{parameters}", from.unwrap_or_default()))?;
    }

    #[test]
    fn rcpt(to in address(), parameters in rcpt_parameters()) {
        same(&format!("RCPT TO:<{to}>{parameters}"))?;
    }

    #[test]
    fn bdat_and_ehlo(size in 0u32.., last in any::<bool>(), name in "[a-z0-9]{1,10}(\\.[a-z0-9-]{1,5}[a-z]){0,3}") {
        same(&format!("BDAT {size}{}", if last { " LAST" } else { "" }))?;
        same(&format!("EHLO {name}"))?;
    }

    #[test]
    fn data(wire in clean_wire(), step in 1usize..64) {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let (mut decoder, mut receiver) = (DataDecoder::new(Bare::Keep), DataReceiver::new());
        for chunk in wire.chunks(step) {
            let (_, our_end) = decoder.feed(chunk, &mut ours);
            let their_end = receiver.ingest(&mut chunk.iter(), &mut theirs);
            prop_assert_eq!(our_end, their_end);
        }
        // Theirs leaves out the CRLF before the final dot, or not, with the version.
        let trimmed = |text: &[u8]| text.strip_suffix(b"\r\n").unwrap_or(text).to_vec();
        prop_assert_eq!(trimmed(&ours), trimmed(&theirs));
    }

    #[test]
    fn replies(code in prop_oneof![200u16..300, 400u16..600], lines in prop::collection::vec("[A-Za-z]{1,8}( [a-z]{1,8}){0,4}", 1..6), codes in any::<bool>()) {
        let enhanced = if codes { format!("{}.1.7 ", code / 100) } else { String::new() };
        let lines: Vec<String> = lines.iter().map(|line| format!("{enhanced}{line}\r\n")).collect();
        let wire = format!("{code}-{}", lines.join(&format!("{code}-")));
        let last = wire.rfind(&format!("{code}-")).unwrap();
        let wire = format!("{}{code} {}", &wire[..last], &wire[last + 4..]);
        let ours = ReplyReader::new().next(&mut wire.as_bytes().into()).unwrap().unwrap();
        let theirs = ResponseReceiver::default().parse(&mut wire.as_bytes().iter()).unwrap();
        prop_assert_eq!(ours.code, theirs.code);
        let enhanced = ours.enhanced.map_or([0; 3], |e| [e.0, e.1 as u8, e.2 as u8]);
        prop_assert_eq!(enhanced, theirs.esc);
        let squeeze = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        prop_assert_eq!(squeeze(&ours.text()), squeeze(&theirs.message));
    }
}
