//! Certificates, server and client settings, peer verification, and the facts of a finished handshake.
