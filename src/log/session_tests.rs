use super::*;
use crate::log::folded;
use std::fs;
use std::path::PathBuf;

const PATIENCE: Duration = Duration::from_secs(20);

fn logging() -> Logging {
    Logging {
        max_age: Duration::from_hours(720),
        max_directory_size: 250 << 20,
        max_file_size: 10 << 20,
        quiet_probes_from: Vec::new(),
    }
}

fn open(directory: &Path, kind: Kind) -> ProtocolLog {
    // 2026-10-05T09:00:00.113Z
    let at = UNIX_EPOCH + Duration::from_millis(1_791_190_800_113);
    ProtocolLog::with_clock(directory, kind, &logging(), Arc::new(move || at))
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn receive_file(directory: &Path) -> PathBuf {
    directory.join("ProtocolLog/SmtpReceive/RECV2026100509-1.LOG")
}

#[test]
fn a_session_in_reads_as_exchange_writes_it() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path(), Kind::Receive);
    let mut session =
        log.session(r"EDGE01\Default internal receive connector EDGE01", address("203.0.113.9:41022"));
    session.connect(address("10.0.0.5:25"));
    session.info("SMTPSubmit SMTPAcceptAnySender", "Set Session Permissions");
    session.sent("220 edge01.lab.test Microsoft ESMTP MAIL Service ready at Mon, 5 Oct 2026 11:00:00 +0200");
    session.received("EHLO mta.example.net");
    session.sent(&folded(250, &["edge01.lab.test Hello [203.0.113.9]", "SIZE 37748736", "STARTTLS"]));
    session.received("STARTTLS");
    session.info("", "TLS negotiation failed with error SocketError (the peer offered at most TLS 1.1)");
    session.disconnect("Remote(SocketError)");
    let id = session.session_id();
    drop(session);
    assert!(log.sync(PATIENCE));
    let text = fs::read_to_string(receive_file(directory.path())).unwrap();
    let expected = include_str!("golden/receive.log").replace("{id}", &id.to_string());
    assert_eq!(text, expected.replace('\n', "\r\n"));
}

#[test]
fn a_session_out_learns_its_local_end_late() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path(), Kind::Send);
    let mut session = log.session("Outbound, to EOP", address("[2001:db8::25]:25"));
    session.info("SendRoutingHeaders", "Set Session Permissions");
    session.info("", "attempting to connect");
    session.connect(address("[2001:db8::5]:10437"));
    session.flush();
    assert!(log.sync(PATIENCE));
    let path = directory.path().join("ProtocolLog/SmtpSend/SEND2026100509-1.LOG");
    let text = fs::read_to_string(path).unwrap();
    let id = session.session_id();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[2], "#Log-type: SMTP Send Protocol Log");
    let start = format!("2026-10-05T09:00:00.113Z,\"Outbound, to EOP\",{id}");
    assert_eq!(
        lines[5..],
        [
            format!("{start},0,,[2001:db8::25]:25,*,SendRoutingHeaders,Set Session Permissions"),
            format!("{start},1,,[2001:db8::25]:25,*,,attempting to connect"),
            format!("{start},2,[2001:db8::5]:10437,[2001:db8::25]:25,+,,"),
        ]
    );
}

#[test]
fn a_quiet_probe_leaves_no_trace() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path(), Kind::Receive);
    let mut probe = log.session("a", address("192.0.2.1:1"));
    probe.hold();
    probe.connect(address("192.0.2.2:25"));
    probe.flush();
    probe.discard();
    probe.disconnect("Remote");
    drop(probe);
    let mut talk = log.session("b", address("192.0.2.1:2"));
    talk.hold();
    talk.connect(address("192.0.2.2:25"));
    talk.flush();
    talk.release();
    talk.flush();
    assert!(log.sync(PATIENCE));
    let text = fs::read_to_string(receive_file(directory.path())).unwrap();
    assert_eq!(text.lines().filter(|line| line.ends_with("+,,")).count(), 1);
    assert!(text.contains(",b,"));
}

#[test]
fn a_disabled_log_still_names_its_sessions() {
    let log = ProtocolLog::disabled();
    let mut one = log.session("x", address("192.0.2.1:1"));
    let two = log.session("x", address("192.0.2.1:1"));
    assert!(!one.enabled());
    one.sent("nothing");
    one.flush();
    assert_ne!(one.session_id(), two.session_id());
    assert!(log.sync(PATIENCE));
}

#[test]
fn session_ids_look_like_exchanges() {
    let id = SessionId::next().to_string();
    assert_eq!(id.len(), 16);
    assert!(id.starts_with("08D") || id.starts_with("08E"), "{id}");
    assert_eq!(SessionId(0xA001).to_string(), "000000000000A001");
}

#[test]
fn endpoints_are_written_as_everywhere() {
    for text in
        ["203.0.113.9:41022", "0.10.255.1:0", "127.0.0.1:65535", "[2001:db8::25]:25", "[::ffff:1.2.3.4]:1"]
    {
        let mut out = Vec::new();
        push_endpoint(&mut out, address(text));
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }
}

#[test]
fn a_long_session_hands_over_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path(), Kind::Receive);
    let mut session = log.session("x", address("192.0.2.1:1"));
    for _ in 0..500 {
        session.sent("250 2.0.0 OK");
        assert!(session.lines.as_ref().unwrap().buffer.len() < MAX_BUFFERED);
    }
    drop(session);
    assert!(log.sync(PATIENCE));
    let text = fs::read_to_string(receive_file(directory.path())).unwrap();
    assert_eq!(text.lines().count(), 505);
}
