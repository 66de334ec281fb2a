//! The language of SMTP: commands, replies, addresses, DATA and BDAT. Pure: no sockets, no
//! clock, no tokio.

mod address;
pub(crate) mod ascii;
mod capabilities;
mod command;
mod command_error;
mod data;
mod facts;
mod line;
mod lines;
mod parameters;
mod params;
mod path;
mod reply;
mod reply_reader;
mod stretch;
mod stuff;
mod verb;
pub mod xtext;

#[cfg(test)]
mod tests;

pub use address::{Address, AddressError, MAX_ADDRESS};
pub use capabilities::Capabilities;
pub use command::{Command, ForwardPath, MailCommand, RcptCommand};
pub use command_error::CommandError;
pub use data::{BdatDecoder, ContentScanner, DataDecoder};
pub use facts::{BodyFacts, MAX_TEXT_LINE};
pub use line::{LineError, MAX_AUTH_LINE, MAX_COMMAND_LINE, discard_line, take_line};
pub use lines::Bare;
pub(crate) use lines::Part;
pub use params::{BodyType, Notify, Ret};
pub use reply::{EnhancedCode, Reply};
pub use reply_reader::{MAX_REPLY_LINE, MAX_REPLY_LINES, ReplyError, ReplyReader};
pub use stuff::DotStuffer;
pub use verb::Verb;
