//! What would go wrong between this configuration and Exchange Online, though it is valid
//! (exchange-edge.md 2.2, 3.5, 8.5). Nothing is asked of the network.

mod certificates;
mod eop;
mod receive;
mod send;
#[cfg(test)]
mod tests;

use std::time::SystemTime;

use serde::Serialize;

use crate::config::Config;
use crate::tls::{CertificateStore, Roots, TlsError};

/// One thing found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable name of the rule, say `certificate-chain-incomplete`.
    pub rule: &'static str,
    /// What it is about: ``send connector `To EOP` ``.
    pub subject: String,
    /// What is wrong and what comes of it.
    pub problem: String,
    /// What to do.
    pub change: String,
}

/// Where rules leave what they find.
struct Findings(Vec<Finding>);

impl Findings {
    fn add(
        &mut self,
        rule: &'static str,
        subject: &str,
        problem: impl Into<String>,
        change: impl Into<String>,
    ) {
        let (subject, problem, change) = (subject.to_owned(), problem.into(), change.into());
        let finding = Finding { rule, subject, problem, change };
        // Several connectors may show one certificate: what is wrong with it is said once.
        if !self.0.contains(&finding) {
            self.0.push(finding);
        }
    }
}

/// Looks a valid configuration over, its certificates and roots included. Fails when these cannot
/// be read.
pub fn lint(config: &Config, now: SystemTime) -> Result<Vec<Finding>, TlsError> {
    let certificates = CertificateStore::inspect(config)?;
    let roots = Roots::load(config)?;
    Ok(look(config, &certificates, &roots, now))
}

fn look(config: &Config, certificates: &CertificateStore, roots: &Roots, now: SystemTime) -> Vec<Finding> {
    let mut findings = Findings(Vec::new());
    for connector in &config.receive_connectors {
        receive::look(connector, &mut findings);
    }
    receive::accepted_domains(config, &mut findings);
    for connector in config.send_connectors.iter().filter(|connector| connector.enabled) {
        send::look(connector, &mut findings);
    }
    send::transport(config, &mut findings);
    certificates::look(config, certificates, roots, now, &mut findings);
    findings.0
}
