//! What all sessions share, and the door: accepting connections and choosing their connector.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::config::{Config, IpRange, ProtocolLogging, ReceiveTls};
use crate::eop::{StandIn, Visit};
use crate::log::{Observers, ProtocolLog};
use crate::queue::Queue;
use crate::route::AcceptedDomains;
use crate::shutdown::Shutdown;
use crate::smtp::Address;
use crate::tls::{CertificateStore, Roots, ServerTls, TlsError};

use super::connector::{Connector, ConnectorTls, OverLimit, Usage};
use super::replies;
use super::selection::Selection;
use super::session::Session;
use super::stream::Stream;

/// Pause after an accept that failed for want of resources; at once it would fail again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a refused client may take to read why.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// The receive side: one for the life of the process, over all reloads.
#[derive(Debug)]
pub struct Server {
    pub(super) queue: Arc<Queue>,
    pub(super) observers: Observers,
    pub(super) shutdown: Shutdown,
    current: ArcSwap<Generation>,
}

/// What one configuration says. A session keeps the generation it began with.
#[derive(Debug)]
pub struct Generation {
    selection: Selection,
    log: ProtocolLog,
    server_name: String,
    pub(super) accepted: AcceptedDomains,
    pub(super) roots: Roots,
    pub(super) max_message_size: u64,
    pub(super) quiet_probes_from: Vec<IpRange>,
    stand_in: Option<Arc<StandIn>>,
    /// The certificates that faults of the stand-in show, by name.
    faulty: HashMap<String, ConnectorTls>,
}

impl Generation {
    /// Builds the receive connectors of `config`; the counters of `previous` live on.
    pub fn new(
        config: &Config,
        certificates: &CertificateStore,
        roots: &Roots,
        log: ProtocolLog,
        previous: Option<&Self>,
    ) -> Result<Self, TlsError> {
        let mut connectors = Vec::with_capacity(config.receive_connectors.len());
        for settings in &config.receive_connectors {
            let old = previous
                .and_then(|p| p.selection.connectors().iter().find(|c| c.config.name == settings.name));
            let identity = match settings.tls {
                ReceiveTls::Off => None,
                _ => certificates.choose(settings.tls_certificate_name.as_deref(), &settings.fqdn),
            };
            if identity.is_none() && settings.tls != ReceiveTls::Off {
                tracing::warn!(
                    connector = settings.name,
                    name = settings.tls_certificate_name.as_deref().unwrap_or(&settings.fqdn),
                    "no certificate contains this name: STARTTLS is not offered"
                );
            }
            let min = settings.min_tls_version.max(config.tls.min_version);
            let tls = identity
                .map(|identity| {
                    let ask = settings.asks_for_client_certificates();
                    Ok::<_, TlsError>(ConnectorTls {
                        server: ServerTls::new(&identity, min, ask, settings.tls13_tickets)?,
                        certificate: identity.facts.clone(),
                    })
                })
                .transpose()?;
            let mut names: Vec<Box<str>> = vec![config.server.hostname.as_str().into()];
            if !settings.fqdn.eq_ignore_ascii_case(&config.server.hostname) {
                names.push(settings.fqdn.as_str().into());
            }
            connectors.push(Arc::new(Connector {
                log_name: format!("{}\\{}", machine_name(&config.server.hostname), settings.name),
                config: settings.clone(),
                our_names: names.into(),
                tls,
                usage: old.map_or_else(|| Arc::new(Usage::default()), |c| Arc::clone(&c.usage)),
            }));
        }
        let stand_in = StandIn::new(config);
        Ok(Self {
            selection: Selection::new(connectors),
            log,
            server_name: config.server.hostname.clone(),
            accepted: AcceptedDomains::new(&config.accepted_domains),
            roots: roots.clone(),
            max_message_size: config.transport.max_message_size,
            faulty: faulty(config, stand_in.as_ref(), certificates)?,
            stand_in: stand_in.map(Arc::new),
            quiet_probes_from: config.logging.quiet_probes_from.clone(),
        })
    }

    /// What a bare `<postmaster>` stands for.
    pub(super) fn postmaster(&self) -> Option<Address> {
        let domain = self.accepted.default_domain().unwrap_or(&self.server_name);
        Address::parse(&format!("postmaster@{domain}")).ok()
    }

    /// The handshake that shows a certificate of a fault's.
    pub(super) fn faulty_tls(&self, name: &str) -> Option<&ConnectorTls> {
        self.faulty.get(name)
    }

    /// The `SmtpReceive` protocol log.
    pub fn log(&self) -> &ProtocolLog {
        &self.log
    }

    /// The connectors, for those who explain a choice.
    pub fn selection(&self) -> &Selection {
        &self.selection
    }
}

/// The certificates that the faults of a stand-in show, ready for handshakes.
fn faulty(
    config: &Config,
    stand_in: Option<&StandIn>,
    certificates: &CertificateStore,
) -> Result<HashMap<String, ConnectorTls>, TlsError> {
    let mut faulty = HashMap::new();
    for name in stand_in.into_iter().flat_map(StandIn::certificates) {
        if let Some(identity) = certificates.choose(Some(name), "") {
            let server = ServerTls::new(&identity, config.tls.min_version, true, false)?;
            faulty.insert(name.to_owned(), ConnectorTls { server, certificate: identity.facts.clone() });
        }
    }
    Ok(faulty)
}

/// Exchange's short server name: the first label, upper case.
pub fn machine_name(hostname: &str) -> String {
    hostname.split('.').next().unwrap_or(hostname).to_ascii_uppercase()
}

