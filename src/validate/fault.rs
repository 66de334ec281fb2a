//! Why a step failed, in plain words, with what to change and the error Exchange Online would
//! show in its place (exchange-edge.md 8.4, 2.6).

use std::io;

use super::report::{Failure, StepKind};
use crate::config::SendTls;
use crate::eop::errors::{self, cannot_connect, communicating};
use crate::explain::explain;
use crate::smtp::Reply;
use crate::tls::{CertificateProblem, HandshakeFailure};

/// A session that did not get as far as its commands; the words are a guess.
const NO_SESSION: &str = "450 4.4.317 Cannot establish session with remote server";

/// What went wrong.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// No addresses, and why.
    Dns(String),
    /// Nothing came back to the attempt to connect.
    NoAnswer,
    /// A reset came back.
    Refused,
    /// The system knows no way.
    Unreachable(io::ErrorKind, String),
    /// The peer ended the connection; what it said last, if that was no reply.
    Closed(String),
    /// The peer fell silent.
    Silent,
    /// The peer says no.
    Refusal(Reply),
    /// What the peer said is no reply.
    Garbled(String),
    /// TLS is asked for and not offered.
    NoStarttls,
    /// It spoke between its reply to STARTTLS and the handshake.
    SpokeEarly,
    /// The handshake came to nothing.
    Handshake(HandshakeFailure),
    /// The certificate does not satisfy the rule.
    Certificate(CertificateProblem),
    /// `tls_certificate_name` names none of ours.
    OwnCertificate(String),
    /// The peer goes by our own name.
    OwnName(String),
    /// Our credentials cannot be had.
    Credentials(String),
    /// The mechanism is not offered.
    NoMechanism(&'static str),
}

/// What a diagnosis must know besides the fault.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) step: StepKind,
    /// The host as configured or found.
    pub(super) host: &'a str,
    /// Address and port.
    pub(super) endpoint: &'a str,
    /// The rule in force.
    pub(super) rule: SendTls,
    /// The name the certificate must carry.
    pub(super) wanted: &'a str,
    /// Seconds a step may take.
    pub(super) limit: u64,
}

impl Fault {
    /// Whether the connection is still good for a QUIT.
    pub(super) fn leaves_connection(&self) -> bool {
        !matches!(
            self,
            Self::Closed(_) | Self::Silent | Self::Garbled(_) | Self::SpokeEarly | Self::Handshake(_)
        )
    }

    /// Puts it into words.
    pub(super) fn diagnose(&self, place: Place<'_>) -> Failure {
        let eop_error = self.eop_error(place);
        let own = match self {
            Self::Refusal(reply) => Some(reply.to_line()),
            Self::OwnName(_) => Some("554 5.3.5 System incorrectly configured".to_owned()),
            _ => None,
        };
        let text = eop_error.as_deref().or(own.as_deref()).unwrap_or_default();
        // Wrapped errors come innermost first: that is the one that counts, if it is known.
        let mut explained = if text.is_empty() { Vec::new() } else { explain(text) };
        let known = explained.iter().position(|reply| reply.id.is_some()).unwrap_or(0);
        let known = (known < explained.len()).then(|| explained.swap_remove(known));
        let (meaning, causes, checks) = match known {
            Some(reply) => (Some(reply.meaning), reply.causes.to_vec(), reply.checks.to_vec()),
            None => (None, Vec::new(), Vec::new()),
        };
        Failure {
            problem: self.problem(place),
            change: self.change(place),
            eop_error,
            meaning,
            causes,
            checks,
        }
    }

    /// None where Exchange Online does no such step, or what it would say is not known.
    fn eop_error(&self, place: Place<'_>) -> Option<String> {
        // Exchange Online does not authenticate to smart hosts (exchange-edge.md 8.7).
        if place.step == StepKind::Auth {
            return None;
        }
        Some(match self {
            Self::Dns(_) => errors::DNS_FAILED.to_owned(),
            Self::NoAnswer => errors::TIMED_OUT.to_owned(),
            Self::Refused => errors::REFUSED.to_owned(),
            Self::Unreachable(kind, _) => cannot_connect(match kind {
                io::ErrorKind::HostUnreachable => "SocketError: HostUnreachable",
                io::ErrorKind::NetworkUnreachable => "SocketError: NetworkUnreachable",
                _ => "SocketError",
            }),
            Self::Closed(_) => errors::DROPPED.to_owned(),
            Self::Silent if place.step == StepKind::Banner => cannot_connect("SocketError: TimedOut"),
            Self::Silent => communicating("421 4.4.2 Connection dropped due to TimedOut"),
            Self::Refusal(reply) if !place.step.is_mail() => cannot_connect(&reply.to_line()),
            Self::Refusal(reply) if reply.is_permanent() => reply.to_line(),
            Self::Refusal(reply) => communicating(&reply.to_line()),
            Self::Garbled(_) if place.step.is_mail() => return None,
            Self::Garbled(_) => errors::CANNOT_CONNECT.to_owned(),
            Self::NoStarttls => starttls_missing(place.endpoint),
            Self::SpokeEarly => NO_SESSION.to_owned(),
            Self::Handshake(failure) => errors::with_message(
                NO_SESSION,
                &format!("TLS negotiation failed with error {}", failure.word),
            ),
            Self::Certificate(problem) if problem.word == "UntrustedRoot" => cannot_connect("UntrustedRoot"),
            Self::Certificate(_) => errors::CERTIFICATE_FAILED.to_owned(),
            Self::OwnCertificate(_) | Self::OwnName(_) | Self::Credentials(_) | Self::NoMechanism(_) => {
                return None;
            }
        })
    }

