//! One address, from connect to the accepted message, with mail-send as the client: a second
//! opinion on what our own engine finds.

use std::io;
use std::time::{Duration, Instant, SystemTime};

use mail_send::smtp::message::Parameters;
use mail_send::{Credentials, Error, SmtpClient};
use smtp_proto::{AUTH_LOGIN, AUTH_PLAIN, AUTH_XOAUTH2, EXT_AUTH, EXT_SIZE, EXT_START_TLS, EhloResponse};

use super::Mail;
use super::fault::{Fault, Place};
use super::report::{Failure, StepKind, StepResult};
use super::tap::Tap;
use crate::config::{Auth, OAuth2, SendTls};
use crate::send::{ConnectorRuntime, Resolver, Target, read_secret};
use crate::smtp::Reply;
use crate::tls::{TlsFacts, judge_server, judge_server_named};

/// How long a goodbye may take; nothing depends on it.
const GOODBYE: Duration = Duration::from_secs(5);

/// What all walks of a validation share.
pub(super) struct Route<'a> {
    pub(super) connector: &'a ConnectorRuntime,
    pub(super) resolver: &'a Resolver,
    pub(super) mail: &'a Mail,
    /// For each step.
    pub(super) limit: Duration,
}

/// A step as it ended.
pub(super) struct Ended {
    pub(super) result: StepResult,
    pub(super) detail: String,
    pub(super) failure: Option<Failure>,
    pub(super) took: Duration,
}

/// A session with one address.
pub(super) struct Walk<'a> {
    route: &'a Route<'a>,
    target: &'a Target,
    client: Option<SmtpClient<Tap>>,
    capabilities: EhloResponse<String>,
    tls: Option<TlsFacts>,
    /// Why the session stays in clear.
    plain: String,
}

/// What a step comes to.
enum Done {
    Ok(String),
    Skipped(String),
}

impl<'a> Walk<'a> {
    pub(super) fn new(route: &'a Route<'a>, target: &'a Target) -> Self {
        let capabilities = EhloResponse::new(String::new());
        Self { route, target, client: None, capabilities, tls: None, plain: String::new() }
    }

    /// The steps there are, in order.
    pub(super) fn steps(&self) -> Vec<StepKind> {
        use StepKind::{
            Accepted, Auth, Banner, CertificateChain, CertificateName, Connect, Data, Ehlo, EhloTls,
            MailFrom, RcptTo, Starttls,
        };
        let mut steps = vec![Connect, Banner, Ehlo, Starttls, CertificateChain, CertificateName, EhloTls];
        if self.route.connector.config.auth.is_some() {
            steps.push(Auth);
        }
        steps.extend([MailFrom, RcptTo, Data, Accepted]);
        steps
    }

    /// Takes one step, within its limit.
    pub(super) async fn take(&mut self, step: StepKind) -> Ended {
        let started = Instant::now();
        let limit = self.route.limit;
        let done = match tokio::time::timeout(limit, self.run(step)).await {
            Ok(done) => done,
            Err(_) if step == StepKind::Connect => Err(Fault::NoAnswer),
            Err(_) => Err(Fault::Silent),
        };
        let took = started.elapsed();
        match done {
            Ok(Done::Ok(detail)) => Ended { result: StepResult::Ok, detail, failure: None, took },
            Ok(Done::Skipped(detail)) => Ended { result: StepResult::Skipped, detail, failure: None, took },
            Err(fault) => {
                if !fault.leaves_connection() {
                    self.client = None;
                }
                let failure = fault.diagnose(self.place(step, &self.target.address.to_string()));
                Ended {
                    result: StepResult::Failed,
                    detail: failure.problem.clone(),
                    failure: Some(failure),
                    took,
                }
            }
        }
    }

    /// QUIT, if there is anybody to hear it.
    pub(super) async fn goodbye(self) {
        if let Some(client) = self.client {
            // It changes nothing about what was found.
            let _ = tokio::time::timeout(GOODBYE.min(self.route.limit), client.quit()).await;
        }
    }

    fn place<'p>(&'p self, step: StepKind, endpoint: &'p str) -> Place<'p> {
        let config = &self.route.connector.config;
        Place {
            step,
            host: &self.target.host,
            endpoint,
            rule: config.effective_tls(),
            wanted: config.tls_domain.as_ref().map_or(&self.target.tls_name, |domain| domain.name()),
            limit: self.route.limit.as_secs(),
        }
    }

