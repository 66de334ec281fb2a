//! Commands as clients send them, well and badly.

use crate::smtp::*;
use proptest::prelude::*;

fn parse(line: &str) -> Result<Command, CommandError> {
    Command::parse(line.as_bytes())
}

fn mail(line: &str) -> MailCommand {
    match parse(line) {
        Ok(Command::Mail(mail)) => mail,
        other => panic!("{line:?}: {other:?}"),
    }
}

fn rcpt(line: &str) -> RcptCommand {
    match parse(line) {
        Ok(Command::Rcpt(rcpt)) => rcpt,
        other => panic!("{line:?}: {other:?}"),
    }
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

#[test]
fn simple_commands_in_any_case() {
    for (line, command) in [
        ("DATA", Command::Data),
        ("data", Command::Data),
        ("DATA  \t", Command::Data),
        ("RsEt", Command::Rset),
        ("quit", Command::Quit),
        ("NOOP", Command::Noop),
        ("NOOP whatever it is", Command::Noop),
        ("HELP MAIL", Command::Help),
        ("VRFY someone", Command::Vrfy),
        ("EXPN list", Command::Expn),
        ("StartTLS", Command::StartTls),
        ("EHLO mail.example.com", Command::Ehlo("mail.example.com".into())),
        ("EHLO  PC_01", Command::Ehlo("PC_01".into())),
        ("EHLO [192.0.2.1]", Command::Ehlo("[192.0.2.1]".into())),
        ("helo [IPv6:2001:db8::1]", Command::Helo("[IPv6:2001:db8::1]".into())),
        ("BDAT 0 LAST", Command::Bdat { size: 0, last: true }),
        ("bdat 86 last", Command::Bdat { size: 86, last: true }),
        ("BDAT 18446744073709551615", Command::Bdat { size: u64::MAX, last: false }),
        ("AUTH login", Command::Auth { mechanism: "LOGIN".into(), initial: None }),
        ("AUTH PLAIN =", Command::Auth { mechanism: "PLAIN".into(), initial: Some("=".into()) }),
        (
            "AUTH PLAIN AGEAYg==",
            Command::Auth { mechanism: "PLAIN".into(), initial: Some("AGEAYg==".into()) },
        ),
    ] {
        let verb = Verb::parse(line.split(' ').next().unwrap().as_bytes()).unwrap();
        assert_eq!(command.verb(), verb);
        assert_eq!(Verb::parse(verb.to_string().as_bytes()), Some(verb));
        assert_eq!(parse(line), Ok(command), "{line:?}");
    }
}

#[test]
fn each_fault_has_its_error() {
    use CommandError::*;
    for (line, error) in [
        ("", UnknownVerb),
        (" NOOP", UnknownVerb),
        ("FOO", UnknownVerb),
        ("MAILFROM:<a@b>", UnknownVerb),
        ("LHLO x", UnknownVerb),
        ("GET / HTTP/1.1", UnknownVerb),
        ("NOOP\0", NotText),
        ("QUIT\r", NotText),
        ("MAIL FROM:<a@b>\rRCPT TO:<c@d>", NotText),
        ("MAIL FROM:<a@b>\nRCPT TO:<c@d>", NotText),
        ("MAIL\tFROM:<a@b>", NotText),
        ("NOOP \u{7f}", NotText),
        ("NOOP \u{85}", NotText),
        ("NOOP \u{e9}", InvalidArguments(Verb::Noop)),
        ("HELP \u{e9}", InvalidArguments(Verb::Help)),
        ("DATA foo", InvalidArguments(Verb::Data)),
        ("RSET foo", InvalidArguments(Verb::Rset)),
        ("QUIT now", InvalidArguments(Verb::Quit)),
        ("STARTTLS foo", InvalidArguments(Verb::StartTls)),
        ("VRFY", InvalidArguments(Verb::Vrfy)),
        ("EXPN ", InvalidArguments(Verb::Expn)),
        ("EHLO", InvalidDomain),
        ("EHLO ", InvalidDomain),
        ("HELO", InvalidDomain),
        ("EHLO a b", InvalidDomain),
        ("EHLO a(b)", InvalidDomain),
        ("EHLO []", InvalidDomain),
        ("EHLO [1.2.3.4", InvalidDomain),
        ("EHLO 1.2.3.4]", InvalidDomain),
        ("EHLO caf\u{e9}", InvalidDomain),
        ("BDAT", InvalidArguments(Verb::Bdat)),
        ("BDAT x", InvalidArguments(Verb::Bdat)),
        ("BDAT +5", InvalidArguments(Verb::Bdat)),
        ("BDAT -5", InvalidArguments(Verb::Bdat)),
        ("BDAT LAST", InvalidArguments(Verb::Bdat)),
        ("BDAT 5 LASTING", InvalidArguments(Verb::Bdat)),
        ("BDAT 5 LAST LAST", InvalidArguments(Verb::Bdat)),
        ("BDAT 18446744073709551616", InvalidArguments(Verb::Bdat)),
        ("AUTH", InvalidArguments(Verb::Auth)),
        ("AUTH PLAIN a b", InvalidArguments(Verb::Auth)),
        ("AUTH PLAIN !!!!", InvalidArguments(Verb::Auth)),
        ("AUTH PLAIN abc", InvalidArguments(Verb::Auth)),
        ("AUTH PL@IN", InvalidArguments(Verb::Auth)),
        ("AUTH A23456789012345678901", InvalidArguments(Verb::Auth)),
        ("MAIL", InvalidArguments(Verb::Mail)),
        ("MAIL FROM", InvalidArguments(Verb::Mail)),
        ("MAIL FROM:", InvalidArguments(Verb::Mail)),
        ("MAIL FROM :<a@b>", InvalidArguments(Verb::Mail)),
        ("MAIL TO:<a@b>", InvalidArguments(Verb::Mail)),
        ("MAIL \u{e9}\u{e9}\u{e9}:<a@b>", InvalidArguments(Verb::Mail)),
        ("MAIL FROM:<a@b>SIZE=1", InvalidArguments(Verb::Mail)),
        ("MAIL FROM:<a@b>> SIZE=1", InvalidArguments(Verb::Mail)),
        ("MAIL FROM:<a@b> =1", InvalidArguments(Verb::Mail)),
        ("MAIL FROM:<a@b> -A=1", InvalidArguments(Verb::Mail)),
        ("MAIL FROM:<a@b> S_Z=1", InvalidArguments(Verb::Mail)),
        ("MAIL FROM:<a", InvalidSender(AddressError::Form)),
        ("MAIL FROM:<a@b", InvalidSender(AddressError::Form)),
        ("MAIL FROM:<postmaster>", InvalidSender(AddressError::Form)),
        ("MAIL FROM:<a b@c>", InvalidSender(AddressError::LocalPart)),
        ("MAIL FROM:<<a@b>>", InvalidArguments(Verb::Mail)),
        ("MAIL FROM:<<a@b>", InvalidSender(AddressError::LocalPart)),
        ("MAIL FROM:<a@b>c@d>", InvalidArguments(Verb::Mail)),
        ("MAIL FROM:< a@b>", InvalidSender(AddressError::LocalPart)),
        ("MAIL FROM:<a@b >", InvalidSender(AddressError::Domain)),
        ("RCPT TO:<>", InvalidRecipient(AddressError::Form)),
        ("RCPT TO:", InvalidArguments(Verb::Rcpt)),
        ("RCPT TO:<@x:postmaster>", InvalidRecipient(AddressError::Form)),
        ("RCPT TO:<@x:>", InvalidRecipient(AddressError::Form)),
        ("RCPT TO:<@x,a@b>", InvalidRecipient(AddressError::Form)),
        ("RCPT TO:<@x y:a@b>", InvalidRecipient(AddressError::Domain)),
        ("RCPT TO:<@[::a@b>", InvalidRecipient(AddressError::Domain)),
        ("RCPT TO:@x:a@b", InvalidRecipient(AddressError::Form)),
        ("RCPT TO:<a@b> SIZE=1", UnknownParameter(Verb::Rcpt)),
        ("MAIL FROM:<a@b> NOTIFY=NEVER", UnknownParameter(Verb::Mail)),
        ("MAIL FROM:<a@b> XOORG=x", UnknownParameter(Verb::Mail)),
        ("MAIL FROM:<a@b> SIZE=1 size=1", DuplicateParameter(Verb::Mail)),
        ("MAIL FROM:<a@b> SMTPUTF8 SMTPUTF8", DuplicateParameter(Verb::Mail)),
        ("RCPT TO:<a@b> NOTIFY=NEVER NOTIFY=NEVER", DuplicateParameter(Verb::Rcpt)),
        ("MAIL FROM:<a@b> SIZE", InvalidParameter(Verb::Mail, "SIZE")),
        ("MAIL FROM:<a@b> SIZE=", InvalidParameter(Verb::Mail, "SIZE")),
        ("MAIL FROM:<a@b> SIZE=+1", InvalidParameter(Verb::Mail, "SIZE")),
        ("MAIL FROM:<a@b> SIZE=18446744073709551616", InvalidParameter(Verb::Mail, "SIZE")),
        ("MAIL FROM:<a@b> BODY=9BIT", InvalidParameter(Verb::Mail, "BODY")),
        ("MAIL FROM:<a@b> SMTPUTF8=1", InvalidParameter(Verb::Mail, "SMTPUTF8")),
        ("MAIL FROM:<a@b> RET=ALL", InvalidParameter(Verb::Mail, "RET")),
        ("MAIL FROM:<a@b> ENVID=", InvalidParameter(Verb::Mail, "ENVID")),
        ("MAIL FROM:<a@b> ENVID=a+zz", InvalidParameter(Verb::Mail, "ENVID")),
        ("MAIL FROM:<a@b> ENVID=a=b", InvalidParameter(Verb::Mail, "ENVID")),
        ("MAIL FROM:<a@b> ENVID=a+0D+0Ab", InvalidParameter(Verb::Mail, "ENVID")),
        ("MAIL FROM:<a@b> AUTH=a+0", InvalidParameter(Verb::Mail, "AUTH")),
        ("RCPT TO:<a@b> NOTIFY=NEVER,SUCCESS", InvalidParameter(Verb::Rcpt, "NOTIFY")),
        ("RCPT TO:<a@b> NOTIFY=SUCCESS,,DELAY", InvalidParameter(Verb::Rcpt, "NOTIFY")),
        ("RCPT TO:<a@b> NOTIFY=", InvalidParameter(Verb::Rcpt, "NOTIFY")),
        ("RCPT TO:<a@b> ORCPT=a@b", InvalidParameter(Verb::Rcpt, "ORCPT")),
        ("RCPT TO:<a@b> ORCPT=;a@b", InvalidParameter(Verb::Rcpt, "ORCPT")),
        ("RCPT TO:<a@b> ORCPT=rfc822;a+0Ab", InvalidParameter(Verb::Rcpt, "ORCPT")),
        ("RCPT TO:<a@b> ORCPT=rfc822;\u{e9}@b", InvalidParameter(Verb::Rcpt, "ORCPT")),
    ] {
        assert_eq!(parse(line), Err(error), "{line:?}");
        let reply = error.reply();
        assert!(reply.is_permanent() && reply.enhanced.is_some_and(|e| e.0 == 5));
    }
    assert_eq!(Command::parse(b"MAIL FROM:<\xff@b>"), Err(NotText));
    assert_eq!(Command::parse(b"\x16\x03\x01\x02\x00\x01"), Err(NotText));
}

#[test]
fn mail_with_everything() {
    let got = mail(
        "mail from: <\"john > doe\"@x.example>  size=12345 Body=8bitmime SMTPUTF8 ret=hdrs ENVID=QQ+2B314 AUTH=<>",
    );
    assert_eq!(
        got,
        MailCommand {
            from: Some(address("\"john > doe\"@x.example")),
            size: Some(12_345),
            body: BodyType::EightBitMime,
            smtputf8: true,
            ret: Some(Ret::Headers),
            envid: Some("QQ+2B314".into()),
            auth: Some("<>".into()),
        }
    );
    assert_eq!(mail("MAIL FROM:<>").from, None);
    assert_eq!(mail("MAIL FROM:<> BODY=7BIT").body, BodyType::SevenBit);
    assert_eq!(mail("MAIL FROM:a@b SIZE=0").size, Some(0));
    assert_eq!(mail("MAIL FROM:\"a b\"@c RET=FULL").from, Some(address("\"a b\"@c")));
    assert_eq!(mail("MAIL FROM:<a@b> BODY=BINARYMIME").body, BodyType::BinaryMime);
    assert_eq!(mail(&format!("MAIL FROM:<> ENVID={}", "x".repeat(100))).envid.unwrap().len(), 100);
    let long = format!("MAIL FROM:<> ENVID={}", "x".repeat(101));
    assert_eq!(parse(&long), Err(CommandError::InvalidParameter(Verb::Mail, "ENVID")));
}

#[test]
fn rcpt_with_everything() {
    let got = rcpt("RCPT TO:<Bob@Example.COM> NOTIFY=SUCCESS,delay ORCPT=rfc822;Bob+40Example.COM");
    assert_eq!(got.to, ForwardPath::Mailbox(address("Bob@Example.COM")));
    assert_eq!(got.notify, Some(Notify { success: true, failure: false, delay: true }));
    assert_eq!(got.orcpt.as_deref(), Some("rfc822;Bob+40Example.COM"));
    assert_eq!(rcpt("RCPT TO:<a@b> NOTIFY=never").notify, Some(Notify::default()));
    assert_eq!(rcpt("RCPT TO: a@b").to, ForwardPath::Mailbox(address("a@b")));
    for line in ["RCPT TO:<postmaster>", "rcpt to:<PostMaster>", "RCPT TO:postmaster"] {
        assert_eq!(rcpt(line).to, ForwardPath::Postmaster);
    }
    assert_eq!(rcpt("RCPT TO:<postmaster@x>").to, ForwardPath::Mailbox(address("postmaster@x")));
    let orcpt = |n: usize| format!("RCPT TO:<a@b> ORCPT=rfc822;{}", "x".repeat(n));
    assert!(rcpt(&orcpt(493)).orcpt.is_some());
    assert!(parse(&orcpt(494)).is_err());
}

#[test]
fn source_routes_are_stripped() {
    for path in ["<@a:u@d>", "<@a,@b.example:u@d>", "<@[127.0.0.1],@[IPv6:::1]:u@d>"] {
        assert_eq!(rcpt(&format!("RCPT TO:{path}")).to, ForwardPath::Mailbox(address("u@d")), "{path}");
        assert_eq!(mail(&format!("MAIL FROM:{path}")).from, Some(address("u@d")), "{path}");
    }
}

#[test]
fn what_needs_smtputf8_is_told() {
    assert!(mail("MAIL FROM:<用户@例え.jp>").lacks_smtputf8());
    assert!(!mail("MAIL FROM:<用户@例え.jp> SMTPUTF8").lacks_smtputf8());
    assert!(!mail("MAIL FROM:<a@b>").lacks_smtputf8());
    assert!(rcpt("RCPT TO:<a@例え.jp>").needs_smtputf8());
    assert!(rcpt("RCPT TO:<a@b> ORCPT=utf-8;用户@b").needs_smtputf8());
    assert!(!rcpt("RCPT TO:<a@b> ORCPT=utf-8;\\x{7528}@b").needs_smtputf8());
    assert!(!rcpt("RCPT TO:<postmaster>").needs_smtputf8());
}

proptest! {
    #[test]
    fn xtext_comes_back(text in any::<String>()) {
        let encoded = xtext::encode(&text);
        prop_assert!(xtext::is_xtext(&encoded));
        prop_assert_eq!(xtext::decode(&encoded), Some(text));
    }

    #[test]
    fn xtext_is_told_from_other_text(text in "[+=0-9A-Fa-f ~é]{0,12}") {
        prop_assert_eq!(xtext::is_xtext(&text), xtext::decode(&text).is_some() || {
            // Well-formed, but what it stands for is not UTF-8.
            xtext::is_xtext(&text) && text.contains('+')
        });
        if let Some(plain) = xtext::decode(&text) {
            prop_assert_eq!(xtext::decode(&xtext::encode(&plain)), Some(plain));
        }
    }

    #[test]
    fn no_line_does_harm(line in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Command::parse(&line);
    }

    #[test]
    fn no_command_carries_a_control_character(
        line in "(MAIL FROM|RCPT TO|EHLO|AUTH|BDAT) ?:?[<]?[ -~\u{0}-\u{1f}é@.\"]{0,30}[>]?( [A-Z0-9=;+,]{0,20}){0,3}",
    ) {
        if let Ok(command) = parse(&line) {
            prop_assert!(!line.trim_end_matches('\t').contains(char::is_control), "{command:?}");
        }
    }
}
