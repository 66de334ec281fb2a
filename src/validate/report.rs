//! What a validation found, for people and programs.

use std::fmt;

use serde::Serialize;

/// A whole validation.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The send connector's name.
    pub connector: String,
    /// Its TLS rule, as the configuration spells it.
    pub tls: &'static str,
    /// Where the test message goes.
    pub recipient: String,
    /// Its sender, in the envelope and in the header.
    pub sender: String,
    /// Its subject.
    pub subject: String,
    /// Every step passed or was not called for.
    pub passed: bool,
    /// What is worth knowing besides.
    pub notes: Vec<String>,
    /// EOP's tasks: one a smart host, and the test message.
    pub tasks: Vec<Task>,
}

/// One of EOP's tasks (exchange-edge.md 8.3).
#[derive(Debug, Clone, Serialize)]
pub struct Task {
    /// `Check connectivity to mail.contoso.com`, `Send test email`.
    pub name: String,
    /// None of its steps failed, and one passed.
    pub passed: bool,
    /// In order of trial.
    pub steps: Vec<Step>,
}

/// One step towards one address.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// Which.
    pub step: StepKind,
    /// The host: as configured, or a mail exchanger found for it.
    pub host: String,
    /// Its address and port; none where it does not resolve.
    pub address: Option<String>,
    /// How it went.
    pub result: StepResult,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// What was found; for a step skipped, why.
    pub detail: String,
    /// Of a step that failed: what is wrong and what to change.
    pub failure: Option<Failure>,
}

/// Host and address for a person: `mail.contoso.com [192.0.2.25:25]`. A host that is given by its
/// address needs no second name.
pub fn place(host: &str, address: &str) -> String {
    if host.starts_with('[') { address.to_owned() } else { format!("{host} [{address}]") }
}

/// The steps, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// Name to addresses.
    Resolve,
    /// TCP.
    Connect,
    /// The greeting.
    Banner,
    /// EHLO in clear.
    Ehlo,
    /// The command and the handshake.
    Starttls,
    /// The certificate leads to a trusted root and is in date.
    CertificateChain,
    /// The certificate carries the name asked for.
    CertificateName,
    /// EHLO inside TLS.
    EhloTls,
    /// The connector's credentials.
    Auth,
    /// The sender.
    MailFrom,
    /// The recipient.
    RcptTo,
    /// The go-ahead for the message.
    Data,
    /// The reply that takes the message over.
    Accepted,
}

impl StepKind {
    /// Whether it is part of the test message's task.
    pub fn is_mail(self) -> bool {
        self >= Self::MailFrom
    }
}

impl fmt::Display for StepKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Banner => "banner",
            Self::Ehlo => "EHLO",
            Self::Starttls => "STARTTLS",
            Self::CertificateChain => "certificate chain",
            Self::CertificateName => "certificate name",
            Self::EhloTls => "EHLO inside TLS",
            Self::Auth => "AUTH",
            Self::MailFrom => "MAIL FROM",
            Self::RcptTo => "RCPT TO",
            Self::Data => "DATA",
            Self::Accepted => "accepted",
        })
    }
}

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StepResult {
    /// As it should.
    Ok,
    /// Not.
    Failed,
    /// Not tried: not called for, or an earlier step failed.
    Skipped,
}

impl fmt::Display for StepResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Failed => "FAILED",
            Self::Skipped => "skipped",
        })
    }
}

/// What is wrong with a step, and what to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// In plain words.
    pub problem: String,
    /// What to change.
    pub change: String,
    /// The error Exchange Online would show in its place (exchange-edge.md 8.4); none where it
    /// does no such step.
    pub eop_error: Option<String>,
    /// What the catalogue of `gatepost explain error` says of that error, or of the peer's reply.
    pub meaning: Option<String>,
    /// Its likely causes, the most frequent first.
    pub causes: Vec<String>,
    /// What to look at.
    pub checks: Vec<String>,
}
