//! Lines of ours in the protocol log that Exchange has no words for, and that `tls report` reads.

/// Context of the line behind the handshake's, with IANA's names of suite and group in the data:
/// Exchange's own sentence has Windows' names only, which say less.
pub const NEGOTIATED: &str = "Negotiated Cipher suite Key exchange group";

/// Context of the line behind a certificate that holds; the data is the name it was taken for.
pub const VERIFIED_NAME: &str = "Verified name of the next hop";
