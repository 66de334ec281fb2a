//! Tables of the file to types of the model, with every default.
//!
//! A reader fills in the default where a value is wrong or missing and has noted so; whether the
//! result may be used is decided once, at the end, by whether anything was noted.

mod eop;
mod fault;
mod filters;
mod general;
mod online;
mod receive;
mod send;

use std::path::PathBuf;

use toml::de::DeValue;

use super::load::Document;
use super::model::{
    AcceptedDomain, Admin, Certificate, Config, Dns, Logging, ReceiveConnector, SendConnector, Server, Tls,
    Transport,
};
use super::report::Report;
use super::schema::{self, Section};
use super::table::{Table, Value, described};

/// A value of the model with the table it was read from.
pub(super) struct Entry<'a, T> {
    pub(super) value: T,
    pub(super) table: Table<'a>,
}

/// A configuration on its way from the file to the model.
pub(super) struct Draft<'a> {
    pub(super) top: Table<'a>,
    pub(super) server: Entry<'a, Server>,
    pub(super) admin: Option<Entry<'a, Admin>>,
    pub(super) certificates: Vec<Entry<'a, Certificate>>,
    pub(super) tls: Entry<'a, Tls>,
    pub(super) accepted_domains: Vec<Entry<'a, AcceptedDomain>>,
    pub(super) receive_connectors: Vec<Entry<'a, ReceiveConnector>>,
    pub(super) send_connectors: Vec<Entry<'a, SendConnector>>,
    pub(super) transport: Entry<'a, Transport>,
    pub(super) logging: Logging,
    pub(super) dns: Dns,
    pub(super) connection_filter: super::ConnectionFilter,
    pub(super) recipient_filter: super::RecipientFilter,
    pub(super) sender_filter: super::SenderFilter,
    pub(super) eop: Option<super::Eop>,
}

impl Draft<'_> {
    /// The configuration; whether it may be used is for the report to say.
    pub(super) fn into_config(self, path: PathBuf) -> Config {
        fn values<T>(entries: Vec<Entry<'_, T>>) -> Vec<T> {
            entries.into_iter().map(|entry| entry.value).collect()
        }
        let mut accepted_domains = values(self.accepted_domains);
        if let Some(eop) = &self.eop {
            online::accepted_domains(eop, &mut accepted_domains);
        }
        Config {
            path,
            server: self.server.value,
            admin: self.admin.map(|entry| entry.value),
            certificates: values(self.certificates),
            tls: self.tls.value,
            accepted_domains,
            receive_connectors: values(self.receive_connectors),
            send_connectors: values(self.send_connectors),
            transport: self.transport.value,
            logging: self.logging,
            dns: self.dns,
            connection_filter: self.connection_filter,
            recipient_filter: self.recipient_filter,
            sender_filter: self.sender_filter,
            eop: self.eop,
        }
    }
}

/// The tops of all files.
struct Tops<'a> {
    report: &'a Report,
    tops: Vec<Table<'a>>,
}

/// A table that no file has: all defaults.
static EMPTY: std::sync::LazyLock<toml::de::DeTable<'static>> =
    std::sync::LazyLock::new(toml::de::DeTable::new);

impl<'a> Tops<'a> {
    /// The one table of that name.
    fn single(&self, key: &'static str, section: &'static Section) -> Option<Table<'a>> {
        let mut found: Option<Table<'a>> = None;
        for top in &self.tops {
            let Some(value) = top.get(key) else { continue };
            match (&found, value.value) {
                (Some(first), _) => {
                    let place = self.report.place(first.header, value.at);
                    self.report
                        .error(value.at, format!("{} is defined twice; first at {place}", section.title));
                }
                (None, DeValue::Table(table)) => found = Some(top.open_below(section, value.at, table)),
                (None, other) => {
                    let problem =
                        format!("`{key}` must be a table, {}, not {}", section.title, described(other));
                    self.report.error(value.at, problem);
                }
            }
        }
        found
    }

    /// The same, with an empty table in its stead.
    fn single_or_empty(&self, key: &'static str, section: &'static Section) -> Option<Table<'a>> {
        let top = self.tops.first()?;
        Some(self.single(key, section).unwrap_or_else(|| top.open_below(section, top.header, &EMPTY)))
    }

    /// The tables of that name in all files, in the order of reading.
    fn all(&self, key: &'static str, section: &'static Section) -> Vec<Table<'a>> {
        self.tops.iter().flat_map(|top| top.tables(key, section)).collect()
    }
}

