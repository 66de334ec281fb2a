//! What Exchange Online does when an administrator validates a connector, from here and over one
//! of our send connectors (exchange-edge.md 8.2 to 8.4; interface 5).
//!
//! The SMTP client is mail-send, not ours: a fault of our own engine cannot hide behind itself.
//! DNS, the TLS settings and the judgement on certificates are the relay's.

mod fault;
mod message;
mod report;
mod tap;
mod walk;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{Config, Routing, SendConnector, ascii_domain};
use crate::message::VALIDATION_SENDER;
use crate::route::{AcceptedDomains, Decision, RouteTable};
use crate::send::{ConnectorRuntime, Resolver, Target, targets};
use crate::smtp::{Address, AddressError};
use crate::tls::{CertificateStore, Roots, TlsError};

use fault::{Fault, Place};
use walk::{Ended, Route, Walk};

pub use message::{BODY, SUBJECT};
pub use report::{Failure, Report, Step, StepKind, StepResult, Task, place};

/// How long a step may take unless told.
pub const STEP_LIMIT: Duration = Duration::from_secs(30);

/// What EOP calls its second task (exchange-edge.md 8.3).
const SEND_TEST_EMAIL: &str = "Send test email";

/// What the test message is like and how long a step may take. What Exchange Online puts into its
/// message is not known for sure, hence the choice.
#[derive(Debug, Clone)]
pub struct Options {
    /// Recipient, in a domain that the connector covers.
    pub to: String,
    /// Sender, in the envelope and the header; none: `O365ConnectorValidation@` and the first
    /// authoritative accepted domain.
    pub from: Option<String>,
    /// Subject; none: [`SUBJECT`].
    pub subject: Option<String>,
    /// Body; none: [`BODY`].
    pub body: Option<String>,
    /// For each step.
    pub limit: Duration,
}

/// Why nothing could be validated at all.
#[derive(Debug, thiserror::Error)]
pub enum ValidateError {
    /// No send connector is called that.
    #[error("there is no send connector `{name}`; there {}", listed(.known))]
    UnknownConnector {
        /// As given.
        name: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// EOP's words where the connector is not for that domain, or disabled (exchange-edge.md 8.3).
    #[error("The domain of the recipient is not configured as part of connector. {hint}")]
    NotCovered {
        /// What to change.
        hint: String,
    },
    /// It sends otherwise than by SMTP.
    #[error(
        "send connector `{0}` does not send by SMTP (it has `maildir` or `lmtp`): nothing Exchange Online could validate"
    )]
    NotSmtp(String),
    /// An address that is none, or not one for this.
    #[error("{option}: {text:?} {reason}")]
    Address {
        /// `--to` or `--from`.
        option: &'static str,
        /// As given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificates or roots cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

fn listed(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.as_slice() {
        [] => "are none in the configuration".to_owned(),
        [one] => format!("is only {one}"),
        _ => format!("are {}", quoted.join(", ")),
    }
}

/// The test message, ready to go.
struct Mail {
    from: String,
    to: String,
    text: String,
}

/// Walks all steps for each smart host of the connector called `name` and each of its addresses,
/// one after the other, and sends a test message to each. `progress` hears of each step as it
/// ends, with the task it belongs to.
pub async fn validate(
    config: &Config,
    name: &str,
    options: &Options,
    progress: &mut (dyn FnMut(&str, &Step) + Send),
) -> Result<Report, ValidateError> {
    let connector = find(config, name)?;
    let to = address("--to", &options.to)?;
    let from = address("--from", &sender(config, options))?;
    covers(config, connector, &to)?;
    let subject = options.subject.as_deref().unwrap_or(SUBJECT);
    let body = options.body.as_deref().unwrap_or(BODY);
    let text = message::build(&from, &to, subject, body, &connector.fqdn);
    let runtime = ConnectorRuntime::new(
        connector.clone(),
        &CertificateStore::inspect(config)?,
        Arc::new(Roots::load(config)?),
        config.tls.min_version,
        &config.server.hostname,
    )?;
    let resolver = Resolver::new(&config.dns);
    let mail = Mail { from: from.to_string(), to: to.to_string(), text };
    let route = Route { connector: &runtime, resolver: &resolver, mail: &mail, limit: options.limit };
    let mut record = Record { tasks: Vec::new(), mail: Vec::new(), progress };
    for (label, one) in hosts(connector, to.domain())? {
        record.tasks.push(Task {
            name: format!("Check connectivity to {label}"),
            passed: false,
            steps: Vec::new(),
        });
        let Some(found) = resolve(&route, &one, &label, to.domain(), &mut record).await else { continue };
        for target in found {
            walk(&route, &target, &mut record).await;
        }
    }
    Ok(record.into_report(connector, &mail, subject, notes(config, connector, &to)))
}

fn find<'a>(config: &'a Config, name: &str) -> Result<&'a SendConnector, ValidateError> {
    let all = &config.send_connectors;
    let exact = all.iter().find(|connector| connector.name == name);
    exact.or_else(|| all.iter().find(|connector| connector.name.eq_ignore_ascii_case(name))).ok_or_else(
        || ValidateError::UnknownConnector {
            name: name.to_owned(),
            known: all.iter().map(|connector| connector.name.clone()).collect(),
        },
    )
}

