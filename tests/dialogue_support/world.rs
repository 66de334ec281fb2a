//! What scripts run in: certificates they share, and a relay for each.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use gatepost::config::Config;
use gatepost::lab::LabCa;
use gatepost::log::Observers;
use gatepost::relay::{Bound, Relay};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// The name all relays go by, and the one their certificate carries.
pub(crate) const HOSTNAME: &str = "edge.contoso.com";

pub(crate) struct World {
    runtime: Runtime,
    dir: TempDir,
}

/// A relay and its files.
pub(crate) struct Server<'w> {
    world: &'w World,
    relay: Option<Relay>,
    stopping: Option<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
    dir: TempDir,
}

impl World {
    pub(crate) fn create() -> Self {
        gatepost::tls::install_provider();
        let dir = tempfile::tempdir().unwrap();
        let (trusted, foreign) = (LabCa::create(dir.path()).unwrap(), dir.path().join("foreign"));
        std::fs::create_dir(&foreign).unwrap();
        trusted.issue(dir.path(), "edge", &[HOSTNAME]).unwrap();
        trusted.issue(dir.path(), "partner", &["mail.fabrikam.com"]).unwrap();
        trusted.issue(dir.path(), "stranger", &["mail.other.example"]).unwrap();
        // By a CA that has the other's name and not its key.
        LabCa::create(&foreign).unwrap().issue(dir.path(), "forged", &["mail.fabrikam.com"]).unwrap();
        let own = rcgen::generate_simple_self_signed(["mail.fabrikam.com".to_owned()]).unwrap();
        std::fs::write(dir.path().join("selfsigned.pem"), own.cert.pem()).unwrap();
        std::fs::write(dir.path().join("selfsigned.key"), own.signing_key.serialize_pem()).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        Self { runtime: runtime.unwrap(), dir }
    }

    /// A PEM file of the certificates: `ca.pem`, `partner.pem`, `partner.key`.
    pub(crate) fn pem(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    /// Starts a relay with the base configuration as `script` changes it.
    pub(crate) fn start(&self, script: &str) -> Result<Server<'_>, String> {
        let dir = tempfile::tempdir().unwrap();
        let text = configuration(script, self.dir.path());
        let config = Config::from_toml(&text, dir.path()).map_err(|p| format!("{p}\nin\n{text}"))?.config;
        let relay = self.runtime.block_on(async {
            let bound = Bound::bind(&config)?;
            Relay::start(&config, bound, Observers::none()).await
        });
        let relay = relay.map_err(|e| e.to_string())?;
        let addresses = relay.addresses().to_vec();
        Ok(Server { world: self, relay: Some(relay), stopping: None, addresses, dir })
    }
}

impl Server<'_> {
    /// Where the relay listens on `ip`.
    pub(crate) fn address(&self, ip: IpAddr) -> Option<SocketAddr> {
        let wild = |a: &&SocketAddr| a.ip().is_unspecified() && a.is_ipv4() == ip.is_ipv4();
        let found = self.addresses.iter().find(|a| a.ip() == ip).or(self.addresses.iter().find(wild));
        found.map(|a| SocketAddr::new(ip, a.port()))
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Tells the relay to end, and does not wait until it has.
    pub(crate) fn stop(&mut self) {
        if let Some(relay) = self.relay.take() {
            self.stopping = Some(self.world.runtime.spawn(relay.stop()));
        }
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        self.stop();
        if let Some(stopping) = self.stopping.take() {
            // Its panic has been printed; the script's own failure matters more.
            let _ = self.world.runtime.block_on(stopping);
        }
    }
}

/// The base configuration: each table with the word that a script replaces it by naming.
fn base(pki: &Path) -> [(&'static str, String); 5] {
    let pki = pki.display();
    [
        (
            "[server]",
            format!(
                "hostname = \"{HOSTNAME}\"\nspool = \"spool\"\nlog_dir = \"log\"\nshutdown_grace = \"5s\"\n"
            ),
        ),
        ("[tls]", format!("trusted_roots = \"{pki}/ca.pem\"\n")),
        (
            "[[certificates]]",
            format!("name = \"edge\"\nchain = \"{pki}/edge.pem\"\nkey = \"{pki}/edge.key\"\n"),
        ),
        ("[[accepted_domains]]", "domain = \"contoso.com\"\n".into()),
        (
            "[[send_connectors]]",
            "name = \"Mailboxes\"\naddress_spaces = [\"*\"]\nmaildir = \"mail/%d/%u\"\n".into(),
        ),
    ]
}

/// Keys of the base's receive connector that a script may give itself.
const CONNECTOR: [(&str, &str); 3] =
    [("name", "\"Default\""), ("bindings", "[\"127.0.0.1:0\"]"), ("tarpit_interval", "\"0s\"")];

fn configuration(script: &str, pki: &Path) -> String {
    let names_table = |line: &str, table: &str| line.split('#').next().is_some_and(|l| l.trim() == table);
    let tables = script.lines().take_while(|l| !l.starts_with('[')).map(|l| l.len() + 1).sum::<usize>();
    let (keys, tables) = script.split_at(tables.min(script.len()));
    let mut text = String::new();
    for (table, body) in base(pki) {
        if !tables.lines().any(|line| names_table(line, table)) {
            let _ = writeln!(text, "{table}\n{body}");
        }
    }
    text.push_str("[[receive_connectors]]\n");
    for (key, value) in CONNECTOR {
        let given = |line: &str| line.split_once('=').is_some_and(|(name, _)| name.trim() == key);
        if !keys.lines().any(given) {
            let _ = writeln!(text, "{key} = {value}");
        }
    }
    text + keys + "\n" + tables
}
