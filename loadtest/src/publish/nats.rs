//! Publishing over NATS' own protocol. As in a program that uses one of its clients, all publishers share a connection:
//! what they publish meanwhile is written together, and a ping at its end is answered once all of it was routed. (A
//! connection for each would have NATS write every message by itself, at a tenth of the throughput.)

use std::net::SocketAddr;

use anyhow::{Context, anyhow, ensure};
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;

use crate::message::{self, Message};

/// One of the publishers on a connection.
#[derive(Clone)]
pub(crate) struct NatsPublisher {
    operations: mpsc::Sender<Operation>,
}

struct Operation {
    text: String,
    answer: oneshot::Sender<Result<(), String>>,
}

impl NatsPublisher {
    /// Connects; clones share the connection. Each has one operation under way, so that `publishers` bounds the queue.
    pub(super) async fn connect(address: SocketAddr, publishers: usize) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("connect to NATS at {address}; --publish-to is its client port, usually 4222"))?;
        stream.set_nodelay(true)?;
        let mut connection = Connection { stream, buffer: Vec::new() };
        connection.write("CONNECT {\"verbose\":false,\"pedantic\":false}\r\n".to_owned()).await?;
        let (operations, waiting) = mpsc::channel(publishers);
        spawn_local(connection.carry(waiting));
        Ok(Self { operations })
    }

    pub(super) async fn publish(&mut self, message: &Message, padding: usize) -> anyhow::Result<u64> {
        let body = message::change_json(message, padding);
        let text = format!("PUB p.{} {}\r\n{body}\r\n", message.product, body.len());
        let (answer, answered) = oneshot::channel();
        let ended = "the connection to NATS has ended";
        self.operations.send(Operation { text, answer }).await.map_err(|_| anyhow!(ended))?;
        answered.await.context(ended)?.map_err(|error| anyhow!(error))?;
        Ok(message.version)
    }
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn carry(mut self, mut waiting: mpsc::Receiver<Operation>) {
        let mut operations = Vec::new();
        while waiting.recv_many(&mut operations, 1024).await > 0 {
            let text = operations.iter().map(|operation| operation.text.as_str()).collect();
            let result = self.write(text).await.map_err(|error| format!("{error:#}"));
            for operation in operations.drain(..) {
                // A publisher whose run is over does not listen any more.
                let _ = operation.answer.send(result.clone());
            }
            if result.is_err() {
                return;
            }
        }
    }

    /// Writes operations and waits until they are carried out.
    async fn write(&mut self, mut operations: String) -> anyhow::Result<()> {
        operations.push_str("PING\r\n");
        self.stream.write_all(operations.as_bytes()).await?;
        self.buffer.clear();
        while memmem::find(&self.buffer, b"PONG\r\n").is_none() {
            let read = self.stream.read_buf(&mut self.buffer).await?;
            let said = || String::from_utf8_lossy(&self.buffer).into_owned();
            ensure!(read > 0 && memmem::find(&self.buffer, b"-ERR").is_none(), "NATS ended a connection: {}", said());
            if memmem::find(&self.buffer, b"PING\r\n").is_some() {
                self.stream.write_all(b"PONG\r\n").await?;
            }
        }
        Ok(())
    }
}
