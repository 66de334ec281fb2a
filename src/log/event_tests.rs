use super::*;
use std::io;
use std::sync::{Mutex, mpsc};

use tracing_subscriber::fmt::MakeWriter;

fn event() -> SessionEvent {
    SessionEvent {
        direction: Direction::In,
        connector: "Default Internet".into(),
        session_id: SessionId(0x08DE_0000_0000_A001),
        peer: "203.0.113.9:41022".parse().unwrap(),
        local: Some("10.0.0.5:25".parse().unwrap()),
        helo: Some("mta.example.net".into()),
        tls_version: Some("TLS1_3"),
        tls_cipher: Some("TLS_AES_256_GCM_SHA384"),
        tls_group: Some("X25519"),
        tls_peer_name: Some("mta.example.net".into()),
        tls_verified: true,
        no_tls_reason: None,
        attribution: None,
        validation: false,
        messages: 1,
        bytes: 2048,
        outcome: "closed by the peer".into(),
        duration: Duration::from_millis(35),
    }
}

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl io::Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Memory {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        self.clone()
    }
}

fn captured(json: bool, event: &SessionEvent) -> String {
    let memory = Memory::default();
    let builder = tracing_subscriber::fmt().with_writer(memory.clone()).with_ansi(false);
    let emit = || event.emit(&Observers::none());
    if json {
        tracing::subscriber::with_default(builder.json().flatten_event(true).finish(), emit);
    } else {
        tracing::subscriber::with_default(builder.without_time().finish(), emit);
    }
    String::from_utf8(memory.0.lock().unwrap().clone()).unwrap()
}

#[test]
fn a_validation_is_marked() {
    let text = captured(false, &SessionEvent { validation: true, ..event() });
    assert!(text.contains(" tls_verified=true validation=true messages=1 "), "{text}");
}

#[test]
fn the_text_form_reads_well() {
    assert_eq!(
        captured(false, &event()).trim(),
        "INFO gatepost::session: session direction=\"in\" connector=\"Default Internet\" \
         session_id=08DE00000000A001 peer=203.0.113.9:41022 local=10.0.0.5:25 helo=\"mta.example.net\" \
         tls_version=\"TLS1_3\" tls_cipher=\"TLS_AES_256_GCM_SHA384\" tls_group=\"X25519\" \
         tls_peer_name=\"mta.example.net\" tls_verified=true messages=1 bytes=2048 \
         outcome=\"closed by the peer\" duration_ms=35"
    );
}

#[test]
fn the_json_form_has_the_fields_of_the_interface() {
    let json: serde_json::Value = serde_json::from_str(&captured(true, &event())).unwrap();
    assert_eq!(json["target"], "gatepost::session");
    assert_eq!(json["tls_version"], "TLS1_3");
    assert_eq!(json["session_id"], "08DE00000000A001");
    assert_eq!(json["duration_ms"], 35);
    assert_eq!(json["tls_verified"], true);
}

#[test]
fn a_plain_session_says_why() {
    let plain = SessionEvent {
        tls_version: None,
        tls_cipher: None,
        tls_group: None,
        tls_peer_name: None,
        tls_verified: false,
        no_tls_reason: Some("the peer did not ask for it".into()),
        helo: Some("evil\r\n\u{1b}[31mname".into()),
        ..event()
    };
    let text = captured(false, &plain);
    assert!(text.contains("tls_version=\"none\"") && text.contains("no_tls_reason=\"the peer did not"));
    assert_eq!(text.lines().count(), 1, "a peer's name starts no line: {text}");
    assert!(!text.contains('\u{1b}'));
    assert!(plain.to_string().contains("no TLS (the peer did not ask for it), 1 message,"));
}

#[test]
fn observers_get_a_copy() {
    let (sender, receiver) = mpsc::channel();
    let mut observers = Observers::none();
    observers.add_channel(sender);
    event().emit(&observers);
    assert_eq!(receiver.recv().unwrap().bytes, 2048);
    drop(receiver);
    event().emit(&observers);
}
