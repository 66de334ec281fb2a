//! A client: a blocking connection, in clear or over TLS, that reads line by line.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use socket2::{Domain, Socket, Type};

use crate::world::{HOSTNAME, World};

/// How long the relay may take for anything before the script gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Client {
    stream: Option<Stream>,
    input: Vec<u8>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Client {
    pub(crate) fn connect(from: std::net::IpAddr, to: SocketAddr) -> Result<Self, String> {
        let connect = || {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
            socket.bind(&SocketAddr::new(from, 0).into())?;
            socket.connect_timeout(&to.into(), PATIENCE)?;
            let stream = TcpStream::from(socket);
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        };
        let stream = connect().map_err(|e: std::io::Error| format!("cannot connect to {to}: {e}"))?;
        Ok(Self { stream: Some(Stream::Plain(stream)), input: Vec::new() })
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        let sent = match &mut self.stream {
            Some(Stream::Plain(s)) => s.write_all(bytes),
            Some(Stream::Tls(s)) => s.write_all(bytes).and_then(|()| s.flush()),
            None => return Err("this client is closed".into()),
        };
        sent.map_err(|e| format!("cannot send: {e}"))
    }

    /// The next line without its CRLF; none at the end of the connection.
    pub(crate) fn line(&mut self) -> Result<Option<String>, String> {
        loop {
            if let Some(end) = self.input.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                let text = String::from_utf8_lossy(&line).into_owned();
                return match text.strip_suffix("\r\n") {
                    Some(text) => Ok(Some(text.to_owned())),
                    None => Err(format!("a line that does not end in CRLF: {text:?}")),
                };
            }
            let mut piece = [0; 4096];
            let read = match &mut self.stream {
                Some(Stream::Plain(s)) => s.read(&mut piece),
                Some(Stream::Tls(s)) => s.read(&mut piece),
                None => return Err("this client is closed".into()),
            };
            match read {
                Ok(0) if self.input.is_empty() => return Ok(None),
                Ok(0) => {
                    let rest = String::from_utf8_lossy(&self.input);
                    return Err(format!("the connection ended within a line: {rest:?}"));
                }
                Ok(n) => self.input.extend_from_slice(&piece[..n]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(format!("nothing came within {PATIENCE:?}"));
                }
                Err(e) => return Err(format!("the connection broke: {e}")),
            }
        }
    }

    /// A TLS handshake on what was a plain connection; the relay's certificate must be good.
    pub(crate) fn starttls(
        &mut self,
        world: &World,
        certificate: Option<&str>,
        only_tls12: bool,
    ) -> Result<(), String> {
        if !self.input.is_empty() {
            let early = String::from_utf8_lossy(&self.input);
            return Err(format!("the relay sent more before the handshake: {early:?}"));
        }
        let Some(Stream::Plain(mut stream)) = self.stream.take() else {
            return Err("this client has no plain connection".into());
        };
        let config = client_config(world, certificate, only_tls12)?;
        let name = ServerName::try_from(HOSTNAME).unwrap();
        let mut session = ClientConnection::new(Arc::new(config), name).map_err(|e| e.to_string())?;
        while session.is_handshaking() {
            session.complete_io(&mut stream).map_err(|e| format!("the handshake failed: {e}"))?;
        }
        self.stream = Some(Stream::Tls(Box::new(StreamOwned::new(session, stream))));
        Ok(())
    }

    pub(crate) fn close(&mut self) {
        self.stream = None;
    }
}

fn client_config(world: &World, certificate: Option<&str>, only_tls12: bool) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(world.pem("ca.pem")).unwrap()).unwrap();
    let versions: &[_] = if only_tls12 {
        &[&rustls::version::TLS12]
    } else {
        &[&rustls::version::TLS13, &rustls::version::TLS12]
    };
    let builder = ClientConfig::builder_with_protocol_versions(versions).with_root_certificates(roots);
    let Some(file) = certificate else { return Ok(builder.with_no_client_auth()) };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(world.pem(&format!("{file}.pem")))
        .map_err(|e| format!("certificate {file:?}: {e}"))?
        .collect();
    let key = PrivateKeyDer::from_pem_file(world.pem(&format!("{file}.key"))).unwrap();
    builder.with_client_auth_cert(chain.unwrap(), key).map_err(|e| e.to_string())
}
