//! Several cores in one thread, whose messages are delivered in any order that their inboxes allow, against a set of
//! pairs.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::FutureExt;
use proptest::prelude::*;
use slotmap::Key;

use super::super::Cast;
use super::*;
use crate::metrics::Metrics;
use crate::wire::frame::Frame;
use crate::wire::websocket::Opcode;

const CORES: u16 = 3;
const PRODUCTS: u64 = 6;

/// Remembers what it was given.
#[derive(Debug, Default)]
struct Recorder {
    waiting: Vec<(u64, u64)>,
    flushed: Vec<(u64, u64)>,
    applied: Option<Applied>,
}

impl Subscriber for Recorder {
    fn push(&mut self, run: &CastRun) {
        for (frame, &version) in run.frames.chunks_exact(10).zip(run.versions()) {
            assert_eq!(frame[2..], version.to_be_bytes(), "each frame comes with its version");
            self.waiting.push((run.product.get(), version));
        }
    }

    fn flush(&mut self) {
        assert!(!self.waiting.is_empty(), "only who was given something is flushed");
        self.flushed.append(&mut self.waiting);
    }

    fn applied(&mut self, applied: Applied) {
        self.applied = Some(applied);
    }
}

/// All cores of a process.
struct World {
    hub: Hub,
    cores: Vec<Core<Recorder>>,
    inboxes: Vec<Inbox>,
    version: u64,
}

impl World {
    fn new(shards: usize) -> Self {
        let (hub, inboxes) = Hub::new(CORES, shards);
        let metrics = Metrics::new();
        let core = |inbox: &Inbox| Core::new(inbox.core, hub.clone(), metrics.core(inbox.core.0, "drop"));
        Self { cores: inboxes.iter().map(core).collect(), inboxes, hub, version: 0 }
    }

    fn open(&mut self, core: u16) -> ConnectionId {
        let key = self.core(core).insert_with(|_| Recorder::default());
        ConnectionId { core: CoreId(core), key }
    }

    fn core(&mut self, core: u16) -> &mut Core<Recorder> {
        &mut self.cores[usize::from(core)]
    }

    fn recorder(&mut self, connection: ConnectionId) -> &mut Recorder {
        self.core(connection.core.0).get_mut(connection.key).expect("it is open")
    }

    /// Casts the next version of a product.
    fn cast(&mut self, number: u64) -> u64 {
        self.version += 1;
        let frame = Frame::new(Opcode::Binary, &self.version.to_be_bytes());
        let cast = Cast { product: product(number), version: self.version, frame, committed_at: Instant::now() };
        self.hub.cast(cast).now_or_never().expect("there is room for all changes of a test");
        self.version
    }

    /// Has a core take up to so many of its messages; whether there were any.
    fn process(&mut self, core: u16, messages: usize) -> bool {
        let inbox = &mut self.inboxes[usize::from(core)];
        let mut batch: Vec<Message> = (0..messages).map_while(|_| inbox.messages.try_recv().ok()).collect();
        let any = !batch.is_empty();
        self.core(core).process(&mut batch);
        any
    }

    fn settle(&mut self) {
        while (0..CORES).any(|core| self.process(core, usize::MAX)) {}
        assert!(self.hub.settled().now_or_never().is_some(), "every change gave its units back");
    }

    fn assert_empty(&self) {
        for core in &self.cores {
            assert!(core.is_empty());
            for shard in &core.shards {
                assert_eq!((shard.products_len(), shard.connections_len()), (0, 0));
            }
        }
    }
}

fn product(number: u64) -> ProductId {
    ProductId::new(number).unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Open(u16),
    Subscribe(usize, Vec<u64>),
    Unsubscribe(usize, Vec<u64>),
    Close(usize),
    Cast(u64),
    Process(u16, usize),
    Settle,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let products = || proptest::collection::vec(0..PRODUCTS, 0..5);
    let step = prop_oneof![
        2 => (0..CORES).prop_map(Step::Open),
        4 => (any::<usize>(), products()).prop_map(|(c, p)| Step::Subscribe(c, p)),
        2 => (any::<usize>(), products()).prop_map(|(c, p)| Step::Unsubscribe(c, p)),
        1 => any::<usize>().prop_map(Step::Close),
        6 => (0..PRODUCTS).prop_map(Step::Cast),
        4 => (0..CORES, 1..4usize).prop_map(|(core, messages)| Step::Process(core, messages)),
        1 => Just(Step::Settle),
    ];
    proptest::collection::vec(step, 0..120)
}

/// What is known of an open connection: its subscriptions once its commands are carried out, whether it waits for an
/// answer, and the versions that it must get because it was subscribed while they were cast and everything was settled.
#[derive(Debug, Default)]
struct Known {
    subscribed: BTreeSet<u64>,
    is_waiting: bool,
    due: Vec<(u64, u64)>,
}

