//! The language of SMTP: commands, replies, addresses, DATA and BDAT. Pure: no sockets, no
//! clock, no tokio.

mod address;
mod params;

pub use address::{Address, AddressError, MAX_ADDRESS};
pub use params::{BodyType, Notify, Ret};
