//! Replies as they occur in logs, queues and reports, and what is made of them.

use super::*;

fn ids(text: &str) -> Vec<Option<&'static str>> {
    explain(text).iter().map(|explained| explained.id).collect()
}

fn first(text: &str) -> &'static str {
    ids(text)[0].unwrap_or("none")
}

#[test]
fn the_catalogue_can_be_read_and_each_row_can_be_met() {
    assert!(CATALOGUE.reply.len() > 80);
    for row in &CATALOGUE.reply {
        assert!(!row.status.is_empty() || !row.text.is_empty(), "{} says nothing to match", row.id);
        assert!(
            row.text.iter().all(|text| *text == text.to_lowercase()),
            "{}: texts are in lower case",
            row.id
        );
        assert!(!row.checks.is_empty(), "{} says nothing to do", row.id);
        let twice = CATALOGUE.reply.iter().filter(|other| other.id == row.id).count();
        assert_eq!(twice, 1, "{}", row.id);
        // A reply made of the row's own words leads to it, by one of its texts.
        let status = row.status.first().map_or("4.9.9", |status| status.split('-').next().unwrap());
        let made = |text: &str| format!("{}50 {status} {text}", &status[..1]);
        let leads_here = |text: &str| first(&made(text)) == row.id;
        let found =
            if row.text.is_empty() { leads_here("x") } else { row.text.iter().any(|t| leads_here(t)) };
        assert!(found, "{} is hidden by another row", row.id);
    }
}

#[test]
fn what_exchange_online_says() {
    let attribution = "550 5.7.64 TenantAttribution; Relay Access Denied SMTP";
    assert_eq!(first(attribution), "eop-tenant-attribution");
    assert_eq!(first("5.7.64 TenantAttribution"), "eop-tenant-attribution");
    assert_eq!(
        first("#550 5.7.64 TenantAttribution; Relay Access Denied [ATTR36]"),
        "eop-tenant-attribution"
    );
    let kb = "550 5.7.64 Relay Access Denied ATTR36. For more details please refer to: https://support.microsoft.com/kb/3169958";
    assert_eq!(first(kb), "eop-attr36");
    assert_eq!(
        first("451 4.7.500 Server busy. Please try again later from [192.0.2.1]. (AS77712302)"),
        "eop-server-busy"
    );
    assert_eq!(first("550 5.7.606 Access denied, banned sending IP [192.0.2.1]."), "eop-banned");
    assert_eq!(first("550 5.4.1 Recipient address rejected: Access denied."), "eop-dbeb");
    assert_eq!(
        first("450 4.4.317 Cannot connect to remote server [Message=UntrustedRoot]"),
        "eop-out-untrusted-root"
    );
    assert_eq!(
        first("450 4.4.317 Cannot connect to remote server [Message=SocketError: TimedOut]"),
        "eop-out-cannot-connect"
    );
    assert_eq!(
        first("550 5.4.316 Message expired, connection refused(Socket error code 10061)"),
        "eop-out-refused"
    );
}

#[test]
fn the_innermost_reply_comes_first() {
    let proxy = "450 4.4.101 Proxy session setup failed on Frontend with '451 4.4.0 Primary target IP address \
                 responded with \"451 5.7.3 STARTTLS is required to send mail.\" Attempted failover to alternate \
                 host, but that did not succeed.'";
    let explained = explain(proxy);
    let found: Vec<_> = explained.iter().map(|e| (e.id.unwrap(), e.code)).collect();
    assert_eq!(
        found,
        [("starttls-required-out", Some(451)), ("primary-target", Some(451)), ("eop-out-proxy", Some(450))]
    );
    assert!(meaning(proxy).unwrap().contains("does not offer STARTTLS"));
    let led = "[{LED=451 4.4.397 Error communicating with target host. -> 421 4.4.2 Connection dropped due to \
               SocketError};{MSG=};{FQDN=mail.contoso.com};{IP=192.0.2.10};{LRT=1/2/2026 3:04:05 PM}]";
    assert_eq!(ids(led), [Some("socket-error"), Some("target-host")]);
}

#[test]
fn what_gatepost_says() {
    assert_eq!(
        first("454 4.7.5 Certificate validation failure, Reason:UntrustedRoot"),
        "certificate-untrusted-root"
    );
    assert_eq!(first("454 4.7.5 Certificate validation failure, Reason:WeakKey"), "certificate-validation");
    assert_eq!(
        first("Certificate validation failure, Reason:SubjectMismatch"),
        "certificate-subject-mismatch"
    );
    assert_eq!(first("550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain"), "relay-refused");
    assert_eq!(first("550 5.7.1 Unable to relay"), "relay-refused");
    assert_eq!(first("421 4.4.1 Connection timed out"), "connection-timed-out");
    assert_eq!(first("452 4.3.1 Insufficient system resources"), "back-pressure");
}

#[test]
fn what_is_not_in_the_catalogue_is_told_by_its_codes() {
    let explained = &explain("550 5.6.99 no idea")[0];
    assert_eq!((explained.id, explained.status.as_deref()), (None, Some("5.6.99")));
    assert_eq!(
        explained.meaning,
        "A permanent failure: the message is returned, to do with the content of the message."
    );
    let old = &explain("550 User unknown")[0];
    assert_eq!(
        (old.code, old.meaning.as_str()),
        (Some(550), "A permanent failure: the message is returned.")
    );
    assert!(explain("hello")[0].meaning.starts_with("Nothing is known"));
    assert_eq!(meaning("550 5.6.99 no idea"), None);
}

#[test]
fn addresses_versions_and_prose_are_no_replies() {
    for text in ["sent to 5.100.0.1", "Exchange 15.2.2562 is 4.0.0.1", "took 250 ms for 550 octets", ""] {
        let explained = explain(text);
        assert_eq!((explained.len(), explained[0].status.as_deref()), (1, None), "{text}");
    }
    assert_eq!(explain("550 5.7.1 x at 192.0.2.10:25").len(), 1);
}

/// What the stand-in for Exchange Online answers must not leave anybody in the dark.
#[test]
fn every_refusal_of_the_stand_in_is_known() {
    for row in crate::eop::catalogue::ROWS {
        let ((class, subject), detail) = (row.class, row.details.start());
        let reply = format!("{} {class}.{subject}.{detail} {}", row.code, row.text);
        assert!(explain(&reply)[0].id.is_some(), "{reply}");
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_explained(text in "\\PC*", tail in "[245]\\d\\d [245]\\.\\d{1,4}\\.\\d{1,4}.{0,9}") {
        proptest::prop_assert!(!explain(&text).is_empty());
        let both = format!("{text} {tail}");
        proptest::prop_assert!(!explain(&both).is_empty());
    }
}
