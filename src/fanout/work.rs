//! The jobs that wait for a core's shards: first in first out within a connection, in turns between connections. Pure
//! data.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::ConnectionId;
use super::index::shrink;

/// The jobs of a core, by connection.
#[derive(Debug)]
pub(super) struct WorkQueue<J> {
    /// Never an empty list, except for the connection whose job was taken.
    jobs_by_connection: HashMap<ConnectionId, VecDeque<J>>,
    /// The connections with jobs, each once, in the order of their turns.
    turns: VecDeque<ConnectionId>,
    /// The connection whose turn it is.
    at_work: Option<ConnectionId>,
}

impl<J> WorkQueue<J> {
    pub(super) fn new() -> Self {
        Self { jobs_by_connection: HashMap::new(), turns: VecDeque::new(), at_work: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Returns whether a connection has jobs that are not done.
    pub(super) fn has(&self, connection: ConnectionId) -> bool {
        !self.jobs_by_connection.is_empty() && self.jobs_by_connection.contains_key(&connection)
    }

    /// Adds a job behind the others of its connection.
    pub(super) fn push(&mut self, connection: ConnectionId, job: J) {
        let jobs = self.jobs_by_connection.entry(connection).or_default();
        if jobs.is_empty() && self.at_work != Some(connection) {
            self.turns.push_back(connection);
        }
        jobs.push_back(job);
    }

    /// Adds a job that takes the place of all others of its connection.
    pub(super) fn replace(&mut self, connection: ConnectionId, job: J) {
        if let Some(jobs) = self.jobs_by_connection.get_mut(&connection) {
            jobs.clear();
            jobs.push_back(job);
        } else {
            self.push(connection, job);
        }
    }

    /// Takes the first job of the connection whose turn it is. The unfinished part of it is to be given to
    /// [`Self::go_on`] before the next is taken.
    pub(super) fn take(&mut self) -> Option<(ConnectionId, J)> {
        let connection = self.turns.pop_front()?;
        let jobs = self.jobs_by_connection.get_mut(&connection).expect("who has a turn has jobs");
        self.at_work = Some(connection);
        Some((connection, jobs.pop_front().expect("a connection in the queue has a job")))
    }

    /// Ends a connection's turn: its next comes after those of all others.
    pub(super) fn go_on(&mut self, connection: ConnectionId, unfinished: Option<J>) {
        self.at_work = None;
        let jobs = self.jobs_by_connection.get_mut(&connection).expect("its job was taken");
        if let Some(job) = unfinished {
            jobs.push_front(job);
        }
        if !jobs.is_empty() {
            self.turns.push_back(connection);
            return;
        }
        self.jobs_by_connection.remove(&connection);
        shrink(&mut self.jobs_by_connection);
        if self.turns.is_empty() {
            self.turns = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use slotmap::KeyData;

    use super::super::CoreId;
    use super::*;

    fn connection(number: u64) -> ConnectionId {
        ConnectionId { core: CoreId(0), key: KeyData::from_ffi(number).into() }
    }

    /// Takes all jobs, each of which is done in so many turns; returns the order in which they had their turns.
    fn turns(queue: &mut WorkQueue<(&'static str, u32)>) -> Vec<&'static str> {
        let mut taken = Vec::new();
        while let Some((connection, (name, left))) = queue.take() {
            taken.push(name);
            queue.go_on(connection, (left > 1).then_some((name, left - 1)));
        }
        taken
    }

    #[test]
    fn a_connections_jobs_are_done_in_their_order_and_connections_take_turns() {
        let mut queue = WorkQueue::new();
        for (number, job) in [(1, ("a", 3)), (1, ("b", 1)), (2, ("c", 2)), (3, ("d", 1)), (2, ("e", 1))] {
            queue.push(connection(number), job);
        }
        assert_eq!(turns(&mut queue), ["a", "c", "d", "a", "c", "a", "e", "b"]);
        assert!(queue.is_empty() && queue.jobs_by_connection.is_empty() && !queue.has(connection(1)));
    }

    #[test]
    fn a_job_that_comes_while_another_is_done_waits_behind_it() {
        let mut queue = WorkQueue::new();
        queue.push(connection(1), ("a", 2));
        let (first, (name, _)) = queue.take().unwrap();
        queue.push(first, ("b", 1));
        assert!(queue.has(first));
        queue.go_on(first, Some((name, 1)));
        let (first, _) = queue.take().unwrap();
        queue.push(first, ("c", 1));
        queue.go_on(first, None);
        assert_eq!(turns(&mut queue), ["b", "c"]);
        let (first, _) = {
            queue.push(connection(1), ("d", 1));
            queue.take().unwrap()
        };
        queue.push(first, ("e", 1));
        queue.go_on(first, None);
        assert_eq!(turns(&mut queue), ["e"]);
        assert!(queue.is_empty() && queue.jobs_by_connection.is_empty());
    }

    #[test]
    fn the_job_that_replaces_the_others_is_the_only_one_left() {
        let mut queue = WorkQueue::new();
        queue.push(connection(1), ("a", 2));
        queue.push(connection(1), ("b", 1));
        queue.replace(connection(1), ("close", 1));
        queue.replace(connection(2), ("close too", 1));
        assert_eq!(turns(&mut queue), ["close", "close too"]);
    }
}