/// Reads all tables.
pub(super) fn read<'a>(report: &'a Report, documents: &'a [Document<'a>]) -> Option<Draft<'a>> {
    let tops: Vec<Table<'a>> =
        documents.iter().map(|d| Table::open(report, d.dir, &schema::TOP, d.start, &d.table)).collect();
    for top in &tops {
        // Read before, to find the files; now only for what is wrong with it.
        top.list("include", "a list of paths", |_| Ok(()));
    }
    let mut tops = Tops { report, tops };
    let server = general::server(tops.single_or_empty("server", &schema::SERVER)?);
    let tls = general::tls(tops.single_or_empty("tls", &schema::TLS)?);
    let accepted_domains: Vec<_> = tops
        .all("accepted_domains", &schema::ACCEPTED_DOMAINS)
        .into_iter()
        .filter_map(general::accepted_domain)
        .collect();
    let certificates: Vec<_> =
        tops.all("certificates", &schema::CERTIFICATES).into_iter().map(general::certificate).collect();
    let names: Vec<String> = certificates.iter().map(|c| c.value.name.clone()).collect();
    let eop = tops.single("eop", &schema::EOP).map(|table| eop::eop(&table, &names));
    let receive = |table| {
        let mut entry = receive::connector(table, &server.value, &tls.value);
        if eop.is_some() {
            online::receive(&entry.table, &mut entry.value);
        }
        entry
    };
    let send = |table| {
        let mut entry = send::connector(table, &server.value, &accepted_domains);
        if eop.is_some() {
            online::send(&entry.table, &mut entry.value, &certificates);
        }
        entry
    };
    let receive_connectors =
        tops.all("receive_connectors", &schema::RECEIVE).into_iter().map(receive).collect();
    let send_connectors = tops.all("send_connectors", &schema::SEND).into_iter().map(send).collect();
    let mut transport = general::transport(tops.single_or_empty("transport", &schema::TRANSPORT)?);
    if eop.is_some() {
        online::transport(&mut transport);
    }
    Some(Draft {
        admin: tops.single("admin", &schema::ADMIN).map(general::admin),
        receive_connectors,
        send_connectors,
        transport,
        logging: general::logging(&tops.single_or_empty("logging", &schema::LOGGING)?),
        dns: general::dns(&tops.single_or_empty("dns", &schema::DNS)?),
        connection_filter: filters::connection(
            &tops.single_or_empty("connection_filter", &schema::CONNECTION_FILTER)?,
        ),
        recipient_filter: filters::recipient(
            &tops.single_or_empty("recipient_filter", &schema::RECIPIENT_FILTER)?,
        ),
        sender_filter: filters::sender(&tops.single_or_empty("sender_filter", &schema::SENDER_FILTER)?),
        certificates,
        eop,
        server,
        tls,
        accepted_domains,
        top: tops.tops.swap_remove(0),
    })
}

/// The elements of a list that may hold strings and tables, or one value instead of a list.
fn elements<'a>(table: &Table<'a>, key: &'static str) -> Vec<Value<'a>> {
    match table.get(key) {
        None => Vec::new(),
        Some(Value { value: DeValue::Array(items), .. }) => {
            items.iter().map(|item| Value::new(table.header.file, item)).collect()
        }
        Some(single) => vec![single],
    }
}
