//! The errors Exchange Online reports about a next hop (exchange-edge.md 8.4), for the queues of the
//! stand-in and for `gatepost validate` alike.

/// The name does not resolve.
pub const DNS_FAILED: &str = "450 4.4.312 DNS query failed";
/// Nothing comes back.
pub const TIMED_OUT: &str = "450 4.4.315 Connection timed out";
/// A reset comes back.
pub const REFUSED: &str = "450 4.4.316 Connection refused [Message=Socket error code 10061]";
/// Connected, and then an error at once; more often with a message, see [`cannot_connect`].
pub const CANNOT_CONNECT: &str = "450 4.4.317 Cannot connect to remote server";
/// The connection was dropped in the middle of a session.
pub const DROPPED: &str = "450 4.4.318 Connection was closed abruptly";
/// Expired, another name, or otherwise not acceptable.
pub const CERTIFICATE_FAILED: &str = "450 4.7.320 Certificate validation failed";

/// [`CANNOT_CONNECT`], and why.
pub fn cannot_connect(why: &str) -> String {
    with_message(CANNOT_CONNECT, why)
}

/// An error with what stands behind it.
pub fn with_message(error: &str, message: &str) -> String {
    format!("{error} [Message={message}]")
}

/// The wrapper around what a next hop says, or what became of a session with it.
pub fn communicating(inner: &str) -> String {
    format!("451 4.4.397 Error communicating with target host. -> {inner}")
}

/// The wrapper around the error of a front end.
pub fn proxy_failed(inner: &str) -> String {
    format!("450 4.4.101 Proxy session setup failed on Frontend with '{inner}'")
}