proptest! {
    #[test]
    fn everybody_gets_the_changes_of_what_they_subscribed_to(steps in steps(), shards in 1usize..8) {
        let mut world = World::new(shards);
        let mut known: Vec<(ConnectionId, Known)> = Vec::new();
        let mut settled = true;
        for step in steps {
            match step {
                Step::Open(core) => known.push((world.open(core), Known::default())),
                Step::Subscribe(..) | Step::Unsubscribe(..) | Step::Close(_) if known.is_empty() => {}
                Step::Subscribe(number, products) => {
                    let place = number % known.len();
                    settled &= command(&mut world, &mut known[place], Operation::Subscribe, &products);
                }
                Step::Unsubscribe(number, products) => {
                    let place = number % known.len();
                    settled &= command(&mut world, &mut known[place], Operation::Unsubscribe, &products);
                }
                Step::Close(number) => {
                    let (connection, _) = known.swap_remove(number % known.len());
                    prop_assert!(world.core(connection.core.0).remove(connection.key).is_some());
                    prop_assert!(world.core(connection.core.0).remove(connection.key).is_none());
                    settled = false;
                }
                Step::Cast(number) => {
                    let version = world.cast(number);
                    for (_, known) in known.iter_mut().filter(|(_, known)| settled && known.subscribed.contains(&number)) {
                        known.due.push((number, version));
                    }
                }
                Step::Process(core, messages) => {
                    world.process(core, messages);
                }
                Step::Settle => {
                    world.settle();
                    settled = true;
                    check(&mut world, &mut known);
                }
            }
        }
        world.settle();
        check(&mut world, &mut known);
        for (connection, _) in known {
            world.core(connection.core.0).remove(connection.key);
        }
        world.settle();
        world.assert_empty();
    }
}

/// Gives a command if none is being carried out; whether all of it is done at once.
fn command(world: &mut World, known: &mut (ConnectionId, Known), operation: Operation, products: &[u64]) -> bool {
    let (connection, known) = known;
    if known.is_waiting && world.recorder(*connection).applied.take().is_none() {
        return false;
    }
    let ids: Vec<ProductId> = products.iter().map(|&number| product(number)).collect();
    for &number in products {
        match operation {
            Operation::Subscribe => known.subscribed.insert(number),
            _ => known.subscribed.remove(&number),
        };
    }
    // What was cast before and is still under way may come now or not.
    known.due.clear();
    let applied = world.core(connection.core.0).command(connection.key, operation, &ids);
    known.is_waiting = applied.is_none();
    if let Some(applied) = applied {
        assert_eq!(applied.subscriptions, known.subscribed.len());
    }
    applied.is_some()
}

/// When everything is settled: answers count right, versions only grew, and what was due has come.
fn check(world: &mut World, known: &mut [(ConnectionId, Known)]) {
    for (connection, known) in known {
        if known.is_waiting {
            let applied = world.recorder(*connection).applied.take().expect("all shards have answered");
            assert_eq!(applied.subscriptions, known.subscribed.len());
            known.is_waiting = false;
        }
        assert_eq!(world.core(connection.core.0).subscriptions(connection.key), known.subscribed.len());
        let recorder = world.recorder(*connection);
        assert!(recorder.waiting.is_empty(), "what was pushed was flushed");
        let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
        for &(number, version) in &recorder.flushed {
            assert!(newest.insert(number, version).is_none_or(|before| before < version));
        }
        for due in known.due.drain(..) {
            assert!(recorder.flushed.contains(&due), "{due:?} is not in {:?}", recorder.flushed);
        }
    }
}

#[test]
fn a_message_for_an_earlier_connection_never_reaches_a_later_one() {
    let mut world = World::new(1);
    let first = world.open(1);
    world.core(1).command(first.key, Operation::Subscribe, &[product(1)]);
    world.settle();
    world.cast(1);
    world.process(0, 1);
    world.core(1).remove(first.key);
    let second = world.open(1);
    let slot = |key: SlotKey| key.data().as_ffi() & u64::from(u32::MAX);
    assert_eq!(slot(second.key), slot(first.key));
    world.settle();
    assert!(world.recorder(second).flushed.is_empty());
    world.core(1).remove(second.key);
    world.settle();
    world.assert_empty();
}

#[test]
fn a_burst_is_flushed_once() {
    let mut world = World::new(1);
    let connection = world.open(0);
    world.core(0).command(connection.key, Operation::Subscribe, &[product(1), product(2)]);
    let versions = [(1, world.cast(1)), (2, world.cast(2)), (1, world.cast(1))];
    world.process(0, 3);
    world.process(0, 3);
    let [first, second, third] = versions;
    assert_eq!(world.recorder(connection).flushed, [first, third, second], "what is of one product comes together");
}

#[test]
fn it_is_known_how_many_frames_went_out_with_each_flush() {
    let mut world = World::new(1);
    for _ in 0..3 {
        let connection = world.open(0);
        world.core(0).command(connection.key, Operation::Subscribe, &[product(1), product(2)]);
    }
    let mut frames_per_flush = |changes: &[u64]| {
        for &number in changes {
            world.cast(number);
        }
        let inbox = &mut world.inboxes[0];
        let mut batch: Vec<Message> = std::iter::from_fn(|| inbox.messages.try_recv().ok()).collect();
        world.cores[0].process(&mut batch)
    };
    assert_eq!(frames_per_flush(&[1]), 1, "one that comes alone is flushed as it is pushed");
    assert_eq!(frames_per_flush(&[1, 2, 1, 1]), 4);
    assert_eq!(frames_per_flush(&[3, 3]), 0, "nobody is subscribed");
}
