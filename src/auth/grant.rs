//! The rights that a token gives: [`Grant`].

use std::time::Duration;

use crate::model::product::ProductId;

/// The rights of whoever has a token, and their end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    read: Read,
    write: bool,
    expires_at: Duration,
}

/// The products that may be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Read {
    All,
    /// The first and the last of each range, ordered, none touching the next.
    Ranges(Box<[(ProductId, ProductId)]>),
}

impl Read {
    /// Returns all that these ranges cover; they may overlap.
    pub(super) fn ranges(mut ranges: Vec<(ProductId, ProductId)>) -> Self {
        ranges.sort_unstable();
        ranges.dedup_by(|next, merged| {
            let touches = next.0.get() <= merged.1.get() + 1;
            if touches {
                merged.1 = merged.1.max(next.1);
            }
            touches
        });
        Self::Ranges(ranges.into_boxed_slice())
    }
}

impl Grant {
    pub(super) const fn new(read: Read, write: bool, expires_at: Duration) -> Self {
        Self { read, write, expires_at }
    }

    /// Returns a grant to read these products, from the first to the last, for ever.
    #[cfg(test)]
    pub(crate) fn to_read(first: ProductId, last: ProductId) -> Self {
        Self::new(Read::ranges(vec![(first, last)]), false, Duration::MAX)
    }

    /// Returns true if this product may be read and subscribed to.
    #[must_use]
    pub fn may_read(&self, id: ProductId) -> bool {
        self.next_readable(id).is_some_and(|(first, _)| first == id)
    }

    /// Returns true if products may be written.
    #[must_use]
    pub const fn may_write(&self) -> bool {
        self.write
    }

    /// Returns the first range of products from `id` on that may be read: its first and its last.
    #[must_use]
    pub fn next_readable(&self, id: ProductId) -> Option<(ProductId, ProductId)> {
        match &self.read {
            Read::All => Some((id, ProductId::MAX)),
            Read::Ranges(ranges) => {
                let &(first, last) = ranges.get(ranges.partition_point(|&(_, last)| last < id))?;
                Some((first.max(id), last))
            }
        }
    }

    /// Returns the time for which it is valid from `now` on, both since 1970; zero when it has expired.
    #[must_use]
    pub const fn remaining(&self, now: Duration) -> Duration {
        self.expires_at.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> ProductId {
        ProductId::new(number).unwrap()
    }

    fn grant(ranges: &[(u64, u64)]) -> Grant {
        let ranges = ranges.iter().map(|&(first, last)| (id(first), id(last))).collect();
        Grant::new(Read::ranges(ranges), false, Duration::from_secs(10))
    }

    #[test]
    fn ranges_grant_what_they_cover_and_nothing_else() {
        let ranges = [(7, 9), (3, 3), (0, 0), (8, 12), (13, 13), (20, 25), (21, 22)];
        let grant = grant(&ranges);
        for number in 0..30 {
            let covered = ranges.iter().any(|&(first, last)| (first..=last).contains(&number));
            assert_eq!(grant.may_read(id(number)), covered, "{number}");
        }
        assert_eq!(grant.read, Read::Ranges([(0, 0), (3, 3), (7, 13), (20, 25)].map(|(a, b)| (id(a), id(b))).into()));
        assert_eq!(grant.next_readable(id(1)), Some((id(3), id(3))));
        assert_eq!(grant.next_readable(id(8)), Some((id(8), id(13))));
        assert_eq!(grant.next_readable(id(26)), None);
    }

    #[test]
    fn the_greatest_id_has_no_next() {
        let greatest = ProductId::MAX.get();
        let grant = grant(&[(greatest, greatest), (greatest - 1, greatest)]);
        assert!(grant.may_read(ProductId::MAX) && !grant.may_read(id(0)));
        let all = Grant::new(Read::All, true, Duration::ZERO);
        assert!(all.may_read(ProductId::MAX) && all.may_read(id(0)) && all.may_write());
        assert!(!self::grant(&[]).may_read(id(0)));
    }

    #[test]
    fn it_is_over_when_exp_is_reached() {
        let grant = grant(&[]);
        assert_eq!(grant.remaining(Duration::from_millis(9999)), Duration::from_millis(1));
        assert_eq!(grant.remaining(Duration::from_secs(10)), Duration::ZERO);
        assert_eq!(grant.remaining(Duration::MAX), Duration::ZERO);
    }
}
