use super::*;
use std::time::UNIX_EPOCH;

const FORMAT: Format = Format { prefix: "RECV", version: "15.0.0.0", log_type: "Test Log", fields: "a,b" };
/// 2026-10-05 09:00:00 UTC.
const NINE: u64 = 1_791_190_800;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NINE + seconds)
}

fn limits() -> Limits {
    Limits { file: 1 << 20, directory: 1 << 30, age: Duration::ZERO }
}

fn listing(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_begins_with_five_header_lines() {
    let directory = tempfile::tempdir().unwrap();
    let mut files = Files::new(directory.path().join("a/b"), FORMAT, limits());
    files.write(b"1,2\r\n", at(0)).unwrap();
    let text = fs::read_to_string(directory.path().join("a/b/RECV2026100509-1.LOG")).unwrap();
    assert_eq!(
        text,
        "#Software: Microsoft Exchange Server\r\n#Version: 15.0.0.0\r\n#Log-type: Test Log\r\n\
         #Date: 2026-10-05T09:00:00.000Z\r\n#Fields: a,b\r\n1,2\r\n"
    );
    let mode = fs::metadata(directory.path().join("a/b")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o750);
}

#[test]
fn an_hour_later_a_new_file_begins_at_instance_one() {
    let directory = tempfile::tempdir().unwrap();
    let mut files = Files::new(directory.path().into(), FORMAT, limits());
    files.write(b"1\r\n", at(0)).unwrap();
    files.write(b"2\r\n", at(3599)).unwrap();
    files.write(b"3\r\n", at(3600)).unwrap();
    assert_eq!(listing(directory.path()), ["RECV2026100509-1.LOG", "RECV2026100510-1.LOG"]);
    assert!(
        fs::read_to_string(directory.path().join("RECV2026100509-1.LOG")).unwrap().ends_with("1\r\n2\r\n")
    );
}

#[test]
fn a_full_file_is_followed_by_the_next_instance_and_lines_stay_whole() {
    let directory = tempfile::tempdir().unwrap();
    let mut files = Files::new(directory.path().into(), FORMAT, limits());
    let header = files.header_size(at(0));
    files.limits.file = header + 20;
    let lines = "line n\r\n".repeat(10);
    files.write(lines.as_bytes(), at(0)).unwrap();
    assert_eq!(listing(directory.path()).len(), 5);
    for name in listing(directory.path()) {
        let text = fs::read_to_string(directory.path().join(&name)).unwrap();
        assert!(text.len() as u64 <= header + 20 && text.ends_with("\r\n"), "{name}");
        assert_eq!(text.lines().count(), 7, "{name}");
    }
    let long = format!("{}\r\nshort\r\n", "x".repeat(100));
    files.write(long.as_bytes(), at(0)).unwrap();
    assert_eq!(listing(directory.path()).len(), 7, "a line larger than a file has one to itself");
}

#[test]
fn after_a_restart_the_file_is_continued_unless_it_ends_in_half_a_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("RECV2026100509-1.LOG");
    let start = || Files::new(directory.path().into(), FORMAT, limits());
    start().write(b"1\r\n", at(0)).unwrap();
    start().write(b"2\r\n", at(1)).unwrap();
    assert!(fs::read_to_string(&path).unwrap().ends_with("\r\n1\r\n2\r\n"));
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"half").unwrap();
    start().write(b"3\r\n", at(2)).unwrap();
    assert_eq!(listing(directory.path()), ["RECV2026100509-1.LOG", "RECV2026100509-2.LOG"]);
}

#[test]
fn a_deleted_file_is_begun_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut files = Files::new(directory.path().into(), FORMAT, limits());
    files.write(b"1\r\n", at(0)).unwrap();
    fs::remove_file(directory.path().join("RECV2026100509-1.LOG")).unwrap();
    files.write(b"2\r\n", at(1)).unwrap();
    assert!(
        fs::read_to_string(directory.path().join("RECV2026100509-1.LOG")).unwrap().ends_with("a,b\r\n2\r\n")
    );
}

#[test]
fn old_files_of_our_own_name_go() {
    let directory = tempfile::tempdir().unwrap();
    let others = ["RECV.LOG", "RECV2020010100.LOG", "RECVX2020010100-1.LOG", "SEND2020010100-1.LOG", "n.txt"];
    for name in others.into_iter().chain(["RECV2026100407-1.LOG", "RECV2026100409-1.LOG"]) {
        fs::write(directory.path().join(name), "x").unwrap();
    }
    let limits = Limits { age: Duration::from_hours(24), ..limits() };
    let mut files = Files::new(directory.path().into(), FORMAT, limits);
    files.write(b"1\r\n", at(0)).unwrap();
    let mut expected: Vec<&str> = others.to_vec();
    expected.extend(["RECV2026100409-1.LOG", "RECV2026100509-1.LOG"]);
    expected.sort_unstable();
    assert_eq!(listing(directory.path()), expected);
}

#[test]
fn the_oldest_go_when_the_directory_is_too_large() {
    let directory = tempfile::tempdir().unwrap();
    for instance in [1, 2, 9, 10, 11] {
        fs::write(directory.path().join(format!("RECV2026100508-{instance}.LOG")), [0; 1000]).unwrap();
    }
    let limits = Limits { directory: 2500, ..limits() };
    let mut files = Files::new(directory.path().into(), FORMAT, limits);
    files.write(b"1\r\n", at(0)).unwrap();
    assert_eq!(
        listing(directory.path()),
        ["RECV2026100508-10.LOG", "RECV2026100508-11.LOG", "RECV2026100509-1.LOG"]
    );
}

#[test]
fn the_file_in_use_survives_a_tiny_limit() {
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits { directory: 1, file: 1, age: Duration::from_secs(1) };
    let mut files = Files::new(directory.path().into(), FORMAT, limits);
    files.write(b"1\r\n2\r\n3\r\n", at(0)).unwrap();
    assert_eq!(listing(directory.path()), ["RECV2026100509-3.LOG"]);
}
