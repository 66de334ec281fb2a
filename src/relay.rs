//! The relay as a whole: the one place that wires the rooms together.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::config::{Config, Logging};
use crate::eop::{self, Words};
use crate::log::{Kind, Observers, ProtocolLog};
use crate::queue::spool::{Recovery, Spool, SpoolError, SpoolOptions};
use crate::queue::{self, Queue, Routing};
use crate::receive::{Generation, Server};
use crate::route::RouteTable;
use crate::send::{ConnectorRuntime, Resolver, SendContext};
use crate::shutdown::{ShutdownTrigger, shutdown};
use crate::tls::{CertificateStore, Roots, TlsError};

/// Connections the kernel holds for us between two accepts.
const BACKLOG: i32 = 1024;
/// How long a drained process waits for its log writers.
const LOG_GRACE: Duration = Duration::from_secs(5);

/// Why the relay does not start, or a reload is refused.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}{}", bind_hint(.error))]
    Bind {
        /// The binding.
        address: SocketAddr,
        /// The system's reason.
        error: std::io::Error,
    },
    /// The spool cannot be used.
    #[error("spool {path}: {error}")]
    Spool {
        /// Its directory.
        path: String,
        /// Why.
        error: SpoolError,
    },
    /// Certificates or roots cannot be used.
    #[error("{0}")]
    Tls(#[from] TlsError),
}

fn bind_hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => "; another program listens there already",
        std::io::ErrorKind::PermissionDenied => "; ports below 1024 need root or CAP_NET_BIND_SERVICE",
        std::io::ErrorKind::AddrNotAvailable => "; this host does not own the address",
        _ => "",
    }
}

/// Sockets that are bound but do not accept yet: made while still root.
#[derive(Debug)]
pub struct Bound(Vec<(SocketAddr, std::net::TcpListener)>);

impl Bound {
    /// Binds every address of every receive connector once.
    pub fn bind(config: &Config) -> Result<Self, StartError> {
        let mut bound = Self(Vec::new());
        for address in sockets(config) {
            bound.add(address)?;
        }
        Ok(bound)
    }

    fn add(&mut self, address: SocketAddr) -> Result<(), StartError> {
        // Port 0 too is bound once an address: connectors that share a binding share its port.
        if !self.0.iter().any(|(a, _)| *a == address) {
            let listener = listen(address).map_err(|error| StartError::Bind { address, error })?;
            self.0.push((address, listener));
        }
        Ok(())
    }

    /// The sockets under their real addresses, and which of those stand for a port 0.
    fn into_listeners(self) -> Result<(Listeners, Vec<(SocketAddr, SocketAddr)>), StartError> {
        let (mut listeners, mut given) = (Vec::new(), Vec::new());
        for (address, listener) in self.0 {
            let bind_error = |error| StartError::Bind { address, error };
            let real = listener.local_addr().map_err(bind_error)?;
            if address.port() == 0 {
                given.push((address, real));
            }
            listeners.push((real, TcpListener::from_std(listener).map_err(bind_error)?));
        }
        Ok((listeners, given))
    }
}

/// Sockets that accept, with their addresses.
type Listeners = Vec<(SocketAddr, TcpListener)>;

/// The configuration with the ports the system gave for 0, by which connectors are chosen.
fn with_ports(config: &Config, given: &[(SocketAddr, SocketAddr)]) -> Config {
    let mut config = config.clone();
    for binding in config.receive_connectors.iter_mut().flat_map(|c| &mut c.bindings) {
        if let Some((_, real)) = given.iter().find(|(zero, _)| zero == binding) {
            *binding = *real;
        }
    }
    config
}

/// The bindings that need a socket of their own.
fn sockets(config: &Config) -> Vec<SocketAddr> {
    let bindings: Vec<SocketAddr> =
        config.receive_connectors.iter().flat_map(|c| &c.bindings).copied().collect();
    bindings.iter().filter(|a| !bindings.iter().any(|other| hears_for(other, a))).copied().collect()
}

