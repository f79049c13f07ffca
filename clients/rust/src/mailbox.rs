//! What waits for a subscriber: [`Mailbox`].

use std::collections::{HashMap, VecDeque};
use std::task::{Poll, Waker};

use crate::event::{Action, Change, Event, Refusal};
use crate::key::Key;

/// The changes that wait one by one. While there are more, each row has one at most, its newest state.
const CHANGES_MAX: usize = 64;
/// The refusals that wait; further ones, which say much the same, are not told.
const REFUSALS_MAX: usize = 16;

/// What waits for a subscriber, in order: of changes at most [`CHANGES_MAX`] and one for each of its rows.
#[derive(Default)]
pub(crate) struct Mailbox {
    changes: VecDeque<Change>,
    /// The number of the first change that waits.
    first: u64,
    /// The number of the last change of each row that waits.
    last_by_key: HashMap<Key, u64>,
    /// The words that are told before the change with their number.
    refusals: VecDeque<(u64, Refusal)>,
    complete: Option<u64>,
    live: Option<(u64, bool)>,
    told_live: Option<bool>,
    is_ended: bool,
    waker: Option<Waker>,
}

impl Mailbox {
    /// Adds a change, or puts it in the place of the one of its row that waits.
    pub(crate) fn change(&mut self, change: Change) {
        if self.changes.len() >= CHANGES_MAX
            && let Some(last) = self.last_by_key.get(&change.key)
            && let Some(waiting) = usize::try_from(last - self.first).ok().and_then(|place| self.changes.get_mut(place))
        {
            let action = match change.action {
                Action::Insert | Action::Update | Action::Snapshot => Action::Snapshot,
                gone @ (Action::Delete | Action::Absent) => gone,
            };
            *waiting = Change { action, previous: waiting.previous.take(), ..change };
            return;
        }
        self.last_by_key.insert(change.key.clone(), self.next());
        self.changes.push_back(change);
    }

    /// Adds that all is told.
    pub(crate) fn complete(&mut self) {
        self.complete = Some(self.next());
    }

    /// Adds whether what is told is the present state. That it was not for a while is not told to who has not heard of
    /// it yet.
    pub(crate) fn live(&mut self, is_live: bool) {
        let is_known = self.told_live == Some(is_live);
        match self.live {
            Some((_, waiting)) if waiting == is_live => {}
            _ if is_known => self.live = None,
            _ => self.live = Some((self.next(), is_live)),
        }
    }

    /// Returns what was said last of whether what is told is the present state.
    pub(crate) fn last_live(&self) -> Option<bool> {
        self.live.map(|(_, is_live)| is_live).or(self.told_live)
    }

    pub(crate) fn refuse(&mut self, refusal: Refusal) {
        if self.refusals.len() < REFUSALS_MAX {
            self.refusals.push_back((self.next(), refusal));
        }
    }

    /// Adds the end.
    pub(crate) const fn end(&mut self) {
        self.is_ended = true;
    }

    /// Returns what wakes the subscriber, if it waits.
    pub(crate) const fn waker(&mut self) -> Option<Waker> {
        self.waker.take()
    }

    /// Takes the next event; none after the last.
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<Option<Event>> {
        match self.pop() {
            None if !self.is_ended => {
                self.waker = Some(waker.clone());
                Poll::Pending
            }
            event => Poll::Ready(event),
        }
    }

    fn next(&self) -> u64 {
        self.first + self.changes.len() as u64
    }

    fn pop(&mut self) -> Option<Event> {
        if self.refusals.front().is_some_and(|(place, _)| *place <= self.first) {
            return self.refusals.pop_front().map(|(_, refusal)| Event::Refused(refusal));
        }
        if self.complete.take_if(|place| *place <= self.first).is_some() {
            return Some(Event::Complete);
        }
        if let Some((_, is_live)) = self.live.take_if(|(place, _)| *place <= self.first) {
            self.told_live = Some(is_live);
            return Some(if is_live { Event::Live } else { Event::Stale });
        }
        let change = self.changes.pop_front()?;
        if self.last_by_key.get(&change.key) == Some(&self.first) {
            self.last_by_key.remove(&change.key);
        }
        self.first += 1;
        Some(Event::Change(change))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: i64, version: u64, action: Action) -> Change {
        Change { table: "t".into(), key: key.into(), version, action, row: None, previous: None, is_owed: false }
    }

