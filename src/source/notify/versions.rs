//! The versions that were heard last, each with its row: [`Versions`]. Pure.

use std::hash::{BuildHasher, Hash, RandomState};

/// The versions that are remembered. A sequence that was set back gives those before its greatest once more before it is above
/// it, however far it went back.
const REMEMBERED: usize = 4096;

/// The rows to which the last versions were given: one sequence gives each version to one row.
#[derive(Debug, Default)]
pub(super) struct Versions {
    /// Each version with the hash of its row, at its remainder; 0: none.
    given: Vec<(u64, u64)>,
    hasher: RandomState,
}

impl Versions {
    /// Takes the version of a change; returns whether another row had it.
    pub(super) fn give(&mut self, version: u64, row: impl Hash) -> bool {
        if self.given.is_empty() {
            self.given = vec![(0, 0); REMEMBERED];
        }
        let place = usize::try_from(version % self.given.len() as u64).expect("it is below a length");
        let now = (version, self.hasher.hash_one(row));
        let before = std::mem::replace(&mut self.given[place], now);
        before.0 == now.0 && before.1 != now.1
    }

    /// Forgets them: in another epoch they may be given again.
    pub(super) fn forget(&mut self) {
        self.given.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_another_row_had_among_the_last_is_found() {
        let mut versions = Versions::default();
        for version in 1..=10_000_u64 {
            assert!(!versions.give(version, (1, version)));
        }
        assert!(!versions.give(10_000, (1, 10_000_u64)), "a change that is told twice");
        assert!(!versions.give(5_000, (1, "5000")), "too long ago");
        assert!(versions.give(9_999, (1, 3_u64)));
        assert!(versions.give(9_998, (2, 9_998_u64)), "a row of another table");
        versions.forget();
        assert!(!versions.give(9_997, (1, 3_u64)));
    }
}
