use std::net::SocketAddr;
use std::path::Path;

use gatepost::config::Config;
use gatepost::log::{self, Kind, ProtocolLog};

use super::super::input;
use super::{Case, case, on};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("log/folded", || {
            let lines = ["edge01 Hello [203.0.113.9]", "SIZE 37748736", "PIPELINING", "DSN", "STARTTLS"];
            on(lines, |lines| log::folded(250, lines))
        }),
        case("log/line", || line("RCPT TO:<don.hall@contoso.com>")),
        case("log/line-quoted", || {
            line(
                "250 2.6.0 <a@b> [InternalId=41175281763, Hostname=edge.contoso.com] Queued mail for delivery",
            )
        }),
        case("log/session", || {
            let log = protocol_log();
            on(peer(), move |peer| {
                let mut session = log.session("EDGE01\\Default Internet", *peer);
                session.connect(local());
                session.discard();
            })
        }),
    ]
}

fn peer() -> SocketAddr {
    ([203, 0, 113, 9], 41022).into()
}

fn local() -> SocketAddr {
    ([203, 0, 113, 25], 25).into()
}

/// Its lines go to a file of this process and are of no further use.
fn protocol_log() -> ProtocolLog {
    let config =
        Config::from_toml(input::CONFIGURATION, Path::new("/")).expect("a good configuration").config;
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("instructions-log");
    ProtocolLog::open(&directory, Kind::Receive, &config.logging)
}

/// One line of a session that has written others before; handing over to the writer is not
/// counted, because the lines stay below what a session keeps.
fn line(data: &'static str) -> Box<dyn FnMut()> {
    let mut session = protocol_log().session("EDGE01\\Default Internet", peer());
    // Room for the lines to come, so that none is counted with the buffer's growth.
    for _ in 0..90 {
        session.connect(local());
    }
    on(data, move |data| session.received(data))
}