    fn told(mailbox: &mut Mailbox) -> Vec<Event> {
        std::iter::from_fn(|| mailbox.pop()).collect()
    }

    fn versions(mailbox: &mut Mailbox) -> Vec<(String, u64, Action)> {
        let rows = told(mailbox).into_iter().map(|event| match event {
            Event::Change(change) => (change.key.to_string(), change.version, change.action),
            other => panic!("{other:?}"),
        });
        rows.collect()
    }

    #[test]
    fn who_keeps_up_is_told_every_change() {
        let mut mailbox = Mailbox::default();
        for version in 1..=CHANGES_MAX as u64 {
            mailbox.change(change(1, version, Action::Update));
        }
        let told: Vec<u64> = versions(&mut mailbox).into_iter().map(|(_, version, _)| version).collect();
        assert_eq!(told, (1..=CHANGES_MAX as u64).collect::<Vec<_>>());
        assert!(mailbox.last_by_key.is_empty());
    }

    #[test]
    fn of_many_changes_a_row_has_one_its_newest_state() {
        let mut mailbox = Mailbox::default();
        for key in (0..).take(CHANGES_MAX) {
            mailbox.change(change(key, 1, Action::Insert));
        }
        for version in 2..1000 {
            mailbox.change(change(7, version, Action::Update));
            mailbox.change(change(-1, version, Action::Update));
            mailbox.change(change(8, version, Action::Delete));
        }
        let told = versions(&mut mailbox);
        assert_eq!(told.len(), CHANGES_MAX + 1);
        let of = |key: &str| told.iter().filter(|(it, ..)| it == key).cloned().collect::<Vec<_>>();
        assert_eq!(of("7"), [("7".into(), 999, Action::Snapshot)]);
        assert_eq!(of("8"), [("8".into(), 999, Action::Delete)]);
        assert_eq!(of("-1"), [("-1".into(), 999, Action::Snapshot)]);
        assert_eq!(of("9"), [("9".into(), 1, Action::Insert)]);
        mailbox.change(change(7, 1001, Action::Update));
        assert_eq!(versions(&mut mailbox), [("7".into(), 1001, Action::Update)]);
    }

    #[test]
    fn words_stand_between_the_changes_and_the_last_of_a_kind_counts() {
        let mut mailbox = Mailbox::default();
        mailbox.change(change(1, 1, Action::Snapshot));
        mailbox.complete();
        mailbox.live(true);
        mailbox.change(change(1, 2, Action::Update));
        mailbox.live(false);
        mailbox.live(true);
        mailbox.complete();
        let refusal = Refusal { code: "forbidden".into(), sentence: "no".into() };
        for _ in 0..100 {
            mailbox.refuse(refusal.clone());
        }
        let all = told(&mut mailbox);
        assert!(matches!(&all[..3], [Event::Change(_), Event::Change(_), Event::Refused(_)]), "{all:?}");
        assert_eq!(all.len(), 2 + REFUSALS_MAX + 2);
        assert_eq!(all[all.len() - 2..], [Event::Complete, Event::Live]);
        mailbox.live(false);
        mailbox.live(true);
        assert_eq!(told(&mut mailbox), [], "who was not told of it is not told that it is over");
        mailbox.live(false);
        assert_eq!((told(&mut mailbox), mailbox.last_live()), (vec![Event::Stale], Some(false)));
    }

    #[test]
    fn it_ends_after_what_waits() {
        let mut mailbox = Mailbox::default();
        assert!(mailbox.poll(Waker::noop()).is_pending());
        mailbox.change(change(1, 1, Action::Snapshot));
        mailbox.end();
        assert!(mailbox.waker().is_some() && mailbox.waker().is_none());
        assert!(matches!(mailbox.poll(Waker::noop()), Poll::Ready(Some(Event::Change(_)))));
        assert_eq!(mailbox.poll(Waker::noop()), Poll::Ready(None));
    }
}
