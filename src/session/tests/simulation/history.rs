//! What the store has had: [`History`], by which it is told whether a reader may show what it shows.

use std::collections::BTreeMap;

/// The state of a row: the numbers of its version's epoch and of the version; `None` if it does not exist.
pub(super) type State = Option<(u64, u64)>;

/// The states of each row, in their order.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The number of the step that is taken.
    pub(super) now: u64,
    /// That in which everything was settled last: a command is answered by what there was then, or later.
    pub(super) settled: u64,
    /// Those of each row, with the step that made it; before the first it did not exist.
    states: BTreeMap<u64, Vec<(u64, State)>>,
}

impl History {
    /// Notes what the store has now, with the number of the epoch of its versions.
    pub(super) fn note(&mut self, rows: &BTreeMap<u64, u64>, epoch: u8) {
        let gone = self.states.keys().filter(|number| !rows.contains_key(number));
        let gone: Vec<(u64, State)> = gone.map(|&number| (number, None)).collect();
        let there = rows.iter().map(|(&number, &version)| (number, Some((epoch.into(), version))));
        for (number, state) in there.chain(gone) {
            if self.newest(number) != state {
                self.states.entry(number).or_default().push((self.now, state));
            }
        }
    }

    /// Returns the state of a row.
    pub(super) fn newest(&self, number: u64) -> State {
        self.states.get(&number).and_then(|states| states.last()).and_then(|(_, state)| *state)
    }

    /// Returns whether a row was ever in this state.
    pub(super) fn has_been(&self, number: u64, state: State) -> bool {
        self.was_at_or_after(number, state, 0)
    }

    /// Returns whether a row changed after this step.
    pub(super) fn has_changed_since(&self, number: u64, step: u64) -> bool {
        self.states.get(&number).and_then(|states| states.last()).is_some_and(|(at, _)| *at > step)
    }

    /// Returns whether a row was in this state in this step or after it.
    pub(super) fn was_at_or_after(&self, number: u64, state: State, step: u64) -> bool {
        let states = self.states.get(&number).map_or(&[][..], |states| states);
        let ends = states.iter().map(|(at, _)| *at).chain([u64::MAX]);
        let all = [None].into_iter().chain(states.iter().map(|(_, state)| *state));
        all.zip(ends).any(|(its, end)| its == state && end > step)
    }
}
