//! Subscribers behind a hub and several cores, each core on a thread of its own.

use std::cell::RefCell;
use std::fs::File;
use std::io::Write;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rowcast::fanout::{self, CastRun, Command, Core, Hub, Inbox, Operation, Subscriber};
use rowcast::metrics::Metrics;
use rowcast::model::table::Tables;
use rowcast::model::topic::Subject;
use rowcast::session::queue::SendQueue;
use rowcast::wire::frame::Frame;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::oneshot;

use crate::fixtures::cast;
use crate::fixtures::crowd::{LIMITS, send_all};

/// Subscribers of one row, spread over the cores.
pub(super) struct Fleet {
    hub: Hub,
    subject: Subject,
    subscribers: u64,
    cores: Vec<CoreThread>,
}

struct CoreThread {
    bytes_taken: Arc<Counter>,
    /// Dropping it ends the thread.
    _stop: oneshot::Sender<()>,
}

/// How many bytes a core's subscribers have taken; only its thread writes it, so that it is not to share a line of the
/// cache with another's.
#[derive(Default)]
#[repr(align(128))]
struct Counter(AtomicU64);

impl Fleet {
    pub(super) fn new(cores: u16, subscribers: u64, subject: &Subject) -> Self {
        let (hub, inboxes) = Hub::new(cores, usize::from(cores), Tables::new());
        let each = subscribers / u64::from(cores);
        let (subscribed, all_subscribed) = mpsc::channel();
        let start = |inbox| CoreThread::start(inbox, hub.clone(), each, subject.clone(), subscribed.clone());
        let threads = inboxes.into_iter().map(start).collect();
        // Their commands need each other's shards, so all start before any is waited for.
        assert_eq!(all_subscribed.iter().take(usize::from(cores)).count(), usize::from(cores));
        Self { hub, subject: subject.clone(), subscribers: each * u64::from(cores), cores: threads }
    }

    /// Casts this frame so many times in a row, and returns when every subscriber has taken all of it.
    pub(super) fn cast(&self, frame: &Frame, times: u64) {
        let taken_then = self.bytes_taken() + times * self.subscribers * frame.len() as u64;
        let runtime = Builder::new_current_thread().build().expect("a runtime is built");
        runtime.block_on(async {
            for _ in 0..times {
                self.hub.cast(cast(&self.subject, frame)).await;
            }
            self.hub.settled().await;
        });
        // The last batch is pushed then, and about to be flushed.
        while self.bytes_taken() < taken_then {
            thread::yield_now();
        }
        assert_eq!(self.bytes_taken(), taken_then, "each subscriber gets each frame once");
    }

    fn bytes_taken(&self) -> u64 {
        self.cores.iter().map(|core| core.bytes_taken.0.load(Ordering::Acquire)).sum()
    }
}

impl CoreThread {
    fn start(inbox: Inbox, hub: Hub, subscribers: u64, subject: Subject, subscribed: mpsc::Sender<()>) -> Self {
        let bytes_taken = Arc::<Counter>::default();
        let (stop, stopped) = oneshot::channel::<()>();
        let counter = Arc::clone(&bytes_taken);
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().build_local(LocalOptions::default());
            runtime.expect("a runtime is built").block_on(async {
                let metrics = Metrics::new().core(inbox.core.0, LIMITS.policy.label());
                let core = Rc::new(RefCell::new(Core::new(inbox.core, hub, metrics)));
                tokio::task::spawn_local(fanout::run(Rc::clone(&core), inbox, Duration::ZERO));
                let socket = Rc::new(File::create("/dev/null").expect("there is one"));
                let mut awaited = Vec::new();
                for _ in 0..subscribers {
                    let (applied, done) = oneshot::channel();
                    let taker = Taker {
                        queue: SendQueue::new(),
                        socket: Rc::clone(&socket),
                        bytes_taken: Arc::clone(&counter),
                        applied: Some(applied),
                    };
                    let mut core = core.borrow_mut();
                    let key = core.insert_with(|_| taker);
                    let topics = std::iter::once(subject.clone()).collect();
                    core.command(key, Command::new(0, Operation::Subscribe, topics));
                    awaited.push(done);
                }
                for done in awaited {
                    done.await.expect("the core carries every command out");
                }
                subscribed.send(()).expect("the bench waits");
                let _ = stopped.await;
            });
        });
        Self { bytes_taken, _stop: stop }
    }
}

/// A subscriber whose socket is `/dev/null`: it takes everything at once, for a system call as any socket.
struct Taker {
    queue: SendQueue,
    socket: Rc<File>,
    bytes_taken: Arc<Counter>,
    applied: Option<oneshot::Sender<()>>,
}

impl Subscriber for Taker {
    fn push(&mut self, run: &CastRun) {
        // Another core's runs pile up while this one delivers; a connection makes room in the same way.
        if !self.queue.push_run(&run.subject, &run.frames, &LIMITS) {
            self.flush();
            assert!(self.queue.push_run(&run.subject, &run.frames, &LIMITS), "a queue that is flushed has room");
        }
    }

    fn flush(&mut self) {
        let taken = self.bytes_taken.0.load(Ordering::Relaxed)
            + send_all(&mut self.queue, |slices| (&*self.socket).write_vectored(slices).expect("it takes everything"));
        self.bytes_taken.0.store(taken, Ordering::Release);
    }

    fn applied(&mut self, _: u32, _: usize) {
        if let Some(applied) = self.applied.take() {
            let _ = applied.send(());
        }
    }
}
