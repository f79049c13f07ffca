//! Two servers over one store: [`Servers`]. What is committed is in the store's log, from which each server takes it in its
//! own time.

use super::CORES;
use super::shell::Shell;
use crate::fanout::testing::{Server, Told};
use crate::wire::frame::Frame;

pub(super) const SERVERS: u16 = 2;

/// What is done to the store, or found out about it by all servers.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    Write(u64),
    Delete(u64),
    /// Changes of the table that are not told, and the word that there were some.
    Miss(Vec<u64>),
    /// All changes come, perhaps in a new epoch.
    Begin(bool),
    /// Likewise those of the table.
    BeginTable(bool),
}

/// The servers; the first has always heard all.
pub(super) struct Servers {
    all: Vec<Server<Shell>>,
    log: Vec<Entry>,
    /// The entries that each has heard.
    heard: Vec<usize>,
}

impl Servers {
    pub(super) fn new(shards: usize, slice_cost: usize, encode: fn(&Told) -> Frame) -> Self {
        let all: Vec<_> = (0..SERVERS).map(|_| Server::of(CORES, shards, slice_cost, encode)).collect();
        Self { heard: vec![0; all.len()], all, log: Vec::new() }
    }

    /// Returns the server that has what is in the store.
    pub(super) fn first(&self) -> &Server<Shell> {
        &self.all[0]
    }

    pub(super) fn get(&mut self, server: usize) -> &mut Server<Shell> {
        &mut self.all[server]
    }

    /// Returns the server that has a core, of those of all servers, and the core's number there.
    pub(super) fn of_core(&mut self, core: u16) -> (&mut Server<Shell>, u16) {
        (&mut self.all[usize::from(core / CORES)], core % CORES)
    }

    pub(super) fn commit(&mut self, entry: Entry) {
        self.log.push(entry);
        self.hear(0, usize::MAX);
    }

    /// Has a server hear up to so many entries.
    pub(super) fn hear(&mut self, server: usize, entries: usize) {
        let (its, heard) = (&mut self.all[server], &mut self.heard[server]);
        for entry in self.log[*heard..].iter().take(entries) {
            *heard += 1;
            apply(its, entry);
        }
    }

    /// Has a server read what its shards wished for. It hears what is in the store by then before the rows are handed over.
    pub(super) fn read(&mut self, server: usize) -> bool {
        self.hear(server, usize::MAX);
        self.all[server].read()
    }

    /// Has all servers hear all, and what each has lost come again.
    pub(super) fn begin_what_is_lost(&mut self) {
        self.commit(Entry::Begin(false));
        self.hear_all();
        self.all.iter_mut().filter(|server| server.is_table_lost).for_each(|server| server.begin_table(false));
    }

    fn hear_all(&mut self) {
        (0..self.all.len()).for_each(|server| self.hear(server, usize::MAX));
    }

    /// Has all servers hear all, and do what there is to do; returns whether there was anything.
    pub(super) fn advance(&mut self) -> bool {
        self.hear_all();
        self.all.iter_mut().filter_map(|server| server.advance().then_some(())).count() > 0
    }

    pub(super) fn assert_settled(&self) {
        self.all.iter().for_each(Server::assert_settled);
    }
}

fn apply(server: &mut Server<Shell>, entry: &Entry) {
    match entry {
        Entry::Write(number) if server.are_changes_told() => drop(server.cast(*number)),
        Entry::Write(number) => server.commit(*number),
        Entry::Delete(number) => server.delete(*number),
        Entry::Miss(numbers) => server.miss(numbers),
        Entry::Begin(is_new_epoch) => server.begin(*is_new_epoch),
        Entry::BeginTable(is_new_epoch) => server.begin_table(*is_new_epoch),
    }
}
