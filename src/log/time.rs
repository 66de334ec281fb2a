//! Time as the logs and the protocol spell it, cheap enough for every line.
//!
//! Within one second only the milliseconds of a time stamp change, so each thread keeps the rest
//! of the last one it made.

use std::cell::{Cell, RefCell};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// `2026-10-05T09:00:00.113Z` (exchange-edge.md 4.1).
pub fn exchange_utc(at: SystemTime) -> String {
    // ASCII by construction, so the fallback is never taken.
    std::str::from_utf8(&exchange_text(at)).unwrap_or_default().to_owned()
}

/// Appends what [`exchange_utc`] returns.
pub(super) fn push_exchange_utc(out: &mut Vec<u8>, at: SystemTime) {
    out.extend_from_slice(&exchange_text(at));
}

fn exchange_text(at: SystemTime) -> [u8; 24] {
    thread_local! {
        static LAST: Cell<(u64, [u8; 19])> = const { Cell::new((u64::MAX, [0; 19])) };
    }
    let since = since_epoch(at);
    let (second, mut whole) = LAST.get();
    if second != since.as_secs() {
        whole = second_text(since.as_secs());
        LAST.set((since.as_secs(), whole));
    }
    let mut text = *b"0000-00-00T00:00:00.000Z";
    text[..19].copy_from_slice(&whole);
    let millis = since.subsec_millis();
    text[20..23].copy_from_slice(&[millis / 100, millis / 10 % 10, millis % 10].map(|n| b'0' + n as u8));
    text
}

/// `2026-10-05T09:00:00Z` (RFC 3339), for certificates and reports.
pub fn rfc3339(at: SystemTime) -> String {
    let mut text = String::from_utf8_lossy(&second_text(since_epoch(at).as_secs())).into_owned();
    text.push('Z');
    text
}

/// `2026100509`: the hour in the name of a log file (exchange-edge.md 4.1).
pub(super) fn file_hour(at: SystemTime) -> String {
    let text = second_text(since_epoch(at).as_secs());
    text[..13].iter().filter(|b| b.is_ascii_digit()).map(|&b| char::from(b)).collect()
}

/// `Mon, 5 Oct 2026 11:00:00 +0200` in the local zone, day of month without a leading zero
/// (exchange-edge.md 1.5).
pub fn rfc5322(at: SystemTime) -> String {
    thread_local! {
        static LAST: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
    }
    let second = since_epoch(at).as_secs();
    LAST.with_borrow_mut(|(cached, text)| {
        if *cached != second {
            *text = rfc5322_in(second, &TimeZone::system());
            *cached = second;
        }
        text.clone()
    })
}

/// The same in UTC, with `+0000`.
pub fn rfc5322_utc(at: SystemTime) -> String {
    rfc5322_in(since_epoch(at).as_secs(), &TimeZone::UTC)
}

fn rfc5322_in(second: u64, zone: &TimeZone) -> String {
    let stamp = Timestamp::from_second(i64::try_from(second).unwrap_or(0)).unwrap_or_default();
    stamp.to_zoned(zone.clone()).strftime("%a, %-d %b %Y %H:%M:%S %z").to_string()
}

/// A clock set before 1970 reads as 1970: a wrong stamp is better than a stopped relay.
fn since_epoch(at: SystemTime) -> Duration {
    at.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// `2026-10-05T09:00:00`.
fn second_text(second: u64) -> [u8; 19] {
    let (year, month, day) = civil(second / 86_400);
    let of_day = second % 86_400;
    let mut text = *b"0000-00-00T00:00:00";
    let mut put = |at: usize, width: usize, mut value: u64| {
        for slot in text[at..at + width].iter_mut().rev() {
            *slot = b'0' + (value % 10) as u8;
            value /= 10;
        }
    };
    put(0, 4, year);
    put(5, 2, month);
    put(8, 2, day);
    put(11, 2, of_day / 3600);
    put(14, 2, of_day / 60 % 60);
    put(17, 2, of_day % 60);
    text
}

/// Year, month and day of a day counted from 1970-01-01 in the Gregorian calendar. The year is
/// counted from March, so that the leap day comes last.
fn civil(day: u64) -> (u64, u64, u64) {
    let shifted = day + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, of_year - (153 * shifted_month + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(seconds * 1000 + millis)
    }

    #[test]
    fn exchange_form_has_three_decimals_and_z() {
        // 2026-10-05 09:00:00 UTC
        assert_eq!(exchange_utc(at(1_791_190_800, 113)), "2026-10-05T09:00:00.113Z");
        assert_eq!(exchange_utc(at(1_791_190_800, 7)), "2026-10-05T09:00:00.007Z");
        assert_eq!(exchange_utc(at(1_791_190_801, 0)), "2026-10-05T09:00:01.000Z");
        assert_eq!(rfc3339(at(1_791_190_800, 113)), "2026-10-05T09:00:00Z");
        assert_eq!(file_hour(at(1_791_190_800, 113)), "2026100509");
    }

    #[test]
    fn the_calendar_agrees_with_an_independent_one() {
        for day in (0..60_000_u32).step_by(13) {
            let second = u64::from(day) * 86_400 + 3_723;
            let ours = exchange_utc(at(second, 5));
            let theirs = Timestamp::from_second(second.cast_signed()).unwrap();
            assert_eq!(ours, theirs.strftime("%Y-%m-%dT%H:%M:%S.005Z").to_string());
        }
    }

    #[test]
    fn rfc5322_drops_the_leading_zero_of_the_day() {
        assert_eq!(rfc5322_utc(at(1_791_190_800, 0)), "Mon, 5 Oct 2026 09:00:00 +0000");
        let berlin = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(rfc5322_in(1_791_190_800, &berlin), "Mon, 5 Oct 2026 11:00:00 +0200");
        let west = TimeZone::fixed(jiff::tz::offset(-7));
        assert_eq!(rfc5322_in(1_470_439_481, &west), "Fri, 5 Aug 2016 16:24:41 -0700");
    }

    #[test]
    fn a_clock_before_1970_is_no_panic() {
        assert_eq!(exchange_utc(UNIX_EPOCH - Duration::from_secs(5)), "1970-01-01T00:00:00.000Z");
    }
}
