//! The small languages inside strings: durations, sizes, hosts, address spaces, addresses.
//!
//! Each parser returns the value or one sentence saying what is expected; the caller adds the
//! place and the key. None of them panics or overflows, whatever the text.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::domain::{DomainError, DomainPattern, ascii_domain};
use super::model::{AddressSpace, Host, SmartHost, Space};
use super::range::IpRange;

/// Ten years: longer is a slip, and adding it to a clock must stay far from overflow.
const LONGEST: Duration = Duration::from_hours(3650 * 24);

/// How a text is quoted in a message: bounded, and without line breaks or escape sequences that
/// could disguise the message.
pub(super) fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    // escape_debug also escapes quotes, which are harmless here and common in subjects.
    shown = shown.replace("\\\"", "\"").replace("\\'", "'");
    if text.chars().nth(80).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// Splits `36MB` into number and unit; a blank between them is let pass.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number = text.get(..digits)?.parse().ok()?;
    Some((number, text.get(digits..)?.trim_start()))
}

/// `90s`, `10m`, `2d`, `0s`; the error is a sentence.
pub fn duration(text: &str) -> Result<Duration, String> {
    let expected =
        || format!("{} is no duration such as \"500ms\", \"90s\", \"10m\", \"4h\" or \"2d\"", quoted(text));
    let (number, unit) = number_and_unit(text).ok_or_else(expected)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(expected()),
    };
    number
        .checked_mul(millis)
        .map(Duration::from_millis)
        .filter(|d| *d <= LONGEST)
        .ok_or_else(|| format!("{} is longer than ten years", quoted(text)))
}

/// `64KB`, `36MB`, `2GB`, in binary multiples; `unlimited`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let expected = || {
        format!("{} is no size such as \"512B\", \"64KB\", \"36MB\", \"2GB\" or \"unlimited\"", quoted(text))
    };
    if text.trim().eq_ignore_ascii_case("unlimited") {
        return Ok(u64::MAX);
    }
    let (number, unit) = number_and_unit(text).ok_or_else(expected)?;
    let shift = match unit.to_ascii_uppercase().as_str() {
        "B" => 0,
        "KB" => 10,
        "MB" => 20,
        "GB" => 30,
        _ => return Err(expected()),
    };
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| format!("{} is too large; write \"unlimited\" for no limit", quoted(text)))
}

/// A size that is a limit on something, so never zero.
pub(super) fn limit(text: &str) -> Result<u64, String> {
    match size(text)? {
        0 => Err("zero leaves no room for anything; write \"unlimited\" for no limit".into()),
        bytes => Ok(bytes),
    }
}

/// A duration of at least a millisecond.
pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be longer than zero".into()),
        duration => Ok(duration),
    }
}

/// An IP range in one of Exchange's forms.
pub(super) fn range(text: &str) -> Result<IpRange, String> {
    IpRange::parse(text).map_err(|e| e.to_string())
}

/// An address and port, `0.0.0.0:25` or `[::]:25`.
pub(super) fn binding(text: &str) -> Result<SocketAddr, String> {
    let expected =
        || format!("{} is no address and port such as \"0.0.0.0:25\" or \"[::]:25\"", quoted(text));
    text.trim().parse().map_err(|_| expected())
}

/// A DNS server: an address, with port 53 unless it names one.
pub(super) fn dns_server(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim();
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, 53));
    }
    text.parse().map_err(|_| {
        format!("{} is no DNS server: \"system\", an address, or an address and port", quoted(text))
    })
}

/// A host name, kept as written when it is ASCII, else in A-label form.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    let ascii = ascii_domain(text).map_err(|_| format!("{} is no host name", quoted(text)))?;
    if text.is_ascii() { Ok(text.trim_end_matches('.').to_owned()) } else { Ok(ascii) }
}

/// A domain pattern: `contoso.com` or `*.contoso.com`.
pub(super) fn domain_pattern(text: &str) -> Result<DomainPattern, String> {
    DomainPattern::parse(text).map_err(|e| match (e, text.strip_prefix('*')) {
        (DomainError::Wildcard, Some(rest)) if !rest.is_empty() && !rest.contains('*') => {
            format!("{} is no domain pattern; did you mean `*.{rest}`?", quoted(text))
        }
        (DomainError::Invalid(_), _) => format!("{} is not a domain name", quoted(text)),
        (e, _) => e.to_string(),
    })
}

/// `contoso.com`, `*.contoso.com`, `*` or `--`; then perhaps `;cost`. Exchange writes the type in
/// front (`SMTP:contoso.com;1`), which is let pass.
pub(super) fn address_space(text: &str) -> Result<AddressSpace, String> {
    let mut rest = text.trim();
    if let Some((kind, behind)) = rest.split_once(':') {
        if !kind.trim().eq_ignore_ascii_case("smtp") {
            return Err(format!("{} is no SMTP address space", quoted(text)));
        }
        rest = behind;
    }
    let (space, cost) = match rest.split_once(';') {
        None => (rest.trim(), 1),
        Some((space, cost)) => {
            let cost = cost.trim().parse().ok().filter(|cost| (1..=100).contains(cost));
            let problem = || format!("the cost in {} must be a whole number from 1 to 100", quoted(text));
            (space.trim(), cost.ok_or_else(problem)?)
        }
    };
    let space = match space {
        "--" => Space::AcceptedDomains,
        "*" => Space::Any,
        _ => Space::Domain(domain_pattern(space)?),
    };
    Ok(AddressSpace { space, cost })
}

