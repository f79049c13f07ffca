//! The connections of a [`Server`] that are [`Recorder`]s.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use super::super::super::{Command, Operation, PageWish, Revocation};
use super::super::testing::{Kind, Server};
use super::super::*;
use super::recorder::{DELETION, Recorder};
use super::{CORES, TOPICS};
use crate::model::topic::testing::{TABLE, grant_of, number as number_of, subject, topic};
use crate::wire::frame::Frame;
use crate::wire::websocket::Opcode;

/// The number of the first pull of what was listed.
const LISTED_PULLS: u32 = 1 << 20;

/// All cores of a process, whose connections remember what they are told.
pub(super) type World = Server<Recorder>;

impl World {
    pub(super) fn new(shards: usize) -> Self {
        Self::with_slices(shards, SLICE_COST)
    }

    /// Cores that do so much in a slice.
    pub(super) fn with_slices(shards: usize, slice_cost: usize) -> Self {
        Self::of(CORES, shards, slice_cost, |told| {
            let deletion = if told.kind == Kind::Deletion { DELETION } else { 0 };
            Frame::new(Opcode::Binary, &(u64::from(told.epoch) << 56 | told.version | deletion).to_be_bytes())
        })
    }

    pub(super) fn open(&mut self, core: u16) -> ConnectionId {
        let core = self.core(core);
        let standings = core.table_standings().unwrap_or_default();
        let recorder = Recorder {
            epoch: core.epoch(),
            table_epoch: standings.epoch(TABLE),
            is_live: core.is_live(),
            is_table_lost: !standings.is_live(TABLE),
            ..Recorder::default()
        };
        let key = core.insert_with(|_| recorder);
        ConnectionId { core: core.id, key }
    }

    pub(super) fn recorder(&mut self, connection: ConnectionId) -> &mut Recorder {
        self.core(connection.core.0).get_mut(connection.key).expect("it is open")
    }

    /// Has every connection ask for the next page of its list of all topics, if it has the one before.
    pub(super) fn ask_for_pages(&mut self) -> bool {
        let mut any = false;
        for core in &mut self.cores {
            let keys: Vec<SlotKey> = core.iter_mut().map(|(key, _)| key).collect();
            for key in keys {
                let recorder = core.get_mut(key).unwrap();
                if recorder.page.is_none()
                    && let Some(from) = recorder.pages.pop()
                {
                    recorder.asked_pages += 1;
                    let number = recorder.asked_pages;
                    recorder.page = Some(number);
                    core.list(key, PageWish { table: TABLE, from, number });
                    any = true;
                }
            }
        }
        any
    }

    /// Has every connection pull what was listed for it.
    pub(super) fn pull_listed(&mut self) -> bool {
        let mut pulls = Vec::new();
        for core in &mut self.cores {
            let id = core.id;
            for (key, recorder) in core.iter_mut().filter(|(_, recorder)| !recorder.listed.is_empty()) {
                let topics: Vec<u64> = recorder.listed.drain(..).map(number_of).collect();
                let number = LISTED_PULLS + recorder.listed_pulls;
                recorder.listed_pulls += u32::try_from(topics.len()).unwrap();
                pulls.push((ConnectionId { core: id, key }, number, topics));
            }
        }
        let any = !pulls.is_empty();
        for (connection, number, topics) in pulls {
            self.pull(connection, number, &topics, false);
        }
        any
    }

    /// Pulls topics, with what the connection knows of them or without.
    pub(super) fn pull(&mut self, connection: ConnectionId, number: u32, topics: &[u64], resumes: bool) {
        let recorder = self.recorder(connection);
        let numbers = (number..).zip(topics);
        let pulls: Vec<Pull> = numbers
            .map(|(number, &id)| {
                recorder.pulls.insert(number, id);
                let known = if resumes { recorder.shown.get(&id).copied().unwrap_or_default() } else { 0 };
                Pull { subject: subject(id), known, number }
            })
            .collect();
        self.core(connection.core.0).pull(connection.key, pulls);
    }

    pub(super) fn settle(&mut self) {
        while self.advance() | self.ask_for_pages() | self.pull_listed() {}
        self.assert_settled();
    }

    /// Subscribes with the versions that the connection shows.
    pub(super) fn resume(&mut self, connection: ConnectionId, number: u32, topics: &[u64]) {
        let shown = &self.recorder(connection).shown;
        let known = topics.iter().map(|number| shown.get(number).copied().unwrap_or(0)).collect();
        let topics = topics.iter().copied().map(subject).collect();
        let command = Command { known, ..Command::new(number, Operation::Subscribe, topics) };
        self.core(connection.core.0).command(connection.key, command);
    }

    /// Gives a command.
    pub(super) fn command(&mut self, connection: ConnectionId, number: u32, operation: Operation, topics: &[u64]) {
        let topics = topics.iter().copied().map(subject).collect();
        self.core(connection.core.0).command(connection.key, Command::new(number, operation, topics));
    }

    /// Ends what a connection has but these topics, and that it is told of all if it is to end.
    pub(super) fn revoke(&mut self, connection: ConnectionId, number: u32, kept: &[u64], ends_all: bool) {
        let wholes = if ends_all { vec![TABLE] } else { Vec::new() };
        let revocation = Revocation { grant: Arc::new(grant_of(kept.iter().copied())), wholes };
        let command = Command::new(number, Operation::Revoke, Subjects::default());
        let command = Command { revocation: Some(Arc::new(revocation)), ..command };
        self.core(connection.core.0).command(connection.key, command);
    }

    /// The topics to which a connection is subscribed, as the shards have them.
    pub(super) fn subscribed(&self, connection: ConnectionId) -> BTreeSet<u64> {
        let is_in_a_shard = |&number: &u64| {
            let mut shards = self.cores.iter().flat_map(|core| &core.shards);
            shards.any(|shard| shard.contains(connection, topic(number)))
        };
        (0..TOPICS).filter(is_in_a_shard).collect()
    }

    pub(super) fn assert_empty(&self) {
        for core in &self.cores {
            assert!(core.is_empty() && core.work.is_empty() && core.under_way.is_empty());
            assert!(core.everything.is_empty());
            for shard in &core.shards {
                shard.check();
                assert_eq!(shard.index().connections_len(), 0);
                assert_eq!(self.hub.rows_kept().load(Ordering::Relaxed), 0, "nothing is kept for nobody");
                if self.epoch == 0 {
                    assert_eq!(shard.index().topics_len(), 0, "nothing was asked for");
                }
            }
        }
    }
}
