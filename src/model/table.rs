//! The table of a row: [`TableId`].

/// The place of a table in the list of those that a server casts. Products have the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(u16);

impl TableId {
    /// The bits of its number.
    pub(crate) const BITS: u32 = 10;
    /// The table of products.
    pub const PRODUCTS: Self = Self(0);
    /// The last place.
    pub const MAX: Self = Self((1 << Self::BITS) - 1);

    /// Returns the table at this place, or `None` above [`TableId::MAX`].
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        if number <= Self::MAX.0 { Some(Self(number)) } else { None }
    }

    /// Returns its place.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Returns the table whose place is in the lower bits of a number.
    #[allow(clippy::cast_possible_truncation)]
    pub(crate) const fn of_bits(number: u64) -> Self {
        Self(number as u16 & Self::MAX.0)
    }
}
