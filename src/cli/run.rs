//! `gatepost run`: the relay in the foreground, until SIGTERM or SIGINT.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use nix::unistd::{Uid, User, initgroups, setgid, setuid};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use crate::config::{Config, Loaded};
use crate::log::Observers;
use crate::relay::{Bound, Relay};
use crate::tls::{CertificateFiles, warn_of_expiry};

/// How often the files of the certificates are looked at.
const CERTIFICATES: Duration = Duration::from_secs(2);
/// How often certificates about to expire are named.
const DAY: Duration = Duration::from_hours(24);

/// Runs until told to stop. Exit code 0 after a clean stop, 1 on a start error, also when what is
/// queued turns out to be unreadable after mail is taken already.
pub fn run(path: &Path) -> ExitCode {
    match start(path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gatepost: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(path: &Path) -> Result<(), String> {
    let config = load(path)?;
    // Privileged ports are bound as root; the spool and the logs belong to the user we become.
    let bound = Bound::bind(&config).map_err(|e| e.to_string())?;
    drop_privileges(config.server.user.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("cannot start the runtime: {e}"))?;
    runtime.block_on(serve(path, config, bound))
}

fn load(path: &Path) -> Result<Config, String> {
    let Loaded { config, warnings } = Config::load(path).map_err(|problems| problems.to_string())?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(config)
}

async fn serve(path: &Path, mut config: Config, bound: Bound) -> Result<(), String> {
    let hook = |kind| signal(kind).map_err(|e| format!("cannot handle signals: {e}"));
    let (mut term, mut int, mut hup) =
        (hook(SignalKind::terminate())?, hook(SignalKind::interrupt())?, hook(SignalKind::hangup())?);
    // Before they are read, so that a change from here on is seen.
    let mut files = CertificateFiles::of(&config);
    let mut relay = Relay::start(&config, bound, Observers::none()).await.map_err(|e| e.to_string())?;
    let listening = relay.addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    tracing::info!(
        hostname = config.server.hostname,
        version = env!("CARGO_PKG_VERSION"),
        "listening on {listening}"
    );
    let (mut look, mut day) = (interval(CERTIFICATES), interval(DAY));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let why = tokio::select! {
            _ = term.recv() => "SIGTERM",
            _ = int.recv() => "SIGINT",
            _ = hup.recv() => {
                if let Some(new) = reload(path, &mut config, &mut relay) {
                    files = new;
                }
                continue;
            }
            _ = look.tick() => {
                if files.have_changed() {
                    renew(&config, &mut relay);
                }
                continue;
            }
            _ = day.tick() => {
                warn_of_expiry(relay.certificates(), SystemTime::now());
                continue;
            }
            error = relay.failed() => {
                tracing::error!(%error, "stopping; what came in meanwhile is safe");
                relay.stop().await;
                return Err(error.to_string());
            }
        };
        tracing::info!("{why}: stopping; what is queued stays on disk");
        relay.stop().await;
        tracing::info!("stopped");
        return Ok(());
    }
}

/// Goes over to the file as it is now, or says why not and stays. Returns the certificates' files
/// when it did.
fn reload(path: &Path, config: &mut Config, relay: &mut Relay) -> Option<CertificateFiles> {
    let new = match load(path) {
        Ok(new) => new,
        Err(problems) => {
            tracing::error!("reload refused, the old configuration stays in force:\n{problems}");
            return None;
        }
    };
    for (key, changed) in [
        ("server.spool", new.server.spool != config.server.spool),
        ("server.user", new.server.user != config.server.user),
        ("admin.socket", admin_socket(&new) != admin_socket(config)),
    ] {
        if changed {
            tracing::warn!("{key} has changed; that takes effect at the next start only");
        }
    }
    let files = CertificateFiles::of(&new);
    match relay.reload(&new) {
        Ok(()) => {
            tracing::info!("configuration reloaded");
            warn_of_expiry(relay.certificates(), SystemTime::now());
            *config = new;
            Some(files)
        }
        Err(error) => {
            tracing::error!("reload refused, the old configuration stays in force: {error}");
            None
        }
    }
}

/// Takes over certificates that have changed on disk, with the configuration as it is in force.
fn renew(config: &Config, relay: &mut Relay) {
    match relay.reload(config) {
        Ok(()) => {
            for identity in relay.certificates().identities() {
                let facts = &identity.facts;
                tracing::info!(
                    certificate = identity.name().unwrap_or("self-signed"),
                    subject = facts.subject,
                    thumbprint = facts.thumbprint,
                    not_after = crate::log::time::rfc3339(facts.not_after),
                    "certificate reloaded"
                );
            }
            warn_of_expiry(relay.certificates(), SystemTime::now());
        }
        Err(error) => {
            tracing::error!("changed certificates cannot be used, the old ones stay in force: {error}");
        }
    }
}

fn admin_socket(config: &Config) -> Option<&Path> {
    config.admin.as_ref().and_then(|admin| admin.socket.as_deref())
}

/// Becomes `server.user` when started as root.
fn drop_privileges(user: Option<&str>) -> Result<(), String> {
    if !Uid::effective().is_root() {
        return Ok(());
    }
    let Some(name) = user else {
        tracing::warn!("running as root; set server.user to a user to become after binding");
        return Ok(());
    };
    let account = User::from_name(name)
        .map_err(|e| format!("server.user: cannot look up `{name}`: {e}"))?
        .ok_or_else(|| format!("server.user: there is no user `{name}`; create it or leave the key out"))?;
    let name = std::ffi::CString::new(name).map_err(|_| "server.user holds a NUL byte".to_owned())?;
    initgroups(&name, account.gid)
        .and_then(|()| setgid(account.gid))
        .and_then(|()| setuid(account.uid))
        .map_err(|e| format!("cannot become the user `{}`: {e}", account.name))
}
