//! Every key there is, table by table, and which of them do nothing yet.
//!
//! The readers ask for keys by these names and `docs/configuration.md` describes each; tests hold
//! the three together.

/// The keys of one table.
#[derive(Debug)]
pub(super) struct Section {
    /// As it stands in the file, `[server]` or `[[certificates]]`; empty for the top of the file.
    pub(super) title: &'static str,
    /// Its keys.
    pub(super) keys: &'static [&'static str],
}

pub(super) static TOP: Section = Section {
    title: "",
    keys: &[
        "include",
        "server",
        "admin",
        "certificates",
        "tls",
        "accepted_domains",
        "receive_connectors",
        "send_connectors",
        "connection_filter",
        "recipient_filter",
        "sender_filter",
        "transport",
        "logging",
        "dns",
        "eop",
    ],
};

pub(super) static SERVER: Section =
    Section { title: "[server]", keys: &["hostname", "spool", "log_dir", "user", "shutdown_grace"] };

pub(super) static ADMIN: Section = Section { title: "[admin]", keys: &["listen", "token_file", "socket"] };

pub(super) static CERTIFICATES: Section =
    Section { title: "[[certificates]]", keys: &["name", "chain", "key"] };

pub(super) static TLS: Section = Section { title: "[tls]", keys: &["trusted_roots", "min_version"] };

pub(super) static ACCEPTED_DOMAINS: Section =
    Section { title: "[[accepted_domains]]", keys: &["domain", "type"] };

pub(super) static RECEIVE: Section = Section {
    title: "[[receive_connectors]]",
    keys: &[
        "name",
        "bindings",
        "remote_ip_ranges",
        "tls",
        "tls_certificate_name",
        "tls_domains",
        "request_client_certificate",
        "tls_rejection",
        "min_tls_version",
        "accept_any_recipient",
        "fqdn",
        "banner",
        "max_message_size",
        "max_header_size",
        "max_recipients_per_message",
        "max_inbound_connections",
        "max_inbound_connections_per_source",
        "message_rate_limit",
        "connection_timeout",
        "connection_inactivity_timeout",
        "tarpit_interval",
        "max_protocol_errors",
        "max_hop_count",
        "max_local_hop_count",
        "proxy_protocol_from",
        "protocol_logging",
        "trusted",
        "reply_profile",
        "tls13_tickets",
        "bare_line_feeds",
    ],
};

pub(super) static SEND: Section = Section {
    title: "[[send_connectors]]",
    keys: &[
        "name",
        "address_spaces",
        "smart_hosts",
        "dns_routing",
        "maildir",
        "lmtp",
        "port",
        "fqdn",
        "source_ip",
        "tls",
        "tls_domain",
        "tls_certificate_name",
        "auth",
        "max_message_size",
        "max_connections",
        "max_messages_per_connection",
        "connection_inactivity_timeout",
        "protocol_logging",
        "trusted",
        "enabled",
        "route_all_messages_via_on_premises",
    ],
};

pub(super) static AUTH: Section = Section {
    title: "auth",
    keys: &[
        "mechanism",
        "username",
        "password_file",
        "token_url",
        "client_id",
        "client_secret_file",
        "scope",
    ],
};

pub(super) static CONNECTION_FILTER: Section = Section {
    title: "[connection_filter]",
    keys: &[
        "ip_allow_list",
        "ip_block_list",
        "ip_block_list_file",
        "bypassed_recipients",
        "block_list_providers",
        "allow_list_providers",
    ],
};

pub(super) static BLOCKED_RANGE: Section =
    Section { title: "ip_block_list", keys: &["range", "expires", "comment"] };

pub(super) static BLOCK_LIST_PROVIDERS: Section = Section {
    title: "[[connection_filter.block_list_providers]]",
    keys: &["name", "lookup_domain", "match", "rejection_response"],
};

pub(super) static ALLOW_LIST_PROVIDERS: Section = Section {
    title: "[[connection_filter.allow_list_providers]]",
    keys: &["name", "lookup_domain", "match"],
};

pub(super) static MATCH: Section = Section { title: "match", keys: &["bitmask", "addresses"] };

pub(super) static RECIPIENT_FILTER: Section =
    Section { title: "[recipient_filter]", keys: &["validate", "recipients_file", "blocked_recipients"] };

pub(super) static SENDER_FILTER: Section =
    Section { title: "[sender_filter]", keys: &["blocked_senders", "blocked_domains", "block_blank_sender"] };

pub(super) static TRANSPORT: Section = Section {
    title: "[transport]",
    keys: &[
        "queue_glitch_retry_count",
        "queue_glitch_retry_interval",
        "transient_failure_retry_count",
        "transient_failure_retry_interval",
        "outbound_connection_failure_retry_interval",
        "message_expiration_timeout",
        "delay_notification_timeout",
        "message_retry_interval",
        "max_outbound_connections",
        "max_message_size",
        "poison_threshold",
    ],
};

pub(super) static LOGGING: Section = Section {
    title: "[logging]",
    keys: &["max_age", "max_directory_size", "max_file_size", "quiet_probes_from"],
};

pub(super) static DNS: Section = Section { title: "[dns]", keys: &["servers", "timeout"] };

pub(super) static EOP: Section = Section {
    title: "[eop]",
    keys: &[
        "tenant",
        "accepted_domains",
        "mailboxes",
        "on_premises_recipients",
        "directory_edge_blocking",
        "inbound_connectors",
        "faults",
    ],
};

pub(super) static EOP_INBOUND: Section = Section {
    title: "[[eop.inbound_connectors]]",
    keys: &["name", "tls_sender_certificate_name", "sender_ip_addresses", "require_tls"],
};

pub(super) static EOP_FAULTS: Section = Section {
    title: "[[eop.faults]]",
    keys: &[
        "recipient",
        "sender",
        "remote_ip_ranges",
        "at",
        "reply",
        "action",
        "duration",
        "certificate",
        "times",
    ],
};

/// All tables, in the order of the reference page.
pub(super) static SECTIONS: &[&Section] = &[
    &TOP,
    &SERVER,
    &ADMIN,
    &CERTIFICATES,
    &TLS,
    &ACCEPTED_DOMAINS,
    &RECEIVE,
    &SEND,
    &AUTH,
    &CONNECTION_FILTER,
    &BLOCKED_RANGE,
    &BLOCK_LIST_PROVIDERS,
    &ALLOW_LIST_PROVIDERS,
    &MATCH,
    &RECIPIENT_FILTER,
    &SENDER_FILTER,
    &TRANSPORT,
    &LOGGING,
    &DNS,
    &EOP,
    &EOP_INBOUND,
    &EOP_FAULTS,
];

/// Keys that are read and checked, but whose feature is still to come: a file that sets one gets a
/// warning there. When the feature lands, its line goes. The key of a whole table stands under the
/// empty title.
pub(super) static NO_EFFECT_YET: &[(&str, &str)] = &[
    ("[admin]", "listen"),
    ("[admin]", "token_file"),
    ("[admin]", "socket"),
    ("", "connection_filter"),
    ("", "recipient_filter"),
    ("", "sender_filter"),
    ("[[receive_connectors]]", "proxy_protocol_from"),
    ("[[receive_connectors]]", "trusted"),
    ("[[send_connectors]]", "trusted"),
    ("[transport]", "poison_threshold"),
];

/// Whether `key` of the table `title` does nothing yet.
pub(super) fn has_no_effect_yet(title: &str, key: &str) -> bool {
    NO_EFFECT_YET.contains(&(title, key))
}