/// EOP's sender: the tenant's domain is our first authoritative one (exchange-edge.md 8.3).
fn sender(config: &Config, options: &Options) -> String {
    options.from.clone().unwrap_or_else(|| {
        let accepted = AcceptedDomains::new(&config.accepted_domains);
        format!("{VALIDATION_SENDER}@{}", accepted.default_domain().unwrap_or(&config.server.hostname))
    })
}

/// An address in its ASCII form; mail-send knows no SMTPUTF8.
fn address(option: &'static str, text: &str) -> Result<Address, ValidateError> {
    let wrong = |reason: String| ValidateError::Address { option, text: text.to_owned(), reason };
    let parsed = Address::parse(text).map_err(|e: AddressError| wrong(format!("is no mail address: {e}")))?;
    if !parsed.local_part().is_ascii() {
        return Err(wrong("has a local part that is not ASCII; take another address for this".to_owned()));
    }
    if parsed.is_ascii() {
        return Ok(parsed);
    }
    let domain = ascii_domain(parsed.domain()).map_err(|e| wrong(e.to_string()))?;
    let ascii = format!("{}@{domain}", parsed.local_part());
    Address::parse(&ascii).map_err(|e| wrong(format!("is no mail address: {e}")))
}

/// Whether the connector is for the recipient's domain, in EOP's words if not.
fn covers(config: &Config, connector: &SendConnector, to: &Address) -> Result<(), ValidateError> {
    let not = |hint: String| Err(ValidateError::NotCovered { hint });
    if !connector.enabled {
        return not(format!("Send connector `{}` is disabled: set `enabled = true`.", connector.name));
    }
    let alone = RouteTable::new(std::slice::from_ref(connector), &config.accepted_domains);
    match alone.decide(to, 0) {
        Decision::Unreachable => not(format!(
            "Give --to an address that the `address_spaces` of `{}` cover, or add `{}` to them.",
            connector.name,
            to.domain()
        )),
        Decision::Via { .. } | Decision::TooLarge { .. } => Ok(()),
    }
}

/// The smart hosts one by one, each with a connector for it alone; or the domain, by its MX.
fn hosts(connector: &SendConnector, domain: &str) -> Result<Vec<(String, SendConnector)>, ValidateError> {
    match &connector.routing {
        Routing::Maildir(_) | Routing::Lmtp(_) => Err(ValidateError::NotSmtp(connector.name.clone())),
        Routing::Dns => Ok(vec![(domain.to_owned(), connector.clone())]),
        Routing::SmartHosts(list) => Ok(list
            .iter()
            .map(|host| {
                let routing = Routing::SmartHosts(vec![host.clone()]);
                (host.to_string(), SendConnector { routing, ..connector.clone() })
            })
            .collect()),
    }
}

/// The addresses of one host; none when there are none, which is then on record.
async fn resolve(
    route: &Route<'_>,
    connector: &SendConnector,
    host: &str,
    domain: &str,
    record: &mut Record<'_>,
) -> Option<Vec<Target>> {
    let started = Instant::now();
    // Whether an address is of the kind of `source_ip` is no question of name service.
    let anywhere = SendConnector { source_ip: None, ..connector.clone() };
    let found = tokio::time::timeout(route.limit, targets(&anywhere, domain, route.resolver)).await;
    let took = started.elapsed();
    let found = match found {
        Ok(Ok(mut found)) => {
            if let Some(source) = connector.source_ip {
                found.retain(|target| target.address.is_ipv4() == source.is_ipv4());
            }
            let why = "it has no address of the same kind (IPv4, IPv6) as `source_ip`".to_owned();
            if found.is_empty() { Err(Fault::Unreachable(io::ErrorKind::Other, why)) } else { Ok(found) }
        }
        Ok(Err(failure)) => Err(Fault::Dns(failure.to_string())),
        Err(_) => {
            Err(Fault::Dns(format!("the name servers did not answer within {} s", route.limit.as_secs())))
        }
    };
    let (ended, found) = match found {
        Ok(found) => {
            let list: Vec<String> = found.iter().map(|t| place(&t.host, &t.address.to_string())).collect();
            (Ended { result: StepResult::Ok, detail: list.join(", "), failure: None, took }, Some(found))
        }
        Err(fault) => {
            let place = Place {
                step: StepKind::Resolve,
                host: host.rsplit_once(':').map_or(host, |(name, _)| name),
                endpoint: host,
                rule: connector.effective_tls(),
                wanted: host,
                limit: route.limit.as_secs(),
            };
            let failure = fault.diagnose(place);
            let detail = failure.problem.clone();
            (Ended { result: StepResult::Failed, detail, failure: Some(failure), took }, None)
        }
    };
    record.note(StepKind::Resolve, host, None, ended);
    found
}

