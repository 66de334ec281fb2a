use std::path::Path;

use gatepost::config::Config;
use gatepost::route::{AcceptedDomains, RouteTable};
use gatepost::smtp::Address;

use super::super::input;
use super::{Case, case, on};

fn config() -> Config {
    Config::from_toml(input::CONFIGURATION, Path::new("/")).expect("a good configuration").config
}

fn decide(recipient: &str) -> Box<dyn FnMut()> {
    let config = config();
    let table = RouteTable::new(&config.send_connectors, &config.accepted_domains);
    on(Address::parse(recipient).expect("an address"), move |recipient| table.decide(recipient, 9811))
}

fn accept(domain: &'static str) -> Box<dyn FnMut()> {
    let accepted = AcceptedDomains::new(&config().accepted_domains);
    on(domain, move |domain| accepted.class(domain))
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("route/accepted-domain", || accept("contoso.com")),
        case("route/accepted-subdomain", || accept("sales.eu.contoso.com")),
        case("route/accepted-none", || accept("fabrikam.example")),
        case("route/decide-domain", || decide("don.hall@contoso.com")),
        case("route/decide-any", || decide("adele.vance@fabrikam.example")),
    ]
}
