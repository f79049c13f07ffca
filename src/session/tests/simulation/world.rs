//! A server and its readers: [`World`].

use std::collections::BTreeSet;

use super::super::super::*;
use super::client::{Ask, Client};
use super::history::History;
use super::servers::Servers;
use super::shell::{Shell, serve};
use super::{CORES, Step};
use crate::fanout::testing::{Kind, Told};
use crate::fanout::{ConnectionId, Core, CoreId, SlotKey};
use crate::model::change::{Action, Change};
use crate::model::row::Row;
use crate::model::topic::testing::{TABLE, subject, tables};
use crate::session::queue::SlowConsumerPolicy;

/// The first byte of a frame with a message, and of one that closes.
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
/// The readers that there are at most.
const CLIENTS_MAX: usize = 4;
/// The room that a socket has when it is opened.
const ROOM: usize = 300;

pub(super) struct World {
    servers: Servers,
    clients: Vec<Client>,
    history: History,
    limits: SessionLimits,
}

/// Returns the frame of a row, whose only member is the number of its epoch.
fn encode(told: &Told) -> Frame {
    let Told { number, version, epoch, kind } = *told;
    let (subject, row) = (subject(number), Row::encoded(format!(r#"{{"epoch":{epoch}}}"#)));
    match kind {
        Kind::Row => Frame::of_snapshot(version, &tables().get(TABLE), &subject.key(), &row),
        Kind::Change => Frame::of_change(&Change::of_row(Action::Update, subject, version, row), &tables()),
        Kind::Deletion => Frame::of_change(&Change::of_row(Action::Delete, subject, version, row), &tables()),
    }
}

impl World {
    pub(super) fn new(shards: usize, slice_cost: usize, queue: queue::SendQueueLimits) -> Self {
        let limits = SessionLimits {
            queue,
            subscriptions_max: 100,
            message_bytes_max: 1000,
            units_per_second_max: 0,
            ping_after: 25,
        };
        let servers = Servers::new(shards, slice_cost, encode);
        Self { servers, clients: Vec::new(), history: History::default(), limits }
    }

    fn connect(&mut self, core: u16, readable: Option<&BTreeSet<u64>>) -> (usize, ConnectionId) {
        let shell = Shell::new(self.limits, readable, ROOM);
        let (server, its) = self.servers.of_core(core);
        let key = server.core(its).insert_with(|_| shell);
        (usize::from(core / CORES), ConnectionId { core: CoreId(its), key })
    }

    /// Returns the core of a reader's connection, and its key there.
    fn core(&mut self, place: usize) -> (&mut Core<Shell>, SlotKey) {
        let Client { server, connection: ConnectionId { core, key }, .. } = self.clients[place];
        (self.servers.get(server).core(core.0), key)
    }

    fn shell(&mut self, place: usize) -> &mut Shell {
        let (core, key) = self.core(place);
        core.get_mut(key).expect("it is open")
    }

    fn reconnect(&mut self, place: usize, core: u16, ask: Ask) {
        let (before, key) = self.core(place);
        assert!(before.remove(key).is_some());
        let readable = self.clients[place].readable.clone();
        let connection = self.connect(core, readable.as_ref());
        self.clients[place].connect(connection);
        let commands = self.clients[place].ask_again(ask, true, self.history.settled);
        self.send(place, commands);
    }

    fn send(&mut self, place: usize, commands: impl IntoIterator<Item = String>) {
        let shell = self.shell(place);
        commands.into_iter().for_each(|command| shell.send(command));
    }

    /// Has the task of a reader's connection read up to so many messages; returns whether there was anything to do.
    fn serve(&mut self, place: usize, messages: usize) -> bool {
        let (core, key) = self.core(place);
        serve(core, key, messages)
    }

    /// Has each reader take what has come; returns whether anything had.
    fn receive(&mut self) -> bool {
        let is_dropping = self.limits.queue.policy == SlowConsumerPolicy::Drop;
        let mut any = false;
        for place in 0..self.clients.len() {
            for frame in self.shell(place).receive() {
                any = true;
                let client = &mut self.clients[place];
                match frame.first {
                    TEXT => client.take(&frame.text, &self.history, is_dropping),
                    CLOSE => client.is_closed = true,
                    other => panic!("{other:#x}"),
                }
            }
        }
        any
    }

    pub(super) fn step(&mut self, step: Step) {
        self.history.now += 1;
        match step {
            Step::Open(..) if self.clients.len() >= CLIENTS_MAX => {}
            Step::Open(core, readable) => {
                let connection = self.connect(core, readable.as_ref());
                self.clients.push(Client::new(connection, readable));
            }
            Step::Reader(..) if self.clients.is_empty() => {}
            Step::Reader(number, step) => {
                let place = number % self.clients.len();
                self.reader_step(place, step);
            }
            Step::Commit(entry) => self.servers.commit(entry),
            Step::Hear(server, entries) => self.servers.hear(server, entries),
            Step::Lose(server) => self.servers.get(server).lose(),
            Step::LoseTable(server) => self.servers.get(server).lose_table(),
            Step::Read(server) => drop(self.servers.read(server)),
            Step::HandOver(server) => self.servers.get(server).hand_over(),
            Step::Process(core, messages) => {
                let (server, core) = self.servers.of_core(core);
                server.process(core, messages);
            }
            Step::Work(core) => {
                let (server, core) = self.servers.of_core(core);
                server.work(core);
            }
            Step::Settle => self.settle(),
        }
        self.note();
        self.receive();
    }

    fn note(&mut self) {
        let store = self.servers.first();
        self.history.note(&store.rows, store.epoch);
    }

    fn reader_step(&mut self, place: usize, step: super::ReaderStep) {
        use super::ReaderStep as It;
        let (client, now) = (&mut self.clients[place], self.history.settled);
        let command = match step {
            It::Reconnect(core, ask) => return self.reconnect(place, core, ask),
            It::Serve(messages) => {
                self.serve(place, messages);
                return;
            }
            It::Room(bytes) => return self.shell(place).make_room(bytes),
            _ if client.is_closed => return,
            It::Subscribe(numbers, ask) => Some(client.subscribe(&numbers, ask, now)),
            It::SubscribeAll(ask) => client.subscribe_all(ask, now),
            It::Unsubscribe(numbers) => Some(client.unsubscribe(&numbers, now)),
            It::UnsubscribeAll => Some(client.unsubscribe_all(now)),
            It::Authorize(readable) => Some(client.authorize(&readable, now)),
        };
        self.send(place, command);
    }

    /// Has everybody do what there is to do, and checks what each reader shows then.
    fn settle(&mut self) {
        self.drain();
        self.history.settled = self.history.now;
        // Who was told that changes never come asks for all of them.
        let now = self.history.settled;
        for place in 0..self.clients.len() {
            if self.clients[place].is_behind {
                let commands = self.clients[place].ask_again(Ask::Versions, false, now);
                self.send(place, commands);
            }
        }
        self.drain();
        self.servers.assert_settled();
        for client in &mut self.clients {
            let server = self.servers.get(client.server);
            client.check(&self.history, [!server.is_begun, server.is_table_lost]);
        }
    }

    fn drain(&mut self) {
        let mut is_moving = true;
        while is_moving {
            is_moving = self.servers.advance();
            for place in 0..self.clients.len() {
                if self.clients[place].is_closed {
                    self.reconnect(place, 0, Ask::Versions);
                }
                self.shell(place).make_room(usize::MAX);
                is_moving |= self.serve(place, usize::MAX);
            }
            is_moving |= self.receive();
        }
        for place in 0..self.clients.len() {
            self.shell(place).leave_room(ROOM);
        }
    }

    /// Begins what is lost, and checks what each reader shows in the end.
    pub(super) fn end(&mut self) {
        self.history.now += 1;
        self.servers.begin_what_is_lost();
        self.note();
        self.settle();
    }
}
