//! From a recipient to a send connector and its next hops (exchange-edge.md 2.3, 7).

mod accepted;
mod stand_in;
mod table;

pub use accepted::{AcceptedDomains, asks_for_onward_relay};
pub use stand_in::StandInRoutes;
pub use table::{Decision, NextHop, RouteTable};
