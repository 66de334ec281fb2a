//! A receive connector at work: its settings, its TLS material, and what counts against its
//! limits. Counters outlive a reload, so that a reload is no way around a limit.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::ReceiveConnector;
use crate::tls::{CertificateFacts, ServerTls};

/// A receive connector with what its sessions share.
#[derive(Debug)]
pub struct Connector {
    /// Its settings.
    pub config: ReceiveConnector,
    /// `<Server>\<Connector>`, as the logs name it.
    pub log_name: String,
    /// Names this server writes behind `by` in `Received`, for counting our own hops.
    pub(crate) our_names: Arc<[Box<str>]>,
    /// STARTTLS settings; none = not offered.
    pub(crate) tls: Option<ConnectorTls>,
    pub(crate) usage: Arc<Usage>,
}

/// What STARTTLS needs on a connector.
#[derive(Debug)]
pub(crate) struct ConnectorTls {
    pub(crate) server: ServerTls,
    pub(crate) certificate: CertificateFacts,
}

/// Sessions and messages counted against a connector's limits.
#[derive(Debug, Default)]
pub(crate) struct Usage(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    sessions: usize,
    sources: HashMap<IpAddr, Source>,
    swept: Option<Instant>,
}

/// What one address has open and has sent in the running minute.
#[derive(Debug)]
struct Source {
    sessions: usize,
    minute: Instant,
    messages: u32,
}

/// Which connection limit a new session would break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OverLimit {
    Connector,
    Source,
}

/// An open session's place in the counts; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Place {
    usage: Arc<Usage>,
    source: IpAddr,
}

/// `MessageRateLimit` counts per minute.
const MINUTE: Duration = Duration::from_mins(1);

/// Remembered sources below which nobody sweeps.
const SWEEP_ABOVE: usize = 4096;

impl Usage {
    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a session from `source`.
    pub(crate) fn enter(
        self: &Arc<Self>,
        source: IpAddr,
        limits: &ReceiveConnector,
    ) -> Result<Place, OverLimit> {
        let mut counts = self.counts();
        if counts.sessions >= limits.max_inbound_connections {
            return Err(OverLimit::Connector);
        }
        let entry = counts.sources.entry(source).or_insert_with(|| Source {
            sessions: 0,
            minute: Instant::now(),
            messages: 0,
        });
        if entry.sessions >= limits.max_inbound_connections_per_source {
            return Err(OverLimit::Source);
        }
        entry.sessions += 1;
        counts.sessions += 1;
        Ok(Place { usage: Arc::clone(self), source })
    }
}

impl Place {
    /// Counts one message of this source; false when `limit` a minute is used up.
    pub(crate) fn message_allowed(&self, limit: u32) -> bool {
        if limit == 0 {
            return true;
        }
        let mut counts = self.usage.counts();
        let Some(source) = counts.sources.get_mut(&self.source) else { return true };
        if source.minute.elapsed() >= MINUTE {
            source.minute = Instant::now();
            source.messages = 0;
        }
        source.messages += 1;
        source.messages <= limit
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.usage.counts();
        counts.sessions -= 1;
        let Some(source) = counts.sources.get_mut(&self.source) else { return };
        source.sessions -= 1;
        // A source is remembered while its running minute matters, or a client could reset its
        // rate by reconnecting.
        if source.sessions == 0 && (source.messages == 0 || source.minute.elapsed() >= MINUTE) {
            counts.sources.remove(&self.source);
        }
        // Many sources that each came once: once a minute the finished ones are swept.
        if counts.sources.len() > SWEEP_ABOVE && counts.swept.is_none_or(|at| at.elapsed() >= MINUTE) {
            counts.swept = Some(Instant::now());
            counts.sources.retain(|_, s| s.sessions > 0 || s.minute.elapsed() < MINUTE);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::*;

    /// A connector with Exchange Edge's defaults, for tests of this room.
    pub(crate) fn config(name: &str, bind: &str, ranges: &[&str]) -> ReceiveConnector {
        ReceiveConnector {
            name: name.into(),
            bindings: vec![bind.parse().unwrap()],
            remote_ip_ranges: ranges.iter().map(|r| IpRange::parse(r).unwrap()).collect(),
            tls: ReceiveTls::Off,
            tls_certificate_name: None,
            tls_domains: vec![],
            request_client_certificate: false,
            tls_rejection: TlsRejection::Exchange,
            min_tls_version: MinTlsVersion::Tls12,
            accept_any_recipient: false,
            fqdn: "edge.contoso.com".into(),
            banner: None,
            max_message_size: 36 << 20,
            max_header_size: 256 << 10,
            max_recipients_per_message: 200,
            max_inbound_connections: 5000,
            max_inbound_connections_per_source: 20,
            message_rate_limit: 600,
            connection_timeout: Duration::from_mins(5),
            connection_inactivity_timeout: Duration::from_mins(1),
            tarpit_interval: Duration::ZERO,
            max_protocol_errors: 5,
            max_hop_count: 60,
            max_local_hop_count: 5,
            proxy_protocol_from: vec![],
            protocol_logging: ProtocolLogging::None,
            trusted: false,
            reply_profile: ReplyProfile::Exchange2019,
            tls13_tickets: false,
            bare_line_feeds: BareLineFeeds::Reject,
        }
    }

    pub(crate) fn connector(name: &str, bind: &str, ranges: &[&str]) -> Arc<Connector> {
        Arc::new(Connector {
            config: config(name, bind, ranges),
            log_name: format!("EDGE\\{name}"),
            our_names: Arc::from([Box::from("edge.contoso.com")]),
            tls: None,
            usage: Arc::default(),
        })
    }

    #[test]
    fn places_are_limited_per_source_and_in_all_and_given_back() {
        let mut c = config("c", "127.0.0.1:25", &["0.0.0.0/0"]);
        c.max_inbound_connections = 3;
        c.max_inbound_connections_per_source = 2;
        let usage = Arc::new(Usage::default());
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let first = usage.enter(a, &c).unwrap();
        let _second = usage.enter(a, &c).unwrap();
        assert_eq!(usage.enter(a, &c).unwrap_err(), OverLimit::Source);
        let _third = usage.enter(b, &c).unwrap();
        assert_eq!(usage.enter(b, &c).unwrap_err(), OverLimit::Connector);
        drop(first);
        assert_eq!(usage.counts().sessions, 2);
        assert!(usage.enter(a, &c).is_ok());
    }

    #[test]
    fn the_message_rate_survives_a_reconnect() {
        let c = config("c", "127.0.0.1:25", &["0.0.0.0/0"]);
        let usage = Arc::new(Usage::default());
        let source: IpAddr = "10.0.0.1".parse().unwrap();
        let place = usage.enter(source, &c).unwrap();
        assert!(place.message_allowed(2) && place.message_allowed(2));
        drop(place);
        let place = usage.enter(source, &c).unwrap();
        assert!(!place.message_allowed(2));
        assert!(place.message_allowed(0));
    }
}