fn port(text: &str) -> Option<u16> {
    // `parse` alone would take a sign.
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten().filter(|port| *port != 0)
}

/// `host`, `host:port`, `[ip]`, `[ip]:port`, `ip`, `v4:port`.
pub(super) fn smart_host(text: &str) -> Result<SmartHost, String> {
    let text = text.trim();
    let expected = || {
        format!(
            "{} is no smart host such as \"mail.contoso.com\", \"mail.contoso.com:587\" or \"[192.0.2.25]:25\"",
            quoted(text)
        )
    };
    if text == "--" {
        return Err("`--` as a smart host needs an Edge subscription; name the internal mail servers".into());
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (ip, rest) = rest.split_once(']').ok_or_else(expected)?;
        let host = Host::Address(ip.parse().map_err(|_| expected())?);
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => None,
            None => return Err(expected()),
            Some(digits) => Some(port(digits).ok_or_else(expected)?),
        };
        return Ok(SmartHost { host, port });
    }
    if let Ok(address) = text.parse() {
        return Ok(SmartHost { host: Host::Address(address), port: None });
    }
    let (name, port) = match text.rsplit_once(':') {
        None => (text, None),
        Some((name, digits)) => (name, Some(port(digits).ok_or_else(expected)?)),
    };
    if let Ok(address) = name.parse() {
        return Ok(SmartHost { host: Host::Address(address), port });
    }
    // A name whose last label is all digits is an address with a slip in it (RFC 1123 section 2.1).
    let last = name.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|b| b.is_ascii_digit()) {
        return Err(expected());
    }
    let name = host_name(name).map_err(|_| expected())?;
    Ok(SmartHost { host: Host::Name(name), port })
}

/// A mail address, checked only as far as a comparison of whole addresses needs.
pub(super) fn mail_address(text: &str) -> Result<String, String> {
    let expected = || format!("{} is no mail address", quoted(text));
    let (local, domain) = text.rsplit_once('@').ok_or_else(expected)?;
    let good = !local.is_empty() && local.len() <= 64 && !local.chars().any(|c| c.is_control() || c == ' ');
    match (good, ascii_domain(domain)) {
        (true, Ok(domain)) => Ok(format!("{local}@{domain}")),
        _ => Err(expected()),
    }
}

/// A name for the log and for references: 1 to 64 characters, none of them a control character.
pub(super) fn name(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        Err("a name must not be empty".into())
    } else if text.chars().count() > 64 {
        Err(format!("{} is longer than 64 characters", quoted(text)))
    } else if text.chars().any(char::is_control) {
        Err(format!("{} holds a control character", quoted(text)))
    } else {
        Ok(text.to_owned())
    }
}

/// Any text with something in it and without control characters.
pub(super) fn words(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        Err("must not be empty".into())
    } else if text.chars().any(char::is_control) {
        Err(format!("{} holds a control character", quoted(text)))
    } else {
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2d"), Ok(Duration::from_hours(48)));
        for bad in ["", "5", "s", "-1s", "1.5h", "00:05:00", "5 min", "99999999999999999999s", "4000d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_binary() {
        assert_eq!(size("36MB"), Ok(37_748_736));
        assert_eq!(size("256 kb"), Ok(262_144));
        assert_eq!(size("Unlimited"), Ok(u64::MAX));
        for bad in ["", "36", "36M", "MB", "18446744073709551615GB", "-1B"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert!(limit("0B").is_err());
    }

    #[test]
    fn smart_hosts_in_all_forms() {
        let name = |n: &str, port| Ok(SmartHost { host: Host::Name(n.into()), port });
        let ip = |a: &str, port| Ok(SmartHost { host: Host::Address(a.parse().unwrap()), port });
        assert_eq!(smart_host("mail.contoso.com"), name("mail.contoso.com", None));
        assert_eq!(smart_host("mail.contoso.com:587"), name("mail.contoso.com", Some(587)));
        assert_eq!(smart_host("[192.0.2.1]"), ip("192.0.2.1", None));
        assert_eq!(smart_host("192.0.2.1:2525"), ip("192.0.2.1", Some(2525)));
        assert_eq!(smart_host("[2001:db8::1]:25"), ip("2001:db8::1", Some(25)));
        assert_eq!(smart_host("2001:db8::1"), ip("2001:db8::1", None));
        for bad in
            ["", "--", "[x]", "[::1", "[::1]25", "a b", "host:", "host:0", "host:+5", "10.0.0.300", ":25"]
        {
            assert!(smart_host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn address_spaces_in_all_forms() {
        let of = |text| address_space(text).map(|s| (s.space, s.cost));
        assert_eq!(of("*;5"), Ok((Space::Any, 5)));
        assert_eq!(of("--"), Ok((Space::AcceptedDomains, 1)));
        let contoso = Space::Domain(DomainPattern::parse("*.contoso.com").unwrap());
        assert_eq!(of("SMTP:*.contoso.com;100"), Ok((contoso, 100)));
        assert_eq!(
            of("*contoso.com").unwrap_err(),
            "`*contoso.com` is no domain pattern; did you mean `*.contoso.com`?"
        );
        for bad in ["", "*;0", "*;101", "*;x", "X400:c=US", "a..b"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "\\PC{0,40}|[0-9a-zA-Z.:;@*\\[\\]-]{0,30}") {
            let _ = (duration(&text), size(&text), range(&text), binding(&text), dns_server(&text));
            let _ = (host_name(&text), domain_pattern(&text), address_space(&text), smart_host(&text));
            let _ = (mail_address(&text), name(&text), words(&text), quoted(&text));
        }
    }
}
