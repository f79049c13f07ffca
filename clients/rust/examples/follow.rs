//! Follows rows of a table in the terminal:
//!
//! ```sh
//! cargo run -p rowcast-client --example follow -- http://127.0.0.1:8080 orders 17 a-9
//! cargo run -p rowcast-client --example follow -- http://127.0.0.1:8080 orders '*'
//! ```
//!
//! Kill the server, change a row, start it again: it says that what it shows may be old, and then what has changed.

use std::error::Error;
use std::io::Write;

use rowcast_client::{Event, Options, Rows, Token, connect};

/// Writes what happens to rows, until the client ends or the output is closed.
pub(crate) async fn follow(url: &str, rows: Rows, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    // A function is asked again when its token has expired.
    let token = std::env::var("ROWCAST_TOKEN").ok().map(Token::from);
    let client = connect(url, Options { token, ..Options::default() })?;
    let mut events = client.subscribe(rows);
    while let Some(event) = events.next().await {
        match event {
            Event::Change(change) => match change.row {
                Some(row) => writeln!(out, "{}: {}", change.key, row.json())?,
                None => writeln!(out, "{} does not exist", change.key)?,
            },
            Event::Complete => {}
            Event::Live => writeln!(out, "-- this is the present state")?,
            Event::Stale => writeln!(out, "-- this may be old")?,
            Event::Refused(refusal) => writeln!(out, "-- refused: {refusal}")?,
        }
    }
    client.closed().await.map_or(Ok(()), |error| Err(error.into()))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [url, table, all] if all == "*" => follow(url, Rows::all(table), &mut std::io::stdout()).await,
        [url, table, keys @ ..] => follow(url, Rows::of(table, keys.iter().cloned()), &mut std::io::stdout()).await,
        _ => Err("give a server's address, a table and keys of its rows, or '*'".into()),
    }
}
