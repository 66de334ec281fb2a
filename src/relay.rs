//! The relay as a whole: the one place that wires the rooms together.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::config::{Config, Logging};
use crate::log::{Kind, Observers, ProtocolLog};
use crate::queue::spool::{Spool, SpoolError, SpoolOptions};
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
        for address in config.receive_connectors.iter().flat_map(|c| &c.bindings) {
            bound.add(*address)?;
        }
        Ok(bound)
    }

    fn add(&mut self, address: SocketAddr) -> Result<(), StartError> {
        // Port 0 asks for a port of its own each time.
        if address.port() == 0 || !self.0.iter().any(|(a, _)| *a == address) {
            let listener = listen(address).map_err(|error| StartError::Bind { address, error })?;
            self.0.push((address, listener));
        }
        Ok(())
    }
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
    own: Arc<Mutex<Vec<SocketAddr>>>,
    grace: Duration,
    spool: Spool,
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
    /// Starts a relay on sockets bound before. Returns once it accepts mail.
    #[expect(clippy::unused_async, reason = "it must run within a runtime, which the signature says")]
    pub async fn start(config: &Config, bound: Bound, observers: Observers) -> Result<Self, StartError> {
        let (spool, recovery) = open_spool(config)?;
        let (trigger, shutdown) = shutdown();
        let own: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
        let logs = Logs::open(config);
        let parts = Parts::load(config, &logs, &observers, &own)?;
        let queue = Queue::new(spool.clone(), parts.routing, shutdown.clone());
        let generation =
            Generation::new(config, &parts.certificates, &parts.roots, logs.receive.clone(), None)?;
        let server = Server::new(Arc::clone(&queue), observers.clone(), shutdown, generation);
        let mut listeners = Vec::new();
        for (address, listener) in bound.0 {
            let bind_error = |error| StartError::Bind { address, error };
            let address = listener.local_addr().map_err(bind_error)?;
            listeners.push((address, TcpListener::from_std(listener).map_err(bind_error)?));
        }
        let report = recovery.report.to_string();
        let waiting = queue.recover(recovery);
        tracing::info!(waiting, "spool opened: {report}");
        let mut relay = Self {
            queue,
            server,
            trigger,
            logs,
            observers,
            addresses: Vec::new(),
            own,
            grace: config.server.shutdown_grace,
            spool,
        };
        relay.listen(listeners);
        tokio::spawn(queue::keep_house(Arc::clone(&relay.queue)));
        Ok(relay)
    }

    fn listen(&mut self, listeners: Vec<(SocketAddr, TcpListener)>) {
        for (address, listener) in listeners {
            self.addresses.push(address);
            self.own.lock().unwrap_or_else(PoisonError::into_inner).push(address);
            tokio::spawn(Arc::clone(&self.server).listen(listener));
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

    /// Goes over to a changed configuration. On an error everything stays as it was.
    pub fn reload(&mut self, config: &Config) -> Result<(), StartError> {
        let logs = self.logs.for_config(config);
        let parts = Parts::load(config, &logs, &self.observers, &self.own)?;
        let previous = self.server.generation();
        let generation = Generation::new(
            config,
            &parts.certificates,
            &parts.roots,
            logs.receive.clone(),
            Some(&previous),
        )?;
        // New sockets are bound before anything changes, so that a failure leaves all as it was.
        let mut new = Bound(Vec::new());
        for address in config.receive_connectors.iter().flat_map(|c| &c.bindings) {
            if address.port() != 0 && !self.addresses.contains(address) {
                new.add(*address)?;
            }
        }
        let mut listeners = Vec::new();
        for (address, listener) in new.0 {
            let listener =
                TcpListener::from_std(listener).map_err(|error| StartError::Bind { address, error })?;
            listeners.push((address, listener));
        }
        self.server.reload(generation);
        self.queue.reload(parts.routing);
        self.listen(listeners);
        self.logs = logs;
        self.grace = config.server.shutdown_grace;
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

fn open_spool(config: &Config) -> Result<(Spool, queue::spool::Recovery), StartError> {
    let path = &config.server.spool;
    Spool::open(path, SpoolOptions::default())
        .map_err(|error| StartError::Spool { path: path.display().to_string(), error })
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
        for connector in &config.send_connectors {
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
            table: RouteTable::new(&config.send_connectors, &config.accepted_domains),
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
