//! SMTP in: listeners, connector selection, the dialogue and its limits.