    async fn run(&mut self, step: StepKind) -> Result<Done, Fault> {
        let skip = |why: &str| Ok(Done::Skipped(why.to_owned()));
        match step {
            StepKind::Resolve => skip("done before"),
            StepKind::Connect => self.connect().await.map(Done::Ok),
            StepKind::Banner => self.banner().await.map(Done::Ok),
            StepKind::Starttls => self.starttls().await,
            StepKind::CertificateChain | StepKind::CertificateName | StepKind::EhloTls
                if self.tls.is_none() =>
            {
                skip(&self.plain)
            }
            StepKind::CertificateChain => self.chain(),
            StepKind::CertificateName => self.name(),
            StepKind::Ehlo | StepKind::EhloTls => self.ehlo().await.map(Done::Ok),
            StepKind::Auth => self.auth().await.map(Done::Ok),
            StepKind::MailFrom => self.mail_from().await.map(Done::Ok),
            StepKind::RcptTo => {
                let to = self.route.mail.to.clone();
                let parameters = Parameters::new();
                let client = self.client()?;
                let reply = client.rcpt_to(&to, &parameters).await;
                self.heard(reply.map(|()| 250), |code| code / 100 == 2).map(|reply| said(&reply))
            }
            StepKind::Data => {
                let reply = self.client()?.cmd(b"DATA\r\n").await;
                self.heard(reply.map(|reply| reply.code()), |code| code == 354).map(|reply| said(&reply))
            }
            StepKind::Accepted => self.send().await.map(|reply| said(&reply)),
        }
    }

    async fn connect(&mut self) -> Result<String, Fault> {
        let (connector, address) = (self.route.connector, self.target.address);
        if let Some(name) = connector.config.tls_certificate_name.as_ref()
            && connector.certificate_missing
            && connector.tls.is_some()
        {
            return Err(Fault::OwnCertificate(name.clone()));
        }
        let connected = match connector.config.source_ip {
            None => SmtpClient::connect(address, self.route.limit).await,
            Some(source) => SmtpClient::connect_using(source, address, self.route.limit).await,
        };
        let stream = connected.map_err(not_connected)?.stream;
        // mail-send leaves it off, and then waits for acknowledgements between its writes.
        let local = stream.set_nodelay(true).and_then(|()| stream.local_addr());
        let local = local.map_err(|e| Fault::Unreachable(e.kind(), e.to_string()))?;
        if local == address {
            // A port of the ephemeral range that nobody listens on may connect to itself.
            return Err(Fault::Refused);
        }
        self.client = Some(SmtpClient { stream: Tap::new(stream), timeout: self.route.limit });
        Ok(format!("from {local}"))
    }

    async fn banner(&mut self) -> Result<String, Fault> {
        let reply = self.client()?.read().await;
        self.heard(reply.map(|reply| reply.code()), |code| code == 220).map(|reply| reply.to_line())
    }

    async fn ehlo(&mut self) -> Result<String, Fault> {
        let fqdn = &self.route.connector.config.fqdn;
        let answer = self.client()?.ehlo(fqdn).await;
        let (code, capabilities) = match answer {
            Ok(capabilities) => (Ok(250), Some(capabilities)),
            Err(error) => (Err(error), None),
        };
        let reply = self.heard(code, |code| code == 250)?;
        if let Some(capabilities) = capabilities {
            self.capabilities = capabilities;
        }
        // As the relay has it: where TLS is demanded, a name said in clear proves nothing.
        let proven = self.tls.is_some() || matches!(self.rule(), SendTls::Off | SendTls::Opportunistic);
        let name = &self.capabilities.hostname;
        if proven && name.eq_ignore_ascii_case(&self.route.connector.hostname) {
            return Err(Fault::OwnName(name.clone()));
        }
        Ok(reply.lines().collect::<Vec<_>>().join(", "))
    }

    fn rule(&self) -> SendTls {
        self.route.connector.config.effective_tls()
    }

