//! Connections over real sockets on one thread, whose order of work a test can see.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::LocalOptions;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::*;
use crate::fanout::{self, Hub};
use crate::model::table::Tables;
use crate::session::command::ReplyId;
use crate::session::queue::{SendQueueLimits, SlowConsumerPolicy};
use crate::transport::admission::{Bound, CoreLoad};

const PATIENCE: Duration = Duration::from_mins(1);

/// A frame of a client, with a payload of less than 126 bytes.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    assert!(length < 126);
    // A mask of zeros changes nothing.
    [&[first, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

const PONG: u8 = 0x8A;
const PING: u8 = 0x89;
const TEXT: u8 = 0x81;
const SUBSCRIBE: &[u8] = br#"{"command":"subscribe","productIDs":[1,2,3],"id":1}"#;

/// One core with its fan-out and its connections.
struct World {
    connections: Rc<Connections>,
    places: Bound,
    load: CoreLoad,
    listener: TcpListener,
}

impl World {
    async fn new() -> Self {
        let (hub, mut inboxes) = Hub::new(1, 1, Tables::new());
        let inbox = inboxes.pop().unwrap();
        let process_metrics = Arc::new(Metrics::new());
        let metrics = process_metrics.core(0, "drop");
        let core = Rc::new(RefCell::new(Core::new(inbox.core, hub, metrics.clone())));
        let queue = SendQueueLimits { frames_max: 100, bytes_max: 1 << 20, policy: SlowConsumerPolicy::Drop };
        let limits = SessionLimits {
            queue,
            subscriptions_max: 100,
            message_bytes_max: 1000,
            units_per_second_max: 0,
            ping_after: 25,
        };
        let connections = Connections::new(Rc::clone(&core), limits, metrics, process_metrics, None);
        tokio::task::spawn_local(fanout::run(core, inbox, Duration::ZERO));
        tokio::task::spawn_local(Rc::clone(&connections).run());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { connections, places: Bound::new(10, 0), load: CoreLoad::default(), listener }
    }

    /// Opens a connection; returns its key, and its client's end.
    async fn open(&self) -> (SlotKey, TcpStream) {
        let before = self.keys();
        let client = TcpStream::connect(self.listener.local_addr().unwrap()).await.unwrap();
        client.set_nodelay(true).unwrap();
        let (stream, peer) = self.listener.accept().await.unwrap();
        let place = self.places.enter(peer.ip()).unwrap();
        self.connections.open(stream.into(), &[], (place, Rc::new(self.load.count())), None);
        let key = self.keys().into_iter().find(|key| !before.contains(key)).unwrap();
        (key, client)
    }

    fn keys(&self) -> Vec<SlotKey> {
        self.connections.core.borrow_mut().iter_mut().map(|(key, _)| key).collect()
    }

    fn is_in_turns(&self, key: SlotKey) -> bool {
        self.connections.core.borrow_mut().get_mut(key).unwrap().in_turns
    }

    fn subscriptions(&self) -> i64 {
        self.connections.shared.metrics.subscriptions.get()
    }
}

/// Told to who subscribes, since no source has begun.
const NOT_LIVE: &str = r#"{"live":false}"#;

fn on_a_core(test: impl AsyncFnOnce(World)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    let test = async { test(World::new().await).await };
    runtime.unwrap().block_on(async { timeout(PATIENCE, test).await.expect("what is awaited comes") });
}

async fn answer(client: &mut TcpStream) -> String {
    let mut head = [0; 2];
    client.read_exact(&mut head).await.unwrap();
    let mut payload = vec![0; head[1].into()];
    client.read_exact(&mut payload).await.unwrap();
    String::from_utf8(payload).unwrap()
}

#[test]
#[expect(clippy::await_holding_refcell_ref, reason = "the fault that the task meets")]
fn a_connection_whose_task_panics_leaves_nothing_behind() {
    on_a_core(async |world| {
        let (_, mut other) = world.open().await;
        other.write_all(&frame(TEXT, SUBSCRIBE)).await.unwrap();
        assert!(answer(&mut other).await.contains(r#""ok":true"#));
        assert_eq!(answer(&mut other).await, NOT_LIVE);
        let (_, mut client) = world.open().await;
        client.write_all(&frame(TEXT, SUBSCRIBE)).await.unwrap();
        assert!(answer(&mut client).await.contains(r#""ok":true"#));
        assert_eq!(answer(&mut client).await, NOT_LIVE);
        assert_eq!((world.connections.len(), world.subscriptions(), world.places.open()), (2, 6, 2));

        // The core's buffer is taken away, which the task cannot know.
        let shared = Rc::clone(&world.connections.shared);
        let taken = shared.scratch.borrow_mut();
        client.write_all(&frame(PING, b"")).await.unwrap();
        while world.connections.len() == 2 {
            yield_now().await;
        }
        drop(taken);
        assert_eq!(client.read(&mut [0]).await.ok().unwrap_or(0), 0, "its socket is closed");
        while world.subscriptions() != 3 {
            yield_now().await;
        }
        assert_eq!((world.places.open(), world.load.sockets()), (1, 1));
        other.write_all(&frame(PING, b"still here")).await.unwrap();
        assert_eq!(answer(&mut other).await, "still here", "the core goes on");
        drop(other);
        // Nobody waits for a task that is gone.
        world.connections.close_all().await;
        assert_eq!(world.subscriptions(), 0);
    });
}

#[test]
fn a_connection_that_sends_much_leaves_turns_to_the_others() {
    const FRAMES: usize = 8000;
    on_a_core(async |world| {
        let (loud, mut shouting) = world.open().await;
        let (_, mut quiet) = world.open().await;
        // The answer to the ping comes after everything before it.
        let much = [frame(PONG, b"").repeat(FRAMES), frame(PING, b"the end")].concat();
        shouting.write_all(&much).await.unwrap();
        while !world.is_in_turns(loud) {
            yield_now().await;
        }
        let mut turns = 0;
        while world.is_in_turns(loud) && turns < 3 {
            quiet.write_all(&frame(PING, b"quiet")).await.unwrap();
            assert_eq!(answer(&mut quiet).await, "quiet");
            turns += 1;
        }
        assert_eq!(turns, 3, "the quiet one was served between the turns of the loud one");
        let early = shouting.try_read(&mut [0; 2]);
        assert!(early.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "and before its end");
        assert_eq!(answer(&mut shouting).await, "the end");
    });
}

#[test]
fn a_look_that_was_brought_forward_is_the_one_that_counts() {
    on_a_core(async |world| {
        let (key, mut client) = world.open().await;
        let rights = || Grant::to_read(1, 9);
        for grant in [rights().until(unix_time() + Duration::from_secs(10)), rights()] {
            if let Some(connection) = world.connections.core.borrow_mut().get_mut(key) {
                connection.on(Event::Authorize(Some(ReplyId::Unsigned(7)), Ok(Some(Arc::new(grant)))));
                connection.look_at_expiry();
                connection.waker.wake_by_ref();
            }
            assert!(answer(&mut client).await.contains(r#""ok":true"#));
        }
        // The look at the first token's end schedules another for the second at which the wheel has that of before. The
        // wheel turns by itself too: it stops long before the next ping.
        let ping_after = world.connections.limits().ping_after;
        while world.connections.now() < ping_after + ping_after / 4 {
            world.connections.turn();
        }
        client.write_all(&frame(PING, b"the end")).await.unwrap();
        let mut pings = 0;
        loop {
            let mut head = [0; 2];
            client.read_exact(&mut head).await.unwrap();
            client.read_exact(&mut vec![0; head[1].into()]).await.unwrap();
            match head[0] {
                PING => pings += 1,
                PONG => break,
                other => panic!("{other:#x}"),
            }
        }
        assert_eq!(pings, 1);
    });
}
