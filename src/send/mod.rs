//! SMTP out: connections, transactions, LMTP and Maildir.