    fn problem(&self, place: Place<'_>) -> String {
        let Place { step, host, endpoint, limit, .. } = place;
        let what = step.to_string();
        match self {
            Self::Dns(why) => format!("`{host}` does not resolve to an address: {why}."),
            Self::NoAnswer => format!("Nothing came back from {endpoint} within {limit} s."),
            Self::Refused => format!("{endpoint} refuses connections: nothing listens there."),
            Self::Unreachable(_, why) => format!("{endpoint} cannot be reached from here: {why}."),
            Self::Closed(said) if step == StepKind::Banner && said.is_empty() => {
                "The connection was accepted and closed again without a greeting.".to_owned()
            }
            Self::Closed(said) if said.is_empty() => {
                format!("The peer closed the connection instead of answering {what}.")
            }
            Self::Closed(said) => format!("The peer closed the connection within its answer: `{said}`."),
            Self::Silent if step == StepKind::Banner => {
                format!("The connection was accepted, and no greeting came within {limit} s.")
            }
            Self::Silent if step == StepKind::Accepted => {
                format!("The message was sent, and no reply to it came within {limit} s.")
            }
            Self::Silent => format!("No answer to {what} came within {limit} s."),
            Self::Refusal(reply) => match step {
                StepKind::Banner => format!("The peer greets with a refusal: {}.", plain(reply)),
                StepKind::Accepted => format!("The message itself was refused: {}.", plain(reply)),
                _ => format!("{what} was refused: {}.", plain(reply)),
            },
            Self::Garbled(said) => format!("What the peer said to {what} is no SMTP reply: `{said}`."),
            Self::NoStarttls => format!(
                "The peer does not offer STARTTLS, and the connector's rule is `{}`.",
                place.rule.as_str()
            ),
            Self::SpokeEarly => {
                "The peer spoke between its reply to STARTTLS and the handshake: somebody may be on the line."
                    .to_owned()
            }
            Self::Handshake(failure) => format!("{failure}."),
            Self::Certificate(problem) => format!("{}: {}.", problem.word, problem.detail),
            Self::OwnCertificate(name) => {
                format!("There is no certificate `{name}`, which the connector is to show.")
            }
            Self::OwnName(name) => {
                format!(
                    "The peer calls itself `{name}`, as this server does: the relay takes that for a loop."
                )
            }
            Self::Credentials(why) => format!("The connector's credentials cannot be used: {why}."),
            Self::NoMechanism(mechanism) => format!("The peer does not offer AUTH {mechanism}."),
        }
    }

    fn change(&self, place: Place<'_>) -> String {
        let host = place.host;
        match self {
            Self::Dns(_) => format!(
                "Create A or AAAA records for `{host}`, or correct the name in the connector (`smart_hosts`). \
                 Exchange Online needs them in public DNS."
            ),
            Self::NoAnswer => {
                "Let the firewall pass TCP to that port from here, and for Exchange Online from its published ranges; \
                 check address and port."
                    .to_owned()
            }
            Self::Refused => {
                "Start the mail server there, or correct its binding, the port forwarding or the connector's port."
                    .to_owned()
            }
            Self::Unreachable(..) => {
                "Check the route to that address, `source_ip`, and whether this host has that kind of address \
                 (IPv4, IPv6)."
                    .to_owned()
            }
            Self::Closed(_) | Self::Garbled(_) if place.step == StepKind::Accepted => {
                "Look in the peer's log for why it ended the session at the message: a filter, a full disk, or a \
                 firewall that inspects SMTP."
                    .to_owned()
            }
            Self::Closed(_) | Self::Garbled(_) => {
                "Look in the peer's log for why it ended the session; turn SMTP inspection off on firewalls between, \
                 and make sure that the port speaks SMTP in clear first (25, not 465)."
                    .to_owned()
            }
            Self::Silent if place.step == StepKind::Banner => {
                "Make the server greet at once: a reverse lookup that hangs, a tarpit or greet delay, a PROXY header \
                 it waits for, or an inspecting firewall holds the banner back."
                    .to_owned()
            }
            Self::Silent => {
                "Look for what keeps the peer busy at that command: lookups, filters, a tarpit, a firewall.".to_owned()
            }
            Self::Refusal(reply) => refused(place.step, reply),
            Self::NoStarttls => {
                "Give the peer's connector a certificate and let it offer STARTTLS, or find the firewall that hides \
                 it. If clear text is acceptable, set the connector's `tls` to \"opportunistic\"."
                    .to_owned()
            }
            Self::SpokeEarly => {
                "Find out what sits between here and the peer; a server must be silent until the handshake.".to_owned()
            }
            Self::Handshake(failure) => handshake(failure).to_owned(),
            Self::Certificate(problem) => certificate(problem, place),
            Self::OwnCertificate(_) => {
                "Correct `tls_certificate_name`, or add the certificate under [[certificates]].".to_owned()
            }
            Self::OwnName(_) => {
                "Correct the smart host if it is this server; else give one of the two another name \
                 (`server.hostname`, or `fqdn` of the receive connector)."
                    .to_owned()
            }
            Self::Credentials(_) => "Correct the connector's `auth`.".to_owned(),
            Self::NoMechanism(_) => {
                "Set `auth.mechanism` to one that the peer offers after STARTTLS, or turn it on there.".to_owned()
            }
        }
    }
}

