//! The signal that the process is to end, and who must finish first.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

/// Held by everything that should notice a shutdown. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shutdown {
    signal: watch::Receiver<bool>,
    alive: Arc<mpsc::Sender<Infallible>>,
}

/// Held by whoever ends the process.
#[derive(Debug)]
pub struct ShutdownTrigger {
    signal: watch::Sender<bool>,
    finished: mpsc::Receiver<Infallible>,
}

/// Keeps [`ShutdownTrigger::finished`] waiting while it exists.
#[derive(Debug)]
pub struct Alive(#[expect(dead_code, reason = "held for its drop")] mpsc::Sender<Infallible>);

/// A connected pair.
pub fn shutdown() -> (ShutdownTrigger, Shutdown) {
    let (signal_tx, signal_rx) = watch::channel(false);
    let (alive_tx, alive_rx) = mpsc::channel(1);
    (
        ShutdownTrigger { signal: signal_tx, finished: alive_rx },
        Shutdown { signal: signal_rx, alive: Arc::new(alive_tx) },
    )
}

impl Shutdown {
    /// Returns once the process is to end.
    pub async fn wait(&self) {
        if *self.signal.borrow() {
            return;
        }
        // An error means the trigger is gone, which ends the process as well.
        let _ = self.signal.clone().wait_for(|down| *down).await;
    }

    /// Whether the process is to end.
    pub fn is_down(&self) -> bool {
        *self.signal.borrow()
    }

    /// Something that must finish before the process ends.
    pub fn guard(&self) -> Alive {
        Alive((*self.alive).clone())
    }
}

impl ShutdownTrigger {
    /// Gives the signal.
    pub fn trigger(&self) {
        self.signal.send_replace(true);
    }

    /// Returns once every guard and every [`Shutdown`] is gone.
    pub async fn finished(&mut self) {
        let _ = self.finished.recv().await;
    }
}
