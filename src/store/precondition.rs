//! The conditions under which a write of a row is done: [`Precondition`]. Pure.

/// The versions that a condition names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Versions {
    /// Whatever version the row has, if there is one.
    Any,
    /// One of these.
    OneOf(Vec<u64>),
}

impl Versions {
    /// Returns true if a row with this version, or none, is among them.
    fn contain(&self, version: Option<u64>) -> bool {
        match (self, version) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::OneOf(versions), Some(version)) => versions.contains(&version),
        }
    }
}

/// Conditions on the version that a row has, in the sense of RFC 9110, §13. The default holds of every row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Precondition {
    /// The row's version is one of these (`If-Match`).
    pub wanted: Option<Versions>,
    /// It is none of these (`If-None-Match`).
    pub unwanted: Option<Versions>,
}

impl Precondition {
    /// Returns true if nothing is demanded.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.wanted.is_none() && self.unwanted.is_none()
    }

    /// Returns true if it holds of a row with this version, or of a row that is not there.
    #[must_use]
    pub fn holds(&self, version: Option<u64>) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| wanted.contain(version))
            && !self.unwanted.as_ref().is_some_and(|unwanted| unwanted.contain(version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_must_be_there_and_what_is_not_must_not() {
        let (any, some) = (Some(Versions::Any), Some(Versions::OneOf(vec![3, 5])));
        for (wanted, unwanted, absent, at_three, at_four) in [
            (None, None, true, true, true),
            (any.clone(), None, false, true, true),
            (some.clone(), None, false, true, false),
            (None, any.clone(), true, false, false),
            (None, some.clone(), true, false, true),
            (any.clone(), some.clone(), false, false, true),
            (some.clone(), any.clone(), false, false, false),
            (Some(Versions::OneOf(Vec::new())), None, false, false, false),
        ] {
            let precondition = Precondition { wanted, unwanted };
            let held = [None, Some(3), Some(4)].map(|version| precondition.holds(version));
            assert_eq!(held, [absent, at_three, at_four], "{precondition:?}");
        }
    }
}
