//! `gatepost lab`: an edge, a stand-in for EOP and an internal mailbox server in one process on
//! loopback, with a certificate authority of its own.

mod journey;
mod pki;
mod topology;

pub use journey::{Hop, Host, Journey, Seen, Travelled};
pub use pki::LabCa;
pub use topology::{DOMAIN, OUTSIDE, Topology};

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

use crate::config::Config;
use crate::log::Observers;
use crate::relay::{Bound, Relay};

/// A running lab.
pub struct Lab {
    /// Its files and addresses.
    pub topology: Topology,
    /// Every session of its servers, as it ends.
    pub events: Receiver<Seen>,
    relays: Vec<Relay>,
}

impl Lab {
    /// Makes the files below `dir` and starts the three servers.
    pub async fn start(dir: &Path) -> Result<Self, String> {
        let topology = Topology::create(dir)?;
        let (sender, events) = channel();
        let mut relays = Vec::new();
        // The edge last: the servers it sends to are then there.
        for (host, name) in [(Host::Mailbox, "mailbox"), (Host::Eop, "eop"), (Host::Edge, "edge")] {
            let config =
                Config::load(&topology.config(name)).map_err(|problems| problems.to_string())?.config;
            let sender = sender.clone();
            let mut observers = Observers::none();
            observers.add(move |event| {
                // Nobody listens any more once the lab ends.
                let _ = sender.send((host, event.clone()));
            });
            let bound = Bound::bind(&config).map_err(|e| e.to_string())?;
            relays.push(Relay::start(&config, bound, observers).await.map_err(|e| format!("{name}: {e}"))?);
        }
        Ok(Self { topology, events, relays })
    }

    /// The two messages a lab begins with.
    pub fn journeys(&self) -> [Journey; 2] {
        let t = &self.topology;
        let (inside, outside) = (format!("don@{DOMAIN}"), format!("megan@{OUTSIDE}"));
        [
            Journey {
                title: "Inbound",
                from: outside.clone(),
                to: inside.clone(),
                first: (Host::Eop, t.eop),
                then: [Host::Edge, Host::Mailbox],
                maildir: t.maildir("mailbox", "don", DOMAIN),
            },
            Journey {
                title: "Outbound",
                from: inside,
                to: outside,
                first: (Host::Mailbox, t.mailbox),
                then: [Host::Edge, Host::Eop],
                maildir: t.maildir("eop", "megan", OUTSIDE),
            },
        ]
    }

    /// Stops the servers in order.
    pub async fn stop(self) {
        for relay in self.relays {
            relay.stop().await;
        }
    }
}