/// Whether a socket on `wildcard` also gets the connections to `address`. The system would not
/// bind another one; which connector's they are is decided by the address they came to.
fn hears_for(wildcard: &SocketAddr, address: &SocketAddr) -> bool {
    wildcard.ip().is_unspecified()
        && !address.ip().is_unspecified()
        && wildcard.is_ipv4() == address.is_ipv4()
        && wildcard.port() == address.port()
        && address.port() != 0
}

fn listen(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` and `0.0.0.0` are two bindings, as in Exchange.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A running relay.
pub struct Relay {
    queue: Arc<Queue>,
    server: Arc<Server>,
    trigger: ShutdownTrigger,
    logs: Logs,
    observers: Observers,
    addresses: Vec<SocketAddr>,
    /// Who accepts on them, in the same order.
    acceptors: Vec<tokio::task::AbortHandle>,
    /// Bindings with port 0, and what the system made of them.
    given: Vec<(SocketAddr, SocketAddr)>,
    own: Arc<Mutex<Vec<SocketAddr>>>,
    grace: Duration,
    spool: Spool,
    certificates: CertificateStore,
    /// Says so when what the spool holds cannot be read.
    unreadable: mpsc::Receiver<StartError>,
}

/// The two protocol logs, and what they were opened with.
#[derive(Clone)]
struct Logs {
    receive: ProtocolLog,
    send: ProtocolLog,
    dir: PathBuf,
    settings: Logging,
}

impl Logs {
    fn open(config: &Config) -> Self {
        let (dir, settings) = (&config.server.log_dir, &config.logging);
        Self {
            receive: ProtocolLog::open(dir, Kind::Receive, settings),
            send: ProtocolLog::open(dir, Kind::Send, settings),
            dir: dir.clone(),
            settings: settings.clone(),
        }
    }

    /// The same logs where nothing about them changed: two writers to one file would mix lines.
    fn for_config(&self, config: &Config) -> Self {
        let old = (self.settings.max_age, self.settings.max_directory_size, self.settings.max_file_size);
        let new = &config.logging;
        let same = old == (new.max_age, new.max_directory_size, new.max_file_size);
        if same && self.dir == config.server.log_dir { self.clone() } else { Self::open(config) }
    }
}

impl Relay {
    /// Starts a relay on sockets bound before. Returns once it accepts mail; what earlier runs left
    /// in the queue is read meanwhile, see [`Relay::failed`].
    #[expect(clippy::unused_async, reason = "it must run within a runtime, which the signature says")]
    pub async fn start(config: &Config, bound: Bound, observers: Observers) -> Result<Self, StartError> {
        let (spool, recovery) = open_spool(config)?;
        let (trigger, shutdown) = shutdown();
        let own: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
        let logs = Logs::open(config);
        let parts = Parts::load(config, &logs, &observers, &own)?;
        let queue = Queue::new(spool.clone(), parts.routing, shutdown.clone());
        let (listeners, given) = bound.into_listeners()?;
        let generation = Generation::new(
            &with_ports(config, &given),
            &parts.certificates,
            &parts.roots,
            logs.receive.clone(),
            None,
        )?;
        let server = Server::new(Arc::clone(&queue), observers.clone(), shutdown, generation);
        let (failed, unreadable) = mpsc::channel(1);
        tokio::spawn(take_over(Arc::clone(&queue), recovery, config.server.spool.clone(), failed));
        let mut relay = Self {
            queue,
            server,
            trigger,
            logs,
            observers,
            addresses: Vec::new(),
            acceptors: Vec::new(),
            given,
            own,
            grace: config.server.shutdown_grace,
            spool,
            certificates: parts.certificates,
            unreadable,
        };
        relay.listen(listeners);
        Ok(relay)
    }

    fn listen(&mut self, listeners: Listeners) {
        for (address, listener) in listeners {
            self.addresses.push(address);
            self.own.lock().unwrap_or_else(PoisonError::into_inner).push(address);
            let accepting = tokio::spawn(Arc::clone(&self.server).listen(listener));
            self.acceptors.push(accepting.abort_handle());
        }
    }

    /// Closes the sockets that no binding needs any more; their sessions go on.
    fn close_unused(&mut self, config: &Config) {
        let wanted: Vec<SocketAddr> =
            config.receive_connectors.iter().flat_map(|c| &c.bindings).copied().collect();
        let (given, mut i) = (self.given.clone(), 0);
        while let Some(address) = self.addresses.get(i).copied() {
            let zero = given.iter().find(|(_, real)| *real == address).map(|(zero, _)| *zero);
            let used = |w: &SocketAddr| *w == address || Some(*w) == zero || hears_for(&address, w);
            if wanted.iter().any(used) {
                i += 1;
                continue;
            }
            self.addresses.remove(i);
            self.acceptors.remove(i).abort();
            self.given.retain(|(_, real)| *real != address);
            self.own.lock().unwrap_or_else(PoisonError::into_inner).retain(|own| *own != address);
            tracing::info!(%address, "no longer listening: no connector is bound there any more");
        }
    }

    /// Returns when the relay cannot go on: what earlier runs left in the spool cannot be read.
    /// Mail is refused from then on; stop the relay.
    pub async fn failed(&mut self) -> StartError {
        match self.unreadable.recv().await {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }

    /// Addresses it listens on, real ports for those given as 0.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The queue.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Our certificates as they are in use.
    pub fn certificates(&self) -> &CertificateStore {
        &self.certificates
    }

    /// Goes over to a changed configuration. On an error everything stays as it was.
    pub fn reload(&mut self, config: &Config) -> Result<(), StartError> {
        let logs = self.logs.for_config(config);
        let parts = Parts::load(config, &logs, &self.observers, &self.own)?;
        let previous = self.server.generation();
        // New sockets are bound before anything changes, so that a failure leaves all as it was.
        let mut new = Bound(Vec::new());
        for address in sockets(config) {
            let heard = |open: &SocketAddr| *open == address || hears_for(open, &address);
            let given = self.given.iter().any(|(zero, _)| *zero == address);
            if !given && !self.addresses.iter().any(heard) {
                new.add(address)?;
            }
        }
        let (listeners, new) = new.into_listeners()?;
        let mut given = self.given.clone();
        given.extend(new);
        let generation = Generation::new(
            &with_ports(config, &given),
            &parts.certificates,
            &parts.roots,
            logs.receive.clone(),
            Some(&previous),
        )?;
        self.server.reload(generation);
        self.queue.reload(parts.routing);
        self.given = given;
        self.listen(listeners);
        self.close_unused(config);
        self.logs = logs;
        self.grace = config.server.shutdown_grace;
        self.certificates = parts.certificates;
        Ok(())
    }

    /// Ends in order: no new sessions, running transactions finish within the grace period, the
    /// queue stays on disk.
    pub async fn stop(self) {
        let Self { queue, server, mut trigger, logs, spool, grace, .. } = self;
        trigger.trigger();
        drop((queue, server));
        if tokio::time::timeout(grace, trigger.finished()).await.is_err() {
            tracing::warn!(?grace, "sessions still running after the grace period are cut off");
        }
        let closing = tokio::task::spawn_blocking(move || {
            spool.close();
            for log in [&logs.receive, &logs.send] {
                log.sync(LOG_GRACE);
            }
        });
        if closing.await.is_err() {
            tracing::error!("the spool did not close cleanly");
        }
    }
}

fn open_spool(config: &Config) -> Result<(Spool, Recovery), StartError> {
    let path = &config.server.spool;
    Spool::open(path, SpoolOptions::default()).map_err(|error| spool_error(path, error))
}

fn spool_error(path: &Path, error: SpoolError) -> StartError {
    StartError::Spool { path: path.display().to_string(), error }
}

async fn take_over(queue: Arc<Queue>, recovery: Recovery, path: PathBuf, failed: mpsc::Sender<StartError>) {
    if let Err(error) = queue.take_over(recovery).await {
        // Nobody listens once the relay is being stopped.
        let _ = failed.send(spool_error(&path, error)).await;
    }
}

/// What a configuration becomes before anything is put to use.
struct Parts {
    certificates: CertificateStore,
    roots: Roots,
    routing: Routing,
}

impl Parts {
    fn load(
        config: &Config,
        logs: &Logs,
        observers: &Observers,
        own: &Arc<Mutex<Vec<SocketAddr>>>,
    ) -> Result<Self, TlsError> {
        let certificates = CertificateStore::load(config)?;
        let roots = Roots::load(config)?;
        let mut connectors = HashMap::new();
        let shared_roots = Arc::new(roots.clone());
        let mailboxes = eop::mailbox_connector(config);
        for connector in config.send_connectors.iter().chain(&mailboxes) {
            let runtime = ConnectorRuntime::new(
                connector.clone(),
                &certificates,
                Arc::clone(&shared_roots),
                config.tls.min_version,
                &config.server.hostname,
            )?;
            connectors.insert(connector.name.clone(), Arc::new(runtime));
        }
        let own = Arc::clone(own);
        let routing = Routing {
            table: RouteTable::with_stand_in(
                &config.send_connectors,
                &config.accepted_domains,
                eop::routes(config),
            ),
            words: if config.eop.is_some() { Words::ExchangeOnline } else { Words::Exchange },
            connectors,
            transport: config.transport.clone(),
            hostname: config.server.hostname.clone(),
            postmaster: queue::dsn::postmaster(&config.accepted_domains, &config.server.hostname),
            context: SendContext {
                log: logs.send.clone(),
                observers: observers.clone(),
                resolver: Arc::new(Resolver::new(&config.dns)),
                is_own_address: Arc::new(move |address| is_own(&own, address)),
            },
        };
        Ok(Self { certificates, roots, routing })
    }
}

/// Whether mail sent to `address` would come back to one of our listeners.
fn is_own(own: &Mutex<Vec<SocketAddr>>, address: &SocketAddr) -> bool {
    own.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|ours| {
        ours.port() == address.port()
            && (ours.ip() == address.ip() || (ours.ip().is_unspecified() && is_local(address.ip())))
    })
}

/// Whether an address belongs to this host: only then can a socket be bound to it.
fn is_local(ip: std::net::IpAddr) -> bool {
    ip.is_loopback() || std::net::UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(bindings: &[&str]) -> Config {
        let connector = |(i, binding)| {
            format!(
                "[[receive_connectors]]\nname = \"{i}\"\nbindings = [\"{binding}\"]\n\
                 remote_ip_ranges = [\"10.0.0.{i}\"]\n"
            )
        };
        let connectors: Vec<String> = bindings.iter().enumerate().map(connector).collect();
        let text = format!(
            "[server]\nhostname = \"edge.contoso.com\"\nspool = \"s\"\nlog_dir = \"l\"\n\
             [[accepted_domains]]\ndomain = \"contoso.com\"\n{}",
            connectors.concat()
        );
        Config::from_toml(&text, Path::new("/")).unwrap().config
    }

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|a| a.parse().unwrap()).collect()
    }

    #[test]
    fn a_wildcard_binding_needs_no_socket_beside_it() {
        let wanted = sockets(&config(&["10.0.0.7:25", "0.0.0.0:25", "10.0.0.7:26", "[::1]:25"]));
        assert_eq!(wanted, addresses(&["0.0.0.0:25", "10.0.0.7:26", "[::1]:25"]));
    }

    #[tokio::test]
    async fn bindings_with_port_0_share_one_port_an_address() {
        let config = config(&["127.0.0.1:0", "127.0.0.1:0", "127.0.0.2:0"]);
        let (listeners, given) = Bound::bind(&config).unwrap().into_listeners().unwrap();
        assert_eq!(listeners.len(), 2);
        let bindings: Vec<SocketAddr> =
            with_ports(&config, &given).receive_connectors.iter().map(|c| c.bindings[0]).collect();
        assert_eq!(bindings, [listeners[0].0, listeners[0].0, listeners[1].0]);
        assert!(bindings.iter().all(|b| b.port() != 0));
    }
}
