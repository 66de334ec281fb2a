//! Where the stand-in's mail goes: cloud mailboxes here, the rest by connector.

use std::time::Duration;

use super::Directory;
use crate::config::{CLOUD_MAILBOXES, Config, ProtocolLogging, Routing, SendConnector, SendTls};
use crate::route::StandInRoutes;

/// The connector to the cloud mailboxes, if there are any to have.
pub fn mailbox_connector(config: &Config) -> Option<SendConnector> {
    config.eop.as_ref()?;
    // A `%` of the path itself is no placeholder.
    let spool = config.server.spool.display().to_string().replace('%', "%%");
    Some(SendConnector {
        name: CLOUD_MAILBOXES.to_owned(),
        address_spaces: Vec::new(),
        routing: Routing::Maildir(format!("{spool}/eop/%d/%u")),
        port: 25,
        fqdn: config.server.hostname.clone(),
        source_ip: None,
        tls: SendTls::Off,
        tls_domain: None,
        tls_certificate_name: None,
        auth: None,
        max_message_size: u64::MAX,
        max_connections: 40,
        max_messages_per_connection: 0,
        connection_inactivity_timeout: Duration::from_mins(10),
        protocol_logging: ProtocolLogging::None,
        trusted: true,
        enabled: true,
        route_all_messages_via_on_premises: false,
    })
}

/// What the route table is to know of the stand-in.
pub fn routes(config: &Config) -> Option<StandInRoutes> {
    let directory = Directory::new(config.eop.as_ref()?);
    let cloud = config.receive_connectors.iter().filter(|c| c.accept_any_recipient);
    Some(StandInRoutes::new(
        mailbox_connector(config)?,
        Box::new(move |address| directory.has_mailbox(address)),
        cloud.map(|c| c.name.clone()).collect(),
    ))
}
