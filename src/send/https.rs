//! One HTTPS request: a form posted to a token endpoint (RFC 9110, RFC 9112). A relay needs no
//! more of HTTP than this.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Resolver;
use crate::config::{DomainPattern, MinTlsVersion};
use crate::tls::{ClientTls, Roots, judge_server};

/// For the whole request.
const LIMIT: Duration = Duration::from_secs(30);

/// A token and what is said around it is far smaller.
const MAX_RESPONSE: usize = 256 * 1024;

/// An `https` address in its parts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Url {
    host: String,
    port: u16,
    path: String,
}

impl Url {
    /// Reads `https://host[:port]/path`; anything else would carry a secret in clear text or is
    /// no address.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("https://")?;
        let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (authority, 443),
        };
        DomainPattern::parse(host).ok().filter(|pattern| !pattern.with_subdomains())?;
        let plain = path.bytes().all(|b| matches!(b, b'!'..=b'~') && b != b'#');
        plain.then(|| Self { host: host.to_owned(), port, path: path.to_owned() })
    }
}

/// Posts a form and returns status and body. The server must verify against the trusted roots.
pub(super) async fn post_form(
    url: &Url,
    form: &[(&str, &str)],
    resolver: &Resolver,
    roots: &Roots,
) -> Result<(u16, Vec<u8>), String> {
    let exchange = async {
        let addresses = resolver.addresses(&url.host).await.map_err(|e| e.to_string())?;
        let mut error = "no address".to_owned();
        for address in addresses {
            match TcpStream::connect(SocketAddr::new(address, url.port)).await {
                Ok(stream) => return exchange(stream, url, form, roots).await,
                Err(e) => error = e.to_string(),
            }
        }
        Err(error)
    };
    timeout(LIMIT, exchange).await.unwrap_or_else(|_| Err("timed out".to_owned()))
}

async fn exchange(
    stream: TcpStream,
    url: &Url,
    form: &[(&str, &str)],
    roots: &Roots,
) -> Result<(u16, Vec<u8>), String> {
    let tls = ClientTls::new(None, MinTlsVersion::Tls12).map_err(|e| e.to_string())?;
    let (mut stream, facts) = tls.connect(stream, &url.host, LIMIT).await.map_err(|e| e.to_string())?;
    let pattern = DomainPattern::parse(&url.host).map_err(|e| e.to_string())?;
    judge_server(&facts, roots, Some(&pattern), SystemTime::now()).map_err(|e| e.detail)?;
    let body = form.iter().map(|(name, value)| format!("{name}={}", percent(value))).collect::<Vec<_>>();
    let body = body.join("&");
    let request = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\nAccept: application/json\r\nConnection: close\r\n\r\n{body}",
        url.path,
        url.host,
        body.len(),
    );
    stream.write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
    stream.flush().await.map_err(|e| e.to_string())?;
    let mut response = Vec::new();
    let read = (&mut stream).take(MAX_RESPONSE as u64).read_to_end(&mut response).await;
    match response_parts(&response) {
        Some(parts) => Ok(parts),
        // Many servers end TLS without a goodbye; only what is missing then is an error.
        None => Err(read.err().map_or_else(|| "the answer is not HTTP".to_owned(), |e| e.to_string())),
    }
}

/// `application/x-www-form-urlencoded`, percent-encoding all that could be encoded.
fn percent(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.extend([format!("%{byte:02X}")]);
        }
    }
    out
}

/// Status and body of a whole response.
fn response_parts(response: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = response.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&response[..end]).ok()?;
    let body = &response[end + 4..];
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    let header = |name: &str| {
        lines.clone().filter_map(|line| line.split_once(':')).find_map(|(field, value)| {
            field.trim().eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    if header("Transfer-Encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        return Some((status, unchunked(body)?));
    }
    match header("Content-Length") {
        Some(length) => Some((status, body.get(..length.parse().ok()?)?.to_vec())),
        None => Some((status, body.to_vec())),
    }
}

/// RFC 9112 section 7.1.
fn unchunked(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let line = body.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&body[..line]).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        body = &body[line + 2..];
        if size == 0 {
            return Some(whole);
        }
        whole.extend_from_slice(body.get(..size)?);
        body = body.get(size.checked_add(2)?..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_addresses_are_taken() {
        let url = Url::parse("https://login.example/t/oauth2/v2.0/token?x=1").unwrap();
        assert_eq!((url.host.as_str(), url.port), ("login.example", 443));
        assert_eq!(url.path, "/t/oauth2/v2.0/token?x=1");
        assert_eq!(Url::parse("https://a.example:8443").unwrap().port, 8443);
        for bad in [
            "http://a.example/",
            "https://",
            "https://a.example:x/",
            "https://u@a.example/",
            "https://a.example/x y",
            "https://a.example/\r\nX: y",
            "https://*.example/",
        ] {
            assert_eq!(Url::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn responses_come_in_three_forms() {
        let parts =
            |text: &str| response_parts(text.as_bytes()).map(|(s, b)| (s, String::from_utf8(b).unwrap()));
        let good = Some((200, "{}".to_owned()));
        assert_eq!(parts("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}trash"), good);
        assert_eq!(parts("HTTP/1.1 200 OK\r\n\r\n{}"), good);
        assert_eq!(
            parts("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\n{\r\n1\r\n}\r\n0\r\n\r\n"),
            good
        );
        for bad in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/2 200\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{",
            "HTTP/1.1 2",
        ] {
            assert_eq!(parts(bad), None, "{bad}");
        }
        assert_eq!(percent("a b&c=ü"), "a%20b%26c%3D%C3%BC");
    }
}