    async fn starttls(&mut self) -> Result<Done, Fault> {
        let offered = self.capabilities.has_capability(EXT_START_TLS);
        self.plain = match self.rule() {
            SendTls::Off => "the connector does not use STARTTLS".to_owned(),
            SendTls::Opportunistic if !offered => {
                "the peer does not offer STARTTLS; the rule is opportunistic, so mail goes in clear text"
                    .to_owned()
            }
            _ => String::new(),
        };
        if !self.plain.is_empty() {
            return Ok(Done::Skipped(self.plain.clone()));
        }
        let Some(tls) = self.route.connector.tls.clone().filter(|_| offered) else {
            return Err(Fault::NoStarttls);
        };
        let reply = self.client()?.cmd(b"STARTTLS\r\n").await;
        if reply.is_ok() && self.client.as_ref().is_some_and(|client| client.stream.heard_more()) {
            return Err(Fault::SpokeEarly);
        }
        self.heard(reply.map(|reply| reply.code()), |code| code == 220)?;
        let Some(client) = self.client.take() else { return Err(Fault::Closed(String::new())) };
        let name = self.target.host.trim_matches(['[', ']']);
        let (stream, facts) =
            tls.connect(client.stream, name, self.route.limit).await.map_err(Fault::Handshake)?;
        let names = [facts.version.as_str(), &facts.iana_names()].join(" ");
        self.tls = Some(facts);
        self.client = Some(SmtpClient { stream: Tap::new(stream), timeout: self.route.limit });
        Ok(Done::Ok(names))
    }

    /// The chain, where the rule asks for it; else what the check would have said.
    fn chain(&self) -> Result<Done, Fault> {
        let Some(facts) = &self.tls else { return Ok(Done::Skipped(self.plain.clone())) };
        let shown = facts.peer_certificate().map_or_else(
            || "no readable certificate".to_owned(),
            |leaf| {
                let until = crate::log::time::rfc3339(leaf.not_after);
                let count = facts.peer_chain.len();
                format!("{}, issued by {}, valid until {until}; {count} sent", leaf.subject, leaf.issuer)
            },
        );
        let judgement = judge_server(facts, &self.route.connector.roots, None, SystemTime::now());
        match (judgement, self.rule()) {
            (Ok(_), SendTls::ValidateCertificate | SendTls::ValidateDomain) => Ok(Done::Ok(shown)),
            (Err(problem), SendTls::ValidateCertificate | SendTls::ValidateDomain) => {
                Err(Fault::Certificate(problem))
            }
            (Ok(_), rule) => {
                Ok(Done::Skipped(format!("not asked for by `{}`; it would pass: {shown}", rule.as_str())))
            }
            (Err(problem), rule) => Ok(Done::Skipped(format!(
                "not asked for by `{}`; it would fail: {}: {}",
                rule.as_str(),
                problem.word,
                problem.detail
            ))),
        }
    }

    /// The name, likewise.
    fn name(&self) -> Result<Done, Fault> {
        let Some(facts) = &self.tls else { return Ok(Done::Skipped(self.plain.clone())) };
        let found = facts.peer_certificate().map_or_else(String::new, |leaf| {
            let names: Vec<String> = leaf.all_names().map(str::to_owned).collect();
            let addresses = leaf.addresses.iter().map(ToString::to_string);
            names.into_iter().chain(addresses).collect::<Vec<_>>().join(", ")
        });
        let (config, roots) = (&self.route.connector.config, &self.route.connector.roots);
        let rule = self.rule();
        if rule != SendTls::ValidateDomain {
            return Ok(Done::Skipped(format!("not asked for by `{}`; it carries {found}", rule.as_str())));
        }
        let judgement = match &config.tls_domain {
            Some(domain) => judge_server(facts, roots, Some(domain), SystemTime::now()),
            None => judge_server_named(facts, roots, &self.target.tls_name, SystemTime::now()),
        };
        let name = judgement.map_err(Fault::Certificate)?.unwrap_or_default();
        Ok(Done::Ok(format!("{name}; it carries {found}")))
    }

    async fn auth(&mut self) -> Result<String, Fault> {
        let Some(auth) = &self.route.connector.config.auth else { return Ok(String::new()) };
        let (mechanism, bit, user) = match auth {
            Auth::Plain(credentials) => ("PLAIN", AUTH_PLAIN, &credentials.username),
            Auth::Login(credentials) => ("LOGIN", AUTH_LOGIN, &credentials.username),
            Auth::XOAuth2(settings) => ("XOAUTH2", AUTH_XOAUTH2, &settings.username),
        };
        if !self.capabilities.has_capability(EXT_AUTH) || self.capabilities.auth_mechanisms & bit == 0 {
            return Err(Fault::NoMechanism(mechanism));
        }
        let answer = match auth {
            Auth::Plain(credentials) | Auth::Login(credentials) => {
                let password = password(&credentials.password_file).await?;
                // The client would try every mechanism there is; the relay uses the one configured.
                let mut only = self.capabilities.clone();
                only.auth_mechanisms = bit;
                let credentials = Credentials::new(user.as_str(), password.as_str());
                self.client()?.authenticate(&credentials, &only).await.map(|_| 235)
            }
            Auth::XOAuth2(settings) => self.xoauth2(settings).await?,
        };
        let reply = self.heard(answer, |code| code == 235)?;
        Ok(format!("{mechanism} as {user}: {}", reply.to_line()))
    }

