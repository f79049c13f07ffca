//! Floods of one WebSocket: bytes that were made ready, again and again, as fast as the server takes them.

use anyhow::bail;
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};

use super::Scene;
use crate::client::{Client, open};
use crate::frames::{TEXT, client_frame};
use crate::peer::Peer;
use crate::target::Stream;

/// The greatest message that a server takes by default.
pub(super) const MESSAGE_BYTES: usize = 256 * 1024;
/// The bit that says that a frame is its message's last.
const FIN: u8 = 0x80;
/// A further part of a message.
const CONTINUATION: u8 = 0x0;
/// Frames in one ready piece of a flood: far fewer than the bytes that a message may have.
const FRAMES_AT_ONCE: usize = 60_000;

/// The bytes of a flood: those sent once, then those sent in turn.
pub(super) struct Flood {
    pub(super) first: Vec<u8>,
    pub(super) then: Vec<Vec<u8>>,
    /// The count of each of `then`.
    pub(super) counts: u64,
}

/// Sends continuation frames of this many bytes, 0 or 1.
pub(super) async fn continuations(scene: &Scene, payload_bytes: usize) -> anyhow::Result<()> {
    let part = |opcode: u8, is_last: bool| {
        let mut frame = client_frame(opcode, &[b'x'][..payload_bytes]);
        if !is_last {
            frame[0] &= !FIN;
        }
        frame
    };
    let parts = part(CONTINUATION, false).repeat(FRAMES_AT_ONCE);
    let flood = if payload_bytes == 0 {
        // The message never ends.
        Flood { first: part(TEXT, false), then: vec![parts], counts: FRAMES_AT_ONCE as u64 }
    } else {
        let message = [part(TEXT, false), parts, part(CONTINUATION, true)].concat();
        Flood { first: Vec::new(), then: vec![message], counts: FRAMES_AT_ONCE as u64 + 2 }
    };
    sockets(scene, &flood).await
}

/// Sends JSON that is read to its end before it turns out to be no command.
pub(super) async fn not_commands(scene: &Scene) -> anyhow::Result<()> {
    let text = format!("[1{}]", ",1".repeat(MESSAGE_BYTES / 2 - 2));
    let flood = Flood { first: Vec::new(), then: vec![client_frame(TEXT, text.as_bytes())], counts: 1 };
    sockets(scene, &flood).await
}

/// Floods a WebSocket for each client, each opened again when it is cut.
pub(super) async fn sockets(scene: &Scene, flood: &Flood) -> anyhow::Result<()> {
    let client = |number| {
        scene.again(move || async move {
            let Client { stream, .. } = open(&scene.server, number, &Peer::Rowcast.path(&[])).await?;
            stream_with(scene, stream, flood).await
        })
    };
    join_all((0..scene.clients).map(client)).await;
    Ok(())
}

/// Floods one stream until it is closed, and reads whatever is answered.
pub(super) async fn stream_with(scene: &Scene, stream: Stream, flood: &Flood) -> anyhow::Result<()> {
    let (mut read, mut write) = split(stream);
    let writing = async {
        write.write_all(&flood.first).await?;
        loop {
            for bytes in &flood.then {
                write.write_all(bytes).await?;
                scene.add(flood.counts);
            }
        }
    };
    let reading = async {
        let mut answers = vec![0; 64 * 1024];
        while read.read(&mut answers).await? > 0 {}
        bail!("the server closed")
    };
    tokio::select! {
        result = writing => result,
        result = reading => result,
    }
}