/// Exchange Online's words where TLS is required and not offered (exchange-edge.md 8.3).
fn starttls_missing(endpoint: &str) -> String {
    errors::proxy_failed(&format!(
        "451 4.4.0 Primary target IP address responded with \"451 5.7.3 STARTTLS is required to send mail.\" \
         Attempted failover to alternate host, but that did not succeed. Either there are no alternate hosts, or \
         delivery failed to all alternate hosts. The last endpoint attempted was {endpoint}"
    ))
}

fn plain(reply: &Reply) -> String {
    reply.to_line().trim_end_matches('.').to_owned()
}

fn refused(step: StepKind, reply: &Reply) -> String {
    let for_now = if reply.is_transient() { " It may pass: try again in a few minutes." } else { "" };
    let change = match step {
        StepKind::Banner => {
            "Look in the peer's log for the limit, the block list or the lack of resources that it refuses for."
        }
        StepKind::Ehlo | StepKind::EhloTls => {
            "Make the peer take EHLO: check its rules on host names (`fqdn` of the connector) and that it speaks ESMTP."
        }
        StepKind::Starttls => {
            "Look in the peer's log for why TLS is not available: usually its certificate or key cannot be read."
        }
        StepKind::Auth => {
            "Correct user name and password (or client id and secret) in the connector's `auth`."
        }
        StepKind::MailFrom => {
            "Let the peer take this sender from here, without sender filtering for connector validations; `--from` \
             tries another one."
        }
        StepKind::RcptTo => {
            "Give --to an address that exists there; accept its domain on the peer, or let this server relay there."
        }
        _ => "Let the peer's content filters and size limit pass the message.",
    };
    format!("{change}{for_now}")
}

fn handshake(failure: &HandshakeFailure) -> &'static str {
    match failure.word {
        _ if failure.offered.as_ref().is_some_and(crate::tls::OfferedVersions::is_legacy) => {
            "Turn on TLS 1.2 or 1.3 on the peer: Exchange Online speaks nothing older either."
        }
        "AlgorithmMismatch" => {
            "Turn on a current cipher suite on the peer: ECDHE with AES-GCM, and a certificate that goes with it."
        }
        "UntrustedRoot" | "CertExpired" | "CertUnknown" => {
            "The peer refuses the certificate shown here: check `tls_certificate_name` with gatepost lint, and what the \
             peer trusts. Exchange Online shows one of its own."
        }
        "NoCredentials" => {
            "The peer wants a client certificate: set `tls_certificate_name`. Exchange Online shows one of its own."
        }
        "TimedOut" => {
            "Look for a firewall between that takes part in TLS, or a peer without entropy or time."
        }
        _ => {
            "Look in the peer's log for why it ended the handshake: certificate and key that do not belong together, no \
             common TLS version, or a firewall that takes part in TLS."
        }
    }
}

fn certificate(problem: &CertificateProblem, place: Place<'_>) -> String {
    match problem.word {
        "UntrustedRoot" => {
            "Let the peer send its chain whole, leaf and intermediates, from an authority that is trusted (publicly, for \
             Exchange Online). A private authority goes into `tls.trusted_roots` here, and into EncryptionOnly there."
                .to_owned()
        }
        "SubjectMismatch" => format!(
            "Get the peer a certificate for `{}`, or set `tls_domain` of the connector to a name it carries \
             (TlsDomain in Exchange Online).",
            place.wanted
        ),
        "Expired" => "Renew the peer's certificate and have its server load it.".to_owned(),
        "NotYetValid" => "Check the clocks here and on the peer, or use a certificate that is valid now.".to_owned(),
        "WrongUsage" => "Get a certificate with serverAuth in its extended key usage.".to_owned(),
        "EmptyCertificate" => "Give the peer a certificate.".to_owned(),
        _ => "Replace the peer's certificate by one from a current authority (RSA 2048 or ECDSA, SHA-256).".to_owned(),
    }
}

#[cfg(test)]
#[path = "fault_tests.rs"]
mod tests;
