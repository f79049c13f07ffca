//! Publishing over NATS' own protocol; a ping after each message is answered once the message was routed.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::message::{self, Message};

/// A connection that publishes.
pub(crate) struct NatsPublisher {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl NatsPublisher {
    pub(super) async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("connect to NATS at {address}; --publish-to is its client port, usually 4222"))?;
        stream.set_nodelay(true)?;
        let mut publisher = Self { stream, buffer: Vec::new() };
        publisher.stream.write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\nPING\r\n").await?;
        publisher.pong().await?;
        Ok(publisher)
    }

    pub(super) async fn publish(&mut self, message: &Message, padding: usize) -> anyhow::Result<u64> {
        let body = message::change_json(message, padding);
        let operation = format!("PUB p.{} {}\r\n{body}\r\nPING\r\n", message.product, body.len());
        self.stream.write_all(operation.as_bytes()).await?;
        self.pong().await?;
        Ok(message.version)
    }

    async fn pong(&mut self) -> anyhow::Result<()> {
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
