use super::*;

fn place(step: StepKind) -> Place<'static> {
    Place {
        step,
        host: "mx.contoso.com",
        endpoint: "192.0.2.1:25",
        rule: SendTls::ValidateDomain,
        wanted: "mail.contoso.com",
        limit: 30,
    }
}

fn refusal(code: u16, text: &str) -> Fault {
    Fault::Refusal(Reply::new(code, None, text))
}

fn judged(word: &'static str) -> Fault {
    Fault::Certificate(CertificateProblem { word, detail: "why".into() })
}

/// Every row of exchange-edge.md 8.4 that a validation can meet, and the nearest for the rest.
#[test]
fn each_fault_has_the_error_that_exchange_online_shows() {
    use StepKind::*;
    let handshake = |word| Fault::Handshake(HandshakeFailure::new(word, "why"));
    let closed = || Fault::Closed(String::new());
    for (step, fault, error) in [
        (Resolve, Fault::Dns("why".into()), "450 4.4.312 DNS query failed"),
        (Connect, Fault::NoAnswer, "450 4.4.315 Connection timed out"),
        (Connect, Fault::Refused, "450 4.4.316 Connection refused [Message=Socket error code 10061]"),
        (
            Connect,
            Fault::Unreachable(io::ErrorKind::NetworkUnreachable, "why".into()),
            "450 4.4.317 Cannot connect to remote server [Message=SocketError: NetworkUnreachable]",
        ),
        (
            Banner,
            Fault::Silent,
            "450 4.4.317 Cannot connect to remote server [Message=SocketError: TimedOut]",
        ),
        (Banner, closed(), "450 4.4.318 Connection was closed abruptly"),
        (
            Banner,
            refusal(421, "4.3.2 busy"),
            "450 4.4.317 Cannot connect to remote server [Message=421 4.3.2 busy]",
        ),
        (
            Ehlo,
            Fault::Silent,
            "451 4.4.397 Error communicating with target host. -> 421 4.4.2 Connection dropped due to TimedOut",
        ),
        (Ehlo, refusal(550, "no"), "450 4.4.317 Cannot connect to remote server [Message=550 no]"),
        (Starttls, refusal(454, "no"), "450 4.4.317 Cannot connect to remote server [Message=454 no]"),
        (
            Starttls,
            Fault::NoStarttls,
            "450 4.4.101 Proxy session setup failed on Frontend with '451 4.4.0 Primary target IP address responded \
             with \"451 5.7.3 STARTTLS is required to send mail.\" Attempted failover to alternate host, but that did \
             not succeed. Either there are no alternate hosts, or delivery failed to all alternate hosts. The last \
             endpoint attempted was 192.0.2.1:25'",
        ),
        (
            Starttls,
            handshake("SocketError"),
            "450 4.4.317 Cannot establish session with remote server [Message=TLS negotiation failed with error SocketError]",
        ),
        (
            CertificateChain,
            judged("UntrustedRoot"),
            "450 4.4.317 Cannot connect to remote server [Message=UntrustedRoot]",
        ),
        (CertificateChain, judged("Expired"), "450 4.7.320 Certificate validation failed"),
        (CertificateName, judged("SubjectMismatch"), "450 4.7.320 Certificate validation failed"),
        (MailFrom, refusal(550, "5.7.1 no"), "550 5.7.1 no"),
        (RcptTo, refusal(550, "5.1.1 who?"), "550 5.1.1 who?"),
        (
            RcptTo,
            refusal(451, "4.7.1 greylisted"),
            "451 4.4.397 Error communicating with target host. -> 451 4.7.1 greylisted",
        ),
        (Data, refusal(554, "no"), "554 no"),
        (Accepted, closed(), "450 4.4.318 Connection was closed abruptly"),
    ] {
        let failure = fault.diagnose(place(step));
        assert_eq!(failure.eop_error.as_deref(), Some(error), "{step} {fault:?}");
        assert!(!failure.problem.is_empty() && !failure.change.is_empty(), "{failure:?}");
    }
}

#[test]
fn what_exchange_online_does_not_do_has_no_error_of_its() {
    for (step, fault) in [
        (StepKind::Auth, refusal(535, "5.7.8 no")),
        (StepKind::Auth, Fault::NoMechanism("PLAIN")),
        (StepKind::Connect, Fault::OwnCertificate("edge".into())),
        (StepKind::Ehlo, Fault::OwnName("edge.contoso.com".into())),
    ] {
        let failure = fault.diagnose(place(step));
        assert_eq!(failure.eop_error, None, "{fault:?}");
        assert!(!failure.change.is_empty(), "{fault:?}");
    }
}

#[test]
fn the_catalogue_explains_the_innermost_error() {
    let meaning = |step, fault: Fault| fault.diagnose(place(step)).meaning.unwrap_or_default();
    assert!(meaning(StepKind::Resolve, Fault::Dns(String::new())).contains("could not look up the name"));
    assert!(
        meaning(StepKind::CertificateChain, judged("UntrustedRoot")).contains("lead to a root it trusts")
    );
    assert!(meaning(StepKind::RcptTo, refusal(550, "5.1.1 who?")).contains("recipient"));
    // The wrapper's meaning would tell nothing.
    assert!(!meaning(StepKind::Starttls, Fault::NoStarttls).contains("wrapper"));
    let failure = refusal(535, "5.7.8 authentication credentials invalid").diagnose(place(StepKind::Auth));
    assert!(failure.meaning.is_some(), "{failure:?}");
    // A reply nobody knows is not explained by its wrapper alone.
    let failure = refusal(499, "hm").diagnose(place(StepKind::Banner));
    assert!(failure.meaning.is_some_and(|meaning| meaning.contains("no session came about")));
}

#[test]
fn the_words_name_what_is_at_hand() {
    let failure = judged("SubjectMismatch").diagnose(place(StepKind::CertificateName));
    assert!(failure.change.contains("a certificate for `mail.contoso.com`"), "{failure:?}");
    let failure = Fault::NoStarttls.diagnose(place(StepKind::Starttls));
    assert!(failure.problem.contains("rule is `validate_domain`"), "{failure:?}");
    for (reply, passes) in [(refusal(450, "later"), true), (refusal(550, "never"), false)] {
        let change = reply.diagnose(place(StepKind::RcptTo)).change;
        assert_eq!(change.contains("try again in a few minutes"), passes, "{change}");
    }
}