async fn walk(route: &Route<'_>, target: &Target, record: &mut Record<'_>) {
    let mut walk = Walk::new(route, target);
    let mut failed: Option<StepKind> = None;
    for step in walk.steps() {
        let ended = match failed {
            None => walk.take(step).await,
            Some(earlier) => Ended {
                result: StepResult::Skipped,
                detail: format!("not tried: {earlier} failed"),
                failure: None,
                took: Duration::ZERO,
            },
        };
        if ended.result == StepResult::Failed {
            failed = Some(step);
        }
        record.note(step, &target.host, Some(target.address.to_string()), ended);
    }
    walk.goodbye().await;
}

/// What is worth knowing besides the steps.
fn notes(config: &Config, connector: &SendConnector, to: &Address) -> Vec<String> {
    let table = RouteTable::new(&config.send_connectors, &config.accepted_domains);
    match table.decide(to, 0) {
        Decision::Via { connector: other, .. } if other.name != connector.name => vec![format!(
            "Other mail to {} goes over send connector `{}`, whose address space fits better or costs less.",
            to.domain(),
            other.name
        )],
        _ => Vec::new(),
    }
}

/// The steps as they end.
struct Record<'a> {
    tasks: Vec<Task>,
    mail: Vec<Step>,
    progress: &'a mut (dyn FnMut(&str, &Step) + Send),
}

impl Record<'_> {
    fn note(&mut self, step: StepKind, host: &str, address: Option<String>, ended: Ended) {
        let Ended { result, detail, failure, took } = ended;
        let step = Step {
            step,
            host: host.to_owned(),
            address,
            result,
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            // What peers say and certificates carry goes to a terminal.
            detail: detail.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
            failure,
        };
        match self.tasks.last_mut() {
            Some(task) if !step.step.is_mail() => {
                (self.progress)(&task.name, &step);
                task.steps.push(step);
            }
            _ => {
                (self.progress)(SEND_TEST_EMAIL, &step);
                self.mail.push(step);
            }
        }
    }

    fn into_report(
        self,
        connector: &SendConnector,
        mail: &Mail,
        subject: &str,
        notes: Vec<String>,
    ) -> Report {
        let mut tasks = self.tasks;
        tasks.push(Task { name: SEND_TEST_EMAIL.to_owned(), passed: false, steps: self.mail });
        for task in &mut tasks {
            let has = |wanted| task.steps.iter().any(|step| step.result == wanted);
            task.passed = has(StepResult::Ok) && !has(StepResult::Failed);
        }
        Report {
            connector: connector.name.clone(),
            tls: connector.effective_tls().as_str(),
            recipient: mail.to.clone(),
            sender: mail.from.clone(),
            subject: subject.to_owned(),
            passed: tasks.iter().all(|task| task.passed),
            notes,
            tasks,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(connector: &str) -> Config {
        let text = format!(
            "[server]\nhostname = \"edge.contoso.com\"\nspool = \"s\"\nlog_dir = \"l\"\n\
             [[accepted_domains]]\ndomain = \"shared.example\"\ntype = \"internal_relay\"\n\
             [[accepted_domains]]\ndomain = \"contoso.com\"\n\
             [[send_connectors]]\nname = \"Out\"\naddress_spaces = [\"*\"]\n{connector}\n"
        );
        Config::from_toml(&text, Path::new("/")).unwrap().config
    }

    fn options() -> Options {
        let limit = Duration::from_secs(5);
        Options { to: "b@x.example".into(), from: None, subject: None, body: None, limit }
    }

    #[test]
    fn the_sender_is_in_the_first_authoritative_domain() {
        let config = config("smart_hosts = [\"127.0.0.1\"]");
        assert_eq!(sender(&config, &options()), "O365ConnectorValidation@contoso.com");
    }

    #[test]
    fn addresses_go_out_in_their_ascii_form() {
        assert_eq!(address("--to", "don@bücher.example").unwrap().as_str(), "don@xn--bcher-kva.example");
        let error = address("--to", "dön@contoso.com").unwrap_err().to_string();
        assert!(error.contains("not ASCII"), "{error}");
    }

    #[tokio::test]
    async fn a_source_address_of_another_kind_is_no_fault_of_name_service() {
        let config = config("smart_hosts = [\"[::1]:25\"]\nsource_ip = \"127.0.0.1\"");
        let mut seen = Vec::new();
        let mut progress = |task: &str, step: &Step| seen.push((task.to_owned(), step.step));
        let options = options();
        let validation = validate(&config, "out", &options, &mut progress);
        // The admin API is going to run it on any thread.
        let validation: std::pin::Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(validation);
        let report = validation.await.unwrap();
        let failure = report.tasks[0].steps[0].failure.as_ref().unwrap();
        assert!(failure.problem.contains("same kind (IPv4, IPv6) as `source_ip`"), "{failure:?}");
        assert!(failure.eop_error.as_ref().is_some_and(|error| error.contains("4.4.317")));
        assert!(!report.passed);
        assert_eq!(seen, [("Check connectivity to [::1]:25".to_owned(), StepKind::Resolve)]);
    }
}
