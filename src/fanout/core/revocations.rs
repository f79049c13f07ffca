//! The end of the subscriptions that a connection's new grant does not cover.
//!
//! It is a command like the end of all ([`Operation::UnsubscribeAll`](super::super::Operation::UnsubscribeAll)): every core
//! looks through what its shards have of the connection, slice by slice, behind the connection's commands before and before
//! those after it. Each slice tells the connection's core the rows that it ended, ahead of the answer.

use std::sync::Arc;

use super::super::index::Closing;
use super::super::message::{Command, Job, Revocation};
use super::super::{ConnectionId, CoreId, SlotKey};
use super::commands::signed;
use super::{Core, Subscriber};
use crate::auth::Coverage;
use crate::model::topic::Subjects;

/// The progress of a revocation on one core.
#[derive(Debug)]
pub(in super::super) struct Revoking {
    /// The command's number.
    number: u32,
    revocation: Arc<Revocation>,
    /// The shard of the core from which on it is to go on, and the place there.
    shard: usize,
    closing: Closing,
    /// The subscriptions that ended before.
    ended: usize,
}

impl<S: Subscriber> Core<S> {
    /// Begins to carry out a connection's command that revokes.
    pub(super) fn revoke(&mut self, connection: ConnectionId, command: &Command, cost: &mut usize) -> Option<Job> {
        self.give_to_all_others(connection, command);
        let revocation = Arc::clone(command.revocation.as_ref().expect("a command that revokes says what stays"));
        let wholes = revocation.wholes.iter().map(|table| self.leave_everything(Some(*table), connection));
        let (number, ended) = (command.number, wholes.sum());
        let revoking = Revoking { number, revocation, shard: 0, closing: Closing::default(), ended };
        self.carry_on_revoking(connection, revoking, cost)
    }

    /// Goes on with it as far as `cost` allows; returns the unfinished part of the job.
    pub(super) fn carry_on_revoking(
        &mut self,
        connection: ConnectionId,
        mut revoking: Revoking,
        cost: &mut usize,
    ) -> Option<Job> {
        let revocation = Arc::clone(&revoking.revocation);
        let tables = self.hub.tables().clone();
        let mut coverage = Coverage::new(&revocation.grant, &tables);
        while let Some(shard) = self.shards.get_mut(revoking.shard) {
            let mut revoked = Subjects::default();
            let closing = &mut revoking.closing;
            let taken = shard.revoke(connection, &mut coverage, closing, *cost, &mut self.out, &mut revoked);
            let is_done = closing.is_done();
            *cost = cost.saturating_sub(taken);
            revoking.ended += revoked.len();
            self.metrics.subscriptions.dec_by(signed(revoked.len()));
            if !self.out.is_empty() {
                self.pass_on();
            }
            if !revoked.is_empty() {
                self.tell_revoked(connection, revoked);
            }
            if !is_done {
                return Some(Job::Revoke(revoking));
            }
            (revoking.shard, revoking.closing) = (revoking.shard + 1, Closing::default());
        }
        self.part_done(connection, revoking.number, Ok(revoking.ended));
        None
    }

    /// Tells a connection, or its core, the rows to which it is subscribed no more.
    fn tell_revoked(&mut self, ConnectionId { core, key }: ConnectionId, revoked: Subjects) {
        if core == self.id {
            self.revoked(key, revoked);
        } else {
            let CoreId(core) = core;
            self.outgoing[usize::from(core)].revoked.push((key, revoked));
            self.ask_for_turn();
        }
    }

    pub(super) fn revoked(&mut self, key: SlotKey, revoked: Subjects) {
        if let Some(seat) = self.seats.get_mut(key) {
            seat.subscriber.revoked(revoked);
        }
    }
}
