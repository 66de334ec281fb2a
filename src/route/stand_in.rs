//! What an instance that stands in for Exchange Online routes otherwise.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use crate::config::{AcceptedDomain, SendConnector};
use crate::smtp::Address;

use super::accepted::AcceptedDomains;
use super::table::Entry;

/// Tells whether an address has a mailbox here.
type HasMailbox = Box<dyn Fn(&Address) -> bool + Send + Sync>;

/// What the route table has to be told.
pub struct StandInRoutes {
    mailboxes: SendConnector,
    has_mailbox: HasMailbox,
    cloud: HashSet<String>,
}

impl StandInRoutes {
    /// `mailboxes` delivers to the recipients that `has_mailbox` knows. What comes in over the
    /// receive connectors named in `cloud` is mail of the tenant's cloud mailboxes.
    pub fn new(mailboxes: SendConnector, has_mailbox: HasMailbox, cloud: HashSet<String>) -> Self {
        Self { mailboxes, has_mailbox, cloud }
    }
}

/// The same, ready for use.
pub(super) struct StandIn {
    pub(super) mailboxes: Arc<SendConnector>,
    pub(super) has_mailbox: HasMailbox,
    cloud: HashSet<String>,
    accepted: AcceptedDomains,
    /// The way through on-premises, for mail of the cloud to elsewhere.
    pub(super) on_premises: Vec<Entry>,
}

impl StandIn {
    pub(super) fn new(routes: StandInRoutes, accepted: &[AcceptedDomain]) -> Self {
        Self {
            mailboxes: Arc::new(routes.mailboxes),
            has_mailbox: routes.has_mailbox,
            cloud: routes.cloud,
            accepted: AcceptedDomains::new(accepted),
            on_premises: Vec::new(),
        }
    }

    /// Whether a message that came in over the receive connector `source` is the cloud's, for
    /// elsewhere.
    pub(super) fn is_outward(&self, source: &str, domain: &str) -> bool {
        self.cloud.contains(source) && self.accepted.class(domain).is_none()
    }
}

impl fmt::Debug for StandIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StandIn").field("on_premises", &self.on_premises).finish_non_exhaustive()
    }
}
