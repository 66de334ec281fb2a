use bytes::BytesMut;
use gatepost::smtp::{
    Address, Bare, BdatDecoder, Capabilities, Command, ContentScanner, DataDecoder, DotStuffer, EnhancedCode,
    MAX_COMMAND_LINE, Reply, ReplyReader, take_line,
};

use super::super::input;
use super::{Case, case, on, on_fresh};

pub(super) fn cases() -> Vec<Case> {
    let mut all = commands();
    all.extend(replies());
    all.extend(content());
    all
}

fn parse(line: &'static [u8]) -> Box<dyn FnMut()> {
    on(line, |line| Command::parse(line))
}

fn commands() -> Vec<Case> {
    vec![
        case("command/ehlo", || parse(b"EHLO AM0PR05MB1234.eurprd05.prod.outlook.com")),
        case("command/mail", || parse(b"MAIL FROM:<adele.vance@fabrikam.example>")),
        case("command/mail-parameters", || {
            parse(b"MAIL FROM:<adele.vance@fabrikam.example> SIZE=9811 BODY=8BITMIME RET=HDRS ENVID=QQ314159")
        }),
        case("command/rcpt", || parse(b"RCPT TO:<don.hall@contoso.com>")),
        case("command/rcpt-parameters", || {
            parse(
                b"RCPT TO:<don.hall@contoso.com> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;don.hall@contoso.com",
            )
        }),
        case("command/data", || parse(b"DATA")),
        case("command/bdat", || parse(b"BDAT 9811 LAST")),
        case("command/garbage", || parse(b"GET /index.html HTTP/1.1")),
        case("line/flight", || {
            let buffer = || {
                let mut buffer = BytesMut::with_capacity(2048);
                buffer.extend_from_slice(input::FLIGHT);
                buffer
            };
            on_fresh(buffer, |buffer| {
                let mut length = 0;
                while let Ok(Some(line)) = take_line(buffer, MAX_COMMAND_LINE) {
                    length += line.len();
                }
                length
            })
        }),
        case("address/parse", || on("adele.vance@fabrikam.example", |text| Address::parse(text))),
    ]
}

/// Reads all replies in the buffer.
fn read_all(wire: &'static [u8]) -> Box<dyn FnMut()> {
    let fresh = move || {
        let mut buffer = BytesMut::with_capacity(4096);
        buffer.extend_from_slice(wire);
        buffer
    };
    // One reader a connection, as in service.
    let mut reader = ReplyReader::new();
    on_fresh(fresh, move |buffer| {
        let mut codes = 0;
        while let Ok(Some(reply)) = reader.next(buffer) {
            codes += u32::from(reply.code);
        }
        codes
    })
}

fn ehlo_reply() -> Reply {
    let mut buffer = BytesMut::from(input::EHLO_REPLY);
    ReplyReader::new().next(&mut buffer).ok().flatten().expect("a whole reply")
}

fn replies() -> Vec<Case> {
    vec![
        case("reply/read-one", || read_all(b"250 2.1.0 Sender OK\r\n")),
        case("reply/read-ehlo", || read_all(input::EHLO_REPLY)),
        case("reply/read-flight", || read_all(input::FLIGHT_REPLIES)),
        case("reply/display", || on(ehlo_reply(), Reply::to_string)),
        case("reply/write-one", || {
            let mut out = Vec::with_capacity(512);
            on((), move |()| {
                out.clear();
                Reply::write_one(&mut out, 250, Some(EnhancedCode(2, 1, 0)), "Sender OK");
            })
        }),
        case("capabilities/ehlo", || on(ehlo_reply(), Capabilities::from_ehlo)),
    ]
}

/// Decodes DATA that comes in pieces.
fn data(wire: Vec<u8>, piece: usize) -> Box<dyn FnMut()> {
    let mut out = Vec::with_capacity(wire.len());
    on(wire, move |wire| {
        out.clear();
        let mut decoder = DataDecoder::new(Bare::Keep);
        for piece in wire.chunks(piece) {
            decoder.feed(piece, &mut out);
        }
        decoder.facts()
    })
}

fn stuff(content: Vec<u8>) -> Box<dyn FnMut()> {
    let mut out = Vec::with_capacity(content.len() * 2);
    on(content, move |content| {
        out.clear();
        let mut stuffer = DotStuffer::new();
        stuffer.feed(content, &mut out);
        stuffer.finish(&mut out);
    })
}

fn content() -> Vec<Case> {
    vec![
        case("data/4k", || data(input::stuffed(&input::text(4096)), 8192)),
        case("data/4k-dots", || data(input::stuffed(&input::dots(4096)), 8192)),
        case("data/4k-pieces-of-7", || data(input::stuffed(&input::text(4096)), 7)),
        case("data/1m", || data(input::stuffed(&input::text(1 << 20)), 64 << 10)),
        case("bdat/4k", || {
            let mut out = Vec::with_capacity(8192);
            on(input::text(4096), move |content| {
                out.clear();
                let mut decoder = BdatDecoder::new(Bare::Keep);
                decoder.feed(content, &mut out);
                decoder.finish(&mut out);
                decoder.facts()
            })
        }),
        case("scan/4k", || {
            on(input::text(4096), |content| {
                let mut scanner = ContentScanner::new();
                scanner.feed(content);
                scanner.facts()
            })
        }),
        case("stuff/4k", || stuff(input::text(4096))),
        case("stuff/4k-dots", || stuff(input::dots(4096))),
    ]
}
