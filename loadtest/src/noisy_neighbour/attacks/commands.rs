//! Commands as large as they may be, and as small as they can be.

use std::fmt::Write;

use anyhow::{Context, ensure};
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Scene;
use super::websocket::{Flood, MESSAGE_BYTES, sockets};
use crate::client::{Client, open};
use crate::frames::{PING, PONG, TEXT, client_frame, next_frame};
use crate::peer::Peer;

/// Small commands that are sent together; all of them fit into one segment on the loopback device.
const COMMANDS_TOGETHER: u32 = 200;

/// Subscribes and unsubscribes in turn, each time to as many of these products as a command holds.
pub(super) async fn large(scene: &Scene, is_listed: impl Fn(u64) -> bool) -> anyhow::Result<()> {
    let mut ids = String::new();
    for id in (1..).filter(|id| is_listed(*id)) {
        if ids.len() > MESSAGE_BYTES - 100 {
            break;
        }
        write!(ids, "{}{id}", if ids.is_empty() { "" } else { "," })?;
    }
    let command = |name| client_frame(TEXT, format!(r#"{{"command":"{name}","productIDs":[{ids}]}}"#).as_bytes());
    sockets(scene, &Flood { first: Vec::new(), then: ["subscribe", "unsubscribe"].map(command).into(), counts: 1 })
        .await
}

/// Returns true if this product falls into the first of two shards, as an attacker knows of a server that spreads
/// products over its shards by multiplication with a constant and without a seed.
pub(super) fn falls_into_the_first_of_two_shards(id: u64) -> bool {
    const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;
    (id.wrapping_mul(MULTIPLIER) >> 32).is_multiple_of(2)
}

/// Sends many commands of one product in one write; the next once all are answered.
pub(super) async fn packed(scene: &Scene) -> anyhow::Result<()> {
    let mut packed = Vec::new();
    for number in 0..COMMANDS_TOGETHER {
        let name = if number % 2 == 0 { "subscribe" } else { "unsubscribe" };
        let command = format!(r#"{{"command":"{name}","productIDs":[{}],"id":{number}}}"#, number / 2 + 1);
        packed.extend(client_frame(TEXT, command.as_bytes()));
    }
    let client = |number| {
        let packed = &packed;
        scene.again(move || async move {
            let mut client = open(&scene.server, number, &Peer::Rowcast.path(&[])).await?;
            loop {
                client.stream.write_all(packed).await.context("send commands")?;
                replies(&mut client).await?;
                scene.add(u64::from(COMMANDS_TOGETHER));
            }
        })
    };
    join_all((0..scene.clients).map(client)).await;
    Ok(())
}

/// Reads until every command has its reply.
async fn replies(client: &mut Client) -> anyhow::Result<()> {
    let mut replies = 0;
    loop {
        let (mut walked, mut pongs) = (0, Vec::new());
        while let Some(frame) = next_frame(&client.unread[walked..]) {
            walked += frame.bytes;
            match frame.opcode {
                TEXT => replies += 1,
                PING => pongs.extend(client_frame(PONG, frame.payload)),
                _ => {}
            }
        }
        client.unread.drain(..walked);
        client.stream.write_all(&pongs).await?;
        if replies >= COMMANDS_TOGETHER {
            return Ok(());
        }
        ensure!(client.stream.read_buf(&mut client.unread).await? > 0, "the server closed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_products_fall_into_one_of_two_shards() {
        let found = (1..=10_000).filter(|id| falls_into_the_first_of_two_shards(*id)).count();
        assert!((4_500..5_500).contains(&found), "{found}");
    }
}
