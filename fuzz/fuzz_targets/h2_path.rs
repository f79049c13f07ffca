//! A connection of HTTP/2: what a client sends after its preface, up to the requests and WebSockets on its streams. When
//! the client has ended its side, serving ends, and leaves nothing behind.

#![no_main]

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use libfuzzer_sys::{Corpus, fuzz_target};
use rowcast::config::Config;
use rowcast::connection::Connections;
use rowcast::fanout::{self, Core, Hub};
use rowcast::http::Services;
use rowcast::http::core::CoreHttp;
use rowcast::http::listener::serve_http2_stream;
use rowcast::model::table::Tables;
use rowcast::transport::admission::CoreLoad;
use rowcast_fuzz::server::{config, services};
use rowcast_fuzz::within;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::runtime::{Builder, LocalRuntime};
use tokio::time::{sleep, timeout};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame (RFC 9113, §6.5), without which a connection ends before anything is asked.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// Bits of an input's first byte: a SETTINGS frame is put in front; what follows is [`framed`]; the client waits after each
/// of these frames for what the server does.
const AFTER_SETTINGS: u8 = 1;
const FRAMED: u8 = 2;
const PATIENT: u8 = 4;

/// Few, so that an input is long enough to open more.
const STREAMS_MAX: usize = 8;
/// What a stream costs at most beside what it was sent: the buffer of its answer, and the answer.
const STREAM_BYTES_MAX: usize = 64 * 1024;
/// What the connection itself may cost: the buffers of the h2 crate, and those of the pipe.
const CONNECTION_BYTES_MAX: usize = 256 * 1024;
/// What is between the client and the server.
const PIPE_BYTES: usize = 16 * 1024;
/// When serving is said to hang. Time passes at once where nothing else happens.
const PATIENCE: Duration = Duration::from_secs(600);

fuzz_target!(|data: &[u8]| -> Corpus {
    let [how, rest @ ..] = data else { return Corpus::Reject };
    let mut sent = PREFACE.to_vec();
    if how & AFTER_SETTINGS != 0 {
        sent.extend_from_slice(SETTINGS);
    }
    let frames = if how & FRAMED == 0 { vec![rest.to_vec()] } else { framed(rest) };
    let mut sent = vec![sent];
    if how & PATIENT == 0 {
        sent[0].extend(frames.concat());
    } else {
        sent.extend(frames);
    }
    let bytes_max = CONNECTION_BYTES_MAX + STREAMS_MAX * STREAM_BYTES_MAX + 16 * data.len();
    SERVER.with(|server| {
        within(bytes_max, || server.runtime.block_on(async { timeout(PATIENCE, server.serve(&sent)).await }))
            .expect("serving ends");
    });
    Corpus::Keep
});

/// Frames whose lengths are right. Each is described by its type, its flags, its stream and its length, a byte each, and
/// its payload.
fn framed(mut data: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let [kind, flags, stream, length, rest @ ..] = data {
        let (payload, after) = rest.split_at(rest.len().min(usize::from(*length)));
        let length = u8::try_from(payload.len()).expect("no longer than a byte says");
        frames.push([&[0, 0, length, *kind, *flags, 0, 0, 0, *stream], payload].concat());
        data = after;
    }
    frames
}

struct Server {
    /// Its time stands still while there is something to do.
    runtime: LocalRuntime,
    core: CoreHttp,
}

thread_local! {
    // Never dropped: a thread that ends has no runtime to end tasks with.
    static SERVER: &'static Server = Box::leak(Box::new(Server::start()));
}

impl Server {
    fn start() -> Self {
        let mut builder = Builder::new_current_thread();
        let runtime =
            builder.enable_time().start_paused(true).build_local(Default::default()).expect("a runtime is built");
        let config = config(&[&format!("--http2-max-streams={STREAMS_MAX}")]);
        let services = services(&config);
        let core = runtime.block_on(async { start_core(&config, services) });
        Self { runtime, core }
    }

    /// Serves a client that sends this, ends its side, and takes whatever it is sent; returns when nothing of it is left.
    async fn serve(&self, sent: &[Vec<u8>]) {
        let core = &self.core;
        let (client, server) = tokio::io::duplex(PIPE_BYTES);
        let load = CoreLoad::default();
        let serving = serve_http2_stream(core.clone(), load.count(), server);
        // What is wrong with the connection is the client's fault.
        let (_, ()) = tokio::join!(serving, be_client(client, sent));
        let requests = &core.services.shutdown.http;
        while !(requests.is_empty() && core.connections.is_empty() && load.sockets() == 0) {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(core.services.admission.connections.open(), 0, "a WebSocket that ended has no place");
    }
}

fn start_core(config: &Config, services: Services) -> CoreHttp {
    let (hub, mut inboxes) = Hub::new(1, config.shards, Tables::new());
    let inbox = inboxes.remove(0);
    let metrics = services.metrics.core(inbox.core.0, config.limits.queue.policy.label());
    let core = Rc::new(RefCell::new(Core::new(inbox.core, hub, metrics.clone())));
    let connections =
        Connections::new(Rc::clone(&core), config.limits, metrics, services.metrics.clone(), services.keys.clone());
    tokio::task::spawn_local(fanout::run(core, inbox, Duration::ZERO));
    tokio::task::spawn_local(Rc::clone(&connections).run());
    CoreHttp { services, tls: None, connections, carriers: Default::default() }
}

async fn be_client(client: DuplexStream, sent: &[Vec<u8>]) {
    let (mut receive, mut send) = tokio::io::split(client);
    let sending = async {
        for piece in sent {
            // Fails where the server has gone already.
            let _ = send.write_all(piece).await;
            // Over once the server has nothing more to do: a client that left at once would be served nothing.
            sleep(Duration::from_millis(1)).await;
        }
        let _ = send.shutdown().await;
    };
    let receiving = async { while receive.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {} };
    tokio::join!(sending, receiving);
}
