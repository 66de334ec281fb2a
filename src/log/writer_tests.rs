use super::super::files::{Format, Limits};
use super::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

const FORMAT: Format = Format { prefix: "RECV", version: "1", log_type: "Test", fields: "a" };
const PATIENCE: Duration = Duration::from_secs(20);

fn files(directory: &Path) -> Files {
    let limits = Limits { file: 1 << 30, directory: 1 << 40, age: Duration::ZERO };
    Files::new(directory.into(), FORMAT, limits)
}

fn loss(lost: u64, _: SystemTime) -> String {
    format!("{lost} lost\r\n")
}

/// 2026-10-05 09:00:00 UTC.
fn nine() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_791_190_800_113)
}

fn clock() -> Clock {
    Arc::new(nine)
}

fn file(directory: &Path) -> PathBuf {
    directory.join("RECV2026100509-1.LOG")
}

fn body(directory: &Path) -> String {
    let text = fs::read_to_string(file(directory)).unwrap();
    text.lines().filter(|line| !line.starts_with('#')).flat_map(|line| [line, "\n"]).collect()
}

#[test]
fn lines_arrive_in_order_and_at_once_when_asked() {
    let directory = tempfile::tempdir().unwrap();
    let writer = Writer::start(files(directory.path()), loss, clock());
    writer.submit("1\r\n2\r\n", 2);
    writer.submit("3\r\n", 1);
    assert!(writer.sync(PATIENCE));
    assert_eq!(body(directory.path()), "1\n2\n3\n");
}

#[test]
fn lines_arrive_without_asking_too() {
    let directory = tempfile::tempdir().unwrap();
    let writer = Writer::start(files(directory.path()), loss, clock());
    writer.submit("1\r\n", 1);
    let begun = Instant::now();
    while !fs::read_to_string(file(directory.path())).is_ok_and(|text| text.ends_with("\n1\r\n")) {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn the_last_lines_are_written_when_the_handle_goes() {
    let directory = tempfile::tempdir().unwrap();
    let writer = Writer::start(files(directory.path()), loss, clock());
    let shared = writer.shared.clone();
    writer.submit("last\r\n", 1);
    drop(writer);
    let begun = Instant::now();
    while Arc::strong_count(&shared) > 1 {
        assert!(begun.elapsed() < PATIENCE, "the thread ends");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(body(directory.path()), "last\n");
}

#[test]
fn what_does_not_fit_is_counted_and_told() {
    let directory = tempfile::tempdir().unwrap();
    let (gate, wait) = std::sync::mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    // The thread asks for the time before it takes anything: it stands at the gate.
    let gated: Clock = Arc::new(move || {
        let _ = wait.lock().unwrap().recv();
        nine()
    });
    let writer = Writer::with_limit(files(directory.path()), loss, gated, 9);
    writer.submit("1\r\n2\r\n3\r\n", 3);
    for _ in 0..4 {
        writer.submit("x\r\n", 1);
    }
    drop(gate);
    assert!(writer.sync(PATIENCE));
    writer.submit("4\r\n", 1);
    assert!(writer.sync(PATIENCE));
    assert_eq!(body(directory.path()), "4 lost\n1\n2\n3\n4\n");
}

#[test]
fn a_directory_that_cannot_be_written_costs_lines_only() {
    let directory = tempfile::tempdir().unwrap();
    // A file in the place of the directory fails for root too.
    let place = directory.path().join("log");
    fs::write(&place, "in the way").unwrap();
    let writer = Writer::start(files(&place), loss, clock());
    writer.submit("1\r\n2\r\n", 2);
    assert!(writer.sync(PATIENCE));
    fs::remove_file(&place).unwrap();
    std::thread::sleep(PAUSE_AFTER_ERROR);
    writer.submit("3\r\n", 1);
    assert!(writer.sync(PATIENCE));
    assert_eq!(body(&place), "2 lost\n3\n");
}

#[test]
fn a_reader_sees_whole_lines_while_many_write() {
    let directory = tempfile::tempdir().unwrap();
    let writer = Writer::start(files(directory.path()), loss, clock());
    let line = format!("{}\r\n", "x".repeat(70));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    writer.submit(line.repeat(3), 3);
                }
            });
        }
        for _ in 0..50 {
            let text = fs::read_to_string(file(directory.path())).unwrap_or_default();
            // The end of the file may move while it is read; every line before it is whole.
            let upto = text.rfind('\n').map_or(0, |at| at + 1);
            for seen in text[..upto].split_inclusive('\n').filter(|seen| !seen.starts_with('#')) {
                assert_eq!(seen, line);
            }
        }
    });
    assert!(writer.sync(PATIENCE));
    assert_eq!(body(directory.path()).lines().count(), 4 * 2000 * 3);
}
