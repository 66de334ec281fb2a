//! `gatepost healthcheck`: does the relay answer? For containers and monitoring.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::config::Config;

/// How long the relay may take for each step.
const LIMIT: Duration = Duration::from_secs(5);

/// Connects to the first binding, expects its banner and leaves. Exit code 0 if it answers.
pub fn healthcheck(path: &Path) -> ExitCode {
    match probe(path) {
        Ok(banner) => {
            println!("{banner}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("gatepost: {error}");
            ExitCode::FAILURE
        }
    }
}

fn probe(path: &Path) -> Result<String, String> {
    let config = Config::load(path).map_err(|problems| problems.to_string())?.config;
    let binding = config
        .receive_connectors
        .iter()
        .flat_map(|c| &c.bindings)
        .next()
        .ok_or("there is no receive connector to ask")?;
    let address = reachable(*binding);
    let failed = |what: &str, error: std::io::Error| format!("{address}: {what}: {error}");
    let mut stream = TcpStream::connect_timeout(&address, LIMIT).map_err(|e| failed("connect", e))?;
    stream.set_read_timeout(Some(LIMIT)).map_err(|e| failed("timeout", e))?;
    let mut reader = BufReader::new(stream.try_clone().map_err(|e| failed("socket", e))?);
    let mut banner = String::new();
    reader.read_line(&mut banner).map_err(|e| failed("banner", e))?;
    // The relay may have closed already; its banner is the answer either way.
    let _ = stream.write_all(b"QUIT\r\n");
    let _ = reader.read_line(&mut String::new());
    let banner = banner.trim_end();
    if banner.starts_with("220") {
        Ok(banner.to_owned())
    } else {
        Err(format!("{address} answered: {banner}"))
    }
}

/// An address to reach a binding by.
fn reachable(binding: SocketAddr) -> SocketAddr {
    let ip = match binding.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, binding.port())
}
