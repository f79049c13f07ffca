//! Follows rows of a Rowcast server: as they are, and as they change.
//!
//! A [`Client`] connects, comes back by itself, asks for what it missed by the versions that it knows, and says
//! [`Event::Live`] only while everything that it told is the present state.
//!
//! ```no_run
//! use rowcast_client::{Event, Options, Rows, connect};
//! use serde::Deserialize;
//!
//! #[derive(Deserialize)]
//! struct Order {
//!     state: String,
//! }
//!
//! # async fn follow() -> Result<(), Box<dyn std::error::Error>> {
//! let client = connect("https://live.example/", Options::default())?;
//! let mut orders = client.subscribe(Rows::of("orders", ["17", "a-9"]));
//! while let Some(event) = orders.next().await {
//!     match event {
//!         Event::Change(change) => match change.row {
//!             Some(row) => println!("{}: {}", change.key, row.parse::<Order>()?.state),
//!             None => println!("{} does not exist", change.key),
//!         },
//!         Event::Live => println!("this is the present state"),
//!         Event::Stale => println!("this may be old"),
//!         Event::Complete => {}
//!         Event::Refused(refusal) => eprintln!("{refusal}"),
//!     }
//! }
//! // It ends where another try would not help, and says why.
//! if let Some(error) = client.closed().await {
//!     return Err(error.into());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A [`Subscription`] is a [`Stream`](futures_core::Stream); dropped, it ends. Many subscriptions of one row are one to
//! the server. One that is read slowly holds nobody up: of each row it is told the newest state.
//!
//! The modules, from the inside: a table's rows and their versions (`replica`), what is followed and asked for of it
//! (`table`, `commands`), what waits for a subscriber (`mailbox`), and the `core` that joins them, all without I/O;
//! then the handles (`client`) and the task that connects (`run`, [`socket`], `reads`).

mod backoff;
mod client;
mod commands;
mod core;
mod error;
mod event;
mod key;
mod mailbox;
pub mod message;
mod reads;
mod replica;
mod rows;
mod run;
mod server;
pub mod socket;
mod table;
mod token;

pub use self::client::{Client, Options, Subscription};
pub use self::core::{State, Status};
pub use self::error::Error;
pub use self::event::{Action, Change, Entry, Event, Refusal, Row};
pub use self::key::Key;
pub use self::rows::Rows;
pub use self::server::Server;
pub use self::token::Token;

/// Connects to a server, by its address: `ws://`, `wss://`, `http://` or `https://`, with the path under which it is
/// served if there is one. What fails is tried again, but where that would not help.
///
/// # Errors
/// If the address is none, or there are no certificates to trust.
///
/// # Panics
/// Outside a Tokio runtime.
pub fn connect(url: &str, options: Options) -> Result<Client, Error> {
    Ok(Client::new(Server::parse(url, options.tls.clone())?, options))
}