    /// mail-send has it too, but answers the challenge that a refusal comes with by the token again
    /// instead of an empty line.
    async fn xoauth2(&mut self, settings: &OAuth2) -> Result<Result<u16, Error>, Fault> {
        let response = self.route.connector.xoauth2(settings, self.route.resolver).await;
        let response = response.map_err(|why| Fault::Credentials(format!("no OAuth 2 token: {why}")))?;
        let client = self.client()?;
        let mut reply = client.cmd(format!("AUTH XOAUTH2 {response}\r\n")).await;
        if reply.as_ref().is_ok_and(|reply| reply.code() == 334) {
            reply = client.cmd(b"\r\n").await;
        }
        Ok(reply.map(|reply| reply.code()))
    }

    async fn mail_from(&mut self) -> Result<String, Fault> {
        let mail = self.route.mail;
        let mut parameters = Parameters::new();
        if self.capabilities.has_capability(EXT_SIZE) {
            parameters.add(("SIZE".to_owned(), mail.text.len().to_string()));
        }
        let reply = self.client()?.mail_from(&mail.from, &parameters).await;
        let reply = self.heard(reply.map(|()| 250), |code| code / 100 == 2)?;
        Ok(format!("<{}>: {}", mail.from, reply.to_line()))
    }

    async fn send(&mut self) -> Result<Reply, Fault> {
        let mail = self.route.mail;
        let client = self.client()?;
        // mail-send always adds a line end of its own.
        let text = mail.text.strip_suffix("\r\n").unwrap_or(&mail.text);
        let reply = match client.write_message(text.as_bytes()).await {
            Ok(()) => client.read().await.map(|reply| reply.code()),
            Err(error) => Err(Error::Io(error)),
        };
        self.heard(reply, |code| code / 100 == 2)
    }

    /// The client, ready for the next command.
    fn client(&mut self) -> Result<&mut SmtpClient<Tap>, Fault> {
        let client = self.client.as_mut().ok_or_else(|| Fault::Closed(String::new()))?;
        client.stream.listen();
        Ok(client)
    }

    /// The reply to the last command, if it is the one hoped for. The verdict is mail-send's; the
    /// text is what came over the wire.
    fn heard(&mut self, answer: Result<u16, Error>, good: impl Fn(u16) -> bool) -> Result<Reply, Fault> {
        let Some(client) = &mut self.client else { return Err(Fault::Closed(String::new())) };
        let ended = client.stream.ended() || matches!(answer, Err(Error::Io(_)));
        // Of an exchange that broke off, what was still a yes is no answer.
        let reply = client
            .stream
            .last_reply()
            .filter(|reply| answer.is_ok() || !ended || reply.is_transient() || reply.is_permanent());
        match (answer, reply) {
            (Ok(code), Some(reply)) if good(code) => Ok(reply),
            (Ok(_) | Err(Error::UnexpectedReply(_) | Error::AuthenticationFailed(_)), Some(reply)) => {
                Err(Fault::Refusal(reply))
            }
            (Err(Error::Timeout), _) => Err(Fault::Silent),
            (Err(Error::Io(_)), Some(reply)) => Err(Fault::Refusal(reply)),
            (_, None) if ended => Err(Fault::Closed(client.stream.rest())),
            (Err(error), Some(reply)) => Err(Fault::Garbled(format!("{} ({error})", reply.to_line()))),
            (_, None) => Err(Fault::Garbled(client.stream.rest())),
        }
    }
}

fn said(reply: &Reply) -> Done {
    Done::Ok(reply.to_line())
}

async fn password(file: &std::path::Path) -> Result<String, Fault> {
    read_secret(file).await.map_err(|e| Fault::Credentials(format!("{}: {e}", file.display())))
}

fn not_connected(error: Error) -> Fault {
    match error {
        Error::Timeout => Fault::NoAnswer,
        Error::Io(e) if e.kind() == io::ErrorKind::TimedOut => Fault::NoAnswer,
        Error::Io(e) if e.kind() == io::ErrorKind::ConnectionRefused => Fault::Refused,
        Error::Io(e) => Fault::Unreachable(e.kind(), e.to_string()),
        other => Fault::Unreachable(io::ErrorKind::Other, other.to_string()),
    }
}
