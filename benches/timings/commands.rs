//! Commands of one connection that come packed: what each costs from the connection's core to its answer, on one core and
//! with half of each command's products on another. As many are under way as a connection may have; one iteration is one
//! command of [`PRODUCTS`] products, which are subscribed to and unsubscribed from in turn.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use rowcast::fanout::{self, CastRun, Command, Core, Hub, Inbox, Operation, SlotKey, Subscriber};
use rowcast::metrics::Metrics;
use rowcast::model::table::Tables;
use rowcast::model::topic::Subjects;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{Notify, oneshot};

use crate::fixtures::crowd::LIMITS;
use crate::fixtures::subject;

const PRODUCTS: u64 = 10;
const UNDER_WAY_MAX: u32 = 16;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commands");
    group.throughput(Throughput::Elements(1));
    for cores in [1, 2] {
        let asker = Asker::new(cores);
        group.bench_function(BenchmarkId::new("packed", cores), |bencher| {
            bencher.iter_custom(|commands| asker.ask(commands));
        });
    }
    group.finish();
}

/// A connection of the first core, on this thread; every other core has a thread of its own.
struct Asker {
    runtime: LocalRuntime,
    core: Rc<RefCell<Core<Answered>>>,
    key: SlotKey,
    answered: Answered,
    given: Cell<u32>,
    /// Dropping them ends the threads.
    _stops: Vec<oneshot::Sender<()>>,
}

/// Counts the answers.
#[derive(Clone, Default)]
struct Answered {
    commands: Rc<Cell<u32>>,
    more: Rc<Notify>,
}

impl Subscriber for Answered {
    fn push(&mut self, _: &CastRun) {}

    fn flush(&mut self) {}

    fn applied(&mut self, _: u32, _: usize) {
        self.commands.set(self.commands.get().wrapping_add(1));
        self.more.notify_one();
    }
}

impl Asker {
    fn new(cores: u16) -> Self {
        let (hub, mut inboxes) = Hub::new(cores, usize::from(cores), Tables::new());
        let others = inboxes.split_off(1);
        let stops = others.into_iter().map(|inbox| start_other(inbox, hub.clone())).collect();
        let runtime = Builder::new_current_thread().build_local(LocalOptions::default()).expect("a runtime is built");
        let inbox = inboxes.remove(0);
        let core = Rc::new(RefCell::new(core(&inbox, hub)));
        let answered = Answered::default();
        let key = core.borrow_mut().insert_with(|_| answered.clone());
        runtime.spawn_local(fanout::run(Rc::clone(&core), inbox, Duration::ZERO));
        Self { runtime, core, key, answered, given: Cell::new(0), _stops: stops }
    }

    /// How long so many commands take.
    fn ask(&self, commands: u64) -> Duration {
        let topics: Subjects = (0..PRODUCTS).map(subject).collect();
        let start = Instant::now();
        self.runtime.block_on(async {
            for _ in 0..commands {
                self.until_under_way(UNDER_WAY_MAX - 1).await;
                self.give(topics.clone());
            }
            self.until_under_way(0).await;
        });
        start.elapsed()
    }

    fn give(&self, topics: Subjects) {
        let number = self.given.get();
        self.given.set(number.wrapping_add(1));
        let operation = if number.is_multiple_of(2) { Operation::Subscribe } else { Operation::Unsubscribe };
        self.core.borrow_mut().command(self.key, Command::new(number, operation, topics));
    }

    async fn until_under_way(&self, max: u32) {
        while self.given.get().wrapping_sub(self.answered.commands.get()) > max {
            self.answered.more.notified().await;
        }
    }
}

fn core(inbox: &Inbox, hub: Hub) -> Core<Answered> {
    Core::new(inbox.core, hub, Metrics::new().core(inbox.core.0, LIMITS.policy.label()))
}

fn start_other(inbox: Inbox, hub: Hub) -> oneshot::Sender<()> {
    let (stop, stopped) = oneshot::channel::<()>();
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().build_local(LocalOptions::default()).expect("a runtime is built");
        let core = Rc::new(RefCell::new(core(&inbox, hub)));
        runtime.spawn_local(fanout::run(core, inbox, Duration::ZERO));
        let _ = runtime.block_on(stopped);
    });
    stop
}
