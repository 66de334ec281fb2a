//! `gatepost lab`: starts the lab, shows one message each way, and stays up to be played with.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::lab::{DOMAIN, Host, Lab, OUTSIDE, Seen, Travelled};
use crate::log::Direction;

/// Prints a line. Whoever reads may have gone away (`lab | head`); the lab ends in order all the same.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

/// Arguments of `gatepost lab`.
#[derive(Debug, clap::Args)]
pub struct LabArgs {
    /// Directory for the lab's files, kept afterwards. Default: a temporary one, removed at the end.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// End after the two journeys; exit 1 if one failed.
    #[arg(long)]
    once: bool,
    /// Print the journeys as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs a lab. Exit code 0 after Ctrl-C, or with `--once` if both journeys arrived.
pub fn lab(args: &LabArgs) -> ExitCode {
    let (dir, temporary) = match &args.dir {
        Some(dir) => (dir.clone(), false),
        None => (std::env::temp_dir().join(format!("gatepost-lab-{}", std::process::id())), true),
    };
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("cannot start the runtime: {e}"))
        .and_then(|runtime| runtime.block_on(run(args, &dir)));
    if temporary {
        // Files left behind in the temporary directory are a nuisance, not an error.
        let _ = std::fs::remove_dir_all(&dir);
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gatepost lab: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &LabArgs, dir: &Path) -> Result<(), String> {
    let hook = |kind| signal(kind).map_err(|e| format!("cannot handle signals: {e}"));
    let (mut int, mut term) = (hook(SignalKind::interrupt())?, hook(SignalKind::terminate())?);
    let lab = Lab::start(dir).await?;
    if !args.json {
        print_servers(&lab);
    }
    let journeys = lab.journeys();
    let mut travelled = Vec::new();
    let mut failures = Vec::new();
    for journey in journeys {
        match tokio::task::block_in_place(|| journey.travel(&lab.events)) {
            Ok(done) => {
                if !args.json {
                    print_journey(&done);
                }
                travelled.push(done);
            }
            Err(error) => failures.push(error),
        }
    }
    if args.json {
        say!("{}", serde_json::to_string_pretty(&travelled).map_err(|e| e.to_string())?);
    }
    if args.once || !failures.is_empty() {
        lab.stop().await;
        return if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) };
    }
    if !args.json {
        print_hints(&lab);
    }
    loop {
        let end = tokio::select! {
            _ = int.recv() => true,
            _ = term.recv() => true,
            () = tokio::time::sleep(Duration::from_millis(100)) => false,
        };
        loop {
            match lab.events.recv_timeout(Duration::ZERO) {
                Ok(seen) if !args.json => print_session(&seen),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        if end {
            break;
        }
    }
    say!("\nStopping the lab.");
    lab.stop().await;
    Ok(())
}

fn print_servers(lab: &Lab) {
    let t = &lab.topology;
    say!("Lab in {}", t.dir.display());
    say!("  {:15} {:16} edge.contoso.com", "edge", t.edge.to_string());
    say!("  {:15} {:16} mailbox.contoso.com", "mailbox server", t.mailbox.to_string());
    say!("  {:15} {:16} mail.protection.outlook.com", "EOP stand-in", t.eop.to_string());
    say!("  certificates by the lab's own CA, {}", t.ca().display());
}

fn print_journey(done: &Travelled) {
    say!("\n{}: {} -> {}  ({} ms)", done.title, done.from, done.to, done.milliseconds);
    for (i, hop) in done.hops.iter().enumerate() {
        say!("  {}. {} -> {}", i + 1, hop.from, hop.to);
        if let Some(connector) = &hop.send_connector {
            say!("     send connector     {connector}");
        }
        say!("     receive connector  {}", hop.receive_connector);
        if let Some(cipher) = &hop.cipher {
            let group = hop.group.as_deref().unwrap_or_default();
            say!("     TLS                {} {cipher} {group}", hop.tls_version);
        } else {
            say!("     TLS                none, in plain text");
        }
        if let Some(name) = &hop.verified_name {
            say!("     verified name      {name}");
        }
        if let Some(attribution) = &hop.attribution {
            say!("     attribution        {attribution}");
        }
    }
    say!("     delivered to       {}", done.delivered.display());
}

fn print_hints(lab: &Lab) {
    let t = &lab.topology;
    say!("\nSend more to the edge:");
    say!("  swaks --server {} --tls --from megan@{OUTSIDE} --to don@{DOMAIN}", t.edge);
    say!(
        "  printf 'Subject: hello\\r\\n\\r\\nhello\\r\\n' | curl --ssl-reqd --cacert {} --resolve edge.contoso.com:{}:127.0.0.1 \
         smtp://edge.contoso.com:{} --mail-from megan@{OUTSIDE} --mail-rcpt don@{DOMAIN} -T -",
        t.ca().display(),
        t.edge.port(),
        t.edge.port()
    );
    say!("Protocol logs: {}/*/log/ProtocolLog", t.dir.display());
    say!("Ctrl-C ends the lab.");
}

fn print_session((host, event): &Seen) {
    let direction = if event.direction == Direction::In { "<-" } else { "->" };
    let tls = match (event.tls_version, event.tls_cipher) {
        (Some(version), Some(cipher)) => format!("{version} {cipher}"),
        _ => "no TLS".to_owned(),
    };
    say!(
        "{} {direction} {}  {}: {tls}, {} message(s), {}",
        Host::name(*host),
        event.peer,
        event.connector,
        event.messages,
        event.outcome
    );
}
