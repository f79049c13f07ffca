//! Readers that held much, and close all at once.

use std::future::pending;
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::time::interval;

use super::Scene;
use crate::client::{Client, open_subscribed};
use crate::message::Message;
use crate::peer::Peer;
use crate::publish::Http;

/// As many products as a connection may have by default.
const PRODUCTS_MANY: u32 = 100_000;
/// Products of each of those that never read.
const PRODUCTS_UNREAD: u32 = 20_000;
/// Changes of them in a second, and their length.
const CHANGES_PER_SECOND: u32 = 200;
const PADDING_BYTES: usize = 4_000;
/// Handshakes that are under way at once.
const AT_ONCE: usize = 8;

/// Has all clients subscribe to 100,000 products each, and then close.
pub(super) async fn of_many_subscriptions(scene: &Scene) -> anyhow::Result<()> {
    let clients = subscribed(scene, PRODUCTS_MANY).await?;
    scene.add(clients.len() as u64);
    drop(clients);
    pending().await
}

/// Has all clients subscribe to 20,000 products each, never read, and be closed at the end of the round.
pub(super) async fn of_readers_that_never_read(scene: &Scene) -> anyhow::Result<()> {
    let _clients = subscribed(scene, PRODUCTS_UNREAD).await?;
    let mut http = Http::connect(&scene.server).await?;
    scene.begin();
    let mut turns = interval(Duration::from_secs(1) / CHANGES_PER_SECOND);
    for product in (1..=PRODUCTS_UNREAD).cycle() {
        turns.tick().await;
        let message = Message { product, version: 0, due_ns: 0 };
        http.request(&Peer::Rowcast.publish_request(&message, PADDING_BYTES, &scene.server.token)).await?;
        scene.add(1);
    }
    Ok(())
}

async fn subscribed(scene: &Scene, products: u32) -> anyhow::Result<Vec<Client>> {
    let ids: &Vec<u32> = &(1..=products).collect();
    let open = |number| open_subscribed(Peer::Rowcast, &scene.server, number, ids);
    stream::iter(0..scene.clients).map(open).buffer_unordered(AT_ONCE).try_collect().await
}