impl Server {
    /// A receive side that hands accepted messages to `queue`.
    pub fn new(
        queue: Arc<Queue>,
        observers: Observers,
        shutdown: Shutdown,
        generation: Generation,
    ) -> Arc<Self> {
        Arc::new(Self { queue, observers, shutdown, current: ArcSwap::from_pointee(generation) })
    }

    /// New sessions follow `generation`; running ones keep theirs.
    pub fn reload(&self, generation: Generation) {
        self.current.store(Arc::new(generation));
    }

    /// The generation new sessions get.
    pub fn generation(&self) -> Arc<Generation> {
        self.current.load_full()
    }

    /// Takes connections from `listener` until shutdown.
    pub async fn listen(self: Arc<Self>, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.shutdown.wait() => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let server = Arc::clone(&self);
                    let alive = self.shutdown.guard();
                    tokio::spawn(async move {
                        server.serve(stream, peer).await;
                        drop(alive);
                    });
                }
                Err(error) => {
                    // A connection that died in the backlog is nobody's problem; running out of
                    // descriptors or memory passes when sessions end.
                    if error.kind() != std::io::ErrorKind::ConnectionAborted {
                        tracing::error!(%error, "accept failed");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }

    /// One connection, from accept to close.
    ///
    /// Thousands of sessions may be waiting for a command, and each holds this future for as long: a
    /// test bounds its size.
    pub async fn serve(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        match self.admit(stream, peer) {
            Some(Admitted::Session(session)) => session.run().await,
            Some(Admitted::Refused(stream, text)) => Box::pin(refuse(stream, text)).await,
            None => {}
        }
    }

    /// Chooses a connection's connector and begins its session; none: it is gone already.
    fn admit(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) -> Option<Admitted> {
        let local = stream.local_addr().ok()?;
        // Replies are small and awaited; a delayed one costs a round trip.
        let _ = stream.set_nodelay(true);
        let (peer, local) = (canonical(peer), canonical(local));
        let generation = self.generation();
        let Some(connector) = generation.selection.choose(local, peer.ip()).cloned() else {
            tracing::warn!(%peer, %local, "no receive connector covers this peer: refused");
            return Some(Admitted::Refused(stream, replies::NOT_AVAILABLE));
        };
        let place = match connector.usage.enter(peer.ip(), &connector.config) {
            Ok(place) => place,
            Err(over) => {
                let text = match over {
                    OverLimit::Connector => replies::TOO_MANY_CONNECTIONS,
                    OverLimit::Source => replies::TOO_MANY_FROM_SOURCE,
                };
                tracing::warn!(%peer, connector = connector.config.name, ?over, "connection limit reached: refused");
                return Some(Admitted::Refused(stream, text));
            }
        };
        let mut log = match connector.config.protocol_logging {
            ProtocolLogging::Verbose => generation.log.session(&connector.log_name, peer),
            ProtocolLogging::None => ProtocolLog::disabled().session(&connector.log_name, peer),
        };
        if generation.quiet_probes_from.iter().any(|r| r.contains(peer.ip())) {
            log.hold();
        }
        log.connect(local);
        log.info(permissions(&connector), "Set Session Permissions");
        let visit = generation.stand_in.as_ref().map(|stand_in| {
            let (config, id) = (&connector.config, log.session_id().to_string());
            let cloud = config.accept_any_recipient;
            Box::new(Visit::new(Arc::clone(stand_in), peer.ip(), &config.fqdn, id, cloud))
        });
        let mut session =
            Session::new(self, generation, connector, place, Stream::Plain(stream), (peer, local), log);
        session.eop = visit;
        Some(Admitted::Session(Box::new(session)))
    }
}

/// What becomes of a connection.
enum Admitted {
    /// Boxed, so that it is not in its task several times, once for each hand it goes through.
    Session(Box<Session>),
    /// Not served, and told so.
    Refused(TcpStream, &'static str),
}

/// The permission list of a session (exchange-edge.md 1.4).
fn permissions(connector: &Connector) -> &'static str {
    if connector.config.accept_any_recipient {
        "SMTPSubmit SMTPAcceptAnyRecipient SMTPAcceptAnySender SMTPAcceptAuthoritativeDomainSender AcceptRoutingHeaders"
    } else {
        "SMTPSubmit SMTPAcceptAnySender SMTPAcceptAuthoritativeDomainSender AcceptRoutingHeaders"
    }
}

/// Says why and hangs up, without a session.
async fn refuse(stream: TcpStream, line: &str) {
    let mut stream = Stream::Plain(stream);
    let telling = async {
        if let Stream::Plain(plain) = &mut stream {
            plain.write_all(line.as_bytes()).await?;
            plain.write_all(b"\r\n").await?;
        }
        stream.close(false).await;
        Ok::<_, std::io::Error>(())
    };
    // A client that does not listen is not waited for.
    let _ = tokio::time::timeout(REFUSAL_TIMEOUT, telling).await;
}

/// IPv4 peers of a dual-stack listener under their IPv4 address.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the future that `start` would return.
    fn size_of_future<F>(_start: impl FnOnce(Arc<Server>, TcpStream, SocketAddr) -> F) -> usize {
        size_of::<F>()
    }

    /// A session's task and its state, which are there for as long as it waits for a command. What
    /// makes one of them outgrow its bound belongs into a box, or is paid for by 10,000 sessions.
    #[test]
    fn a_waiting_session_is_small() {
        let (task, session) = (size_of_future(Server::serve), size_of::<Session>());
        assert!(task <= 1280, "the task has {task} bytes");
        assert!(session <= 768, "the session has {session} bytes");
    }
}
