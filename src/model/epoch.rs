//! One history of versions: [`Epoch`].

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use ring::rand::{SecureRandom, SystemRandom};

/// The name of one history of versions. Versions compare within their epoch only: a store whose history was replaced (by
/// an older backup, say) gets another one.
///
/// Its text has 1 to 13 of the characters `0-9a-v`: the number in base 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(NonZeroU64);

/// A text that is no epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an epoch has 1 to 13 of the characters 0-9 and a-v, and is not 0")]
pub struct NoEpoch;

const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
const BITS_PER_DIGIT: u32 = 5;
const TEXT_BYTES_MAX: usize = 13;

impl Epoch {
    /// Draws an epoch that no other store, process or reader has.
    ///
    /// # Panics
    /// If the operating system has no random numbers.
    #[must_use]
    pub fn random() -> Self {
        loop {
            let mut bytes = [0; 8];
            SystemRandom::new().fill(&mut bytes).expect("the operating system has random numbers");
            if let Some(epoch) = Self::new(u64::from_ne_bytes(bytes)) {
                return epoch;
            }
        }
    }

    /// Returns the epoch with this number, unless it is 0.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Returns its number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut text, mut start, mut rest) = ([0; TEXT_BYTES_MAX], TEXT_BYTES_MAX, self.get());
        while rest > 0 {
            start -= 1;
            text[start] = DIGITS[usize::from(rest.to_le_bytes()[0] & 31)];
            rest >>= BITS_PER_DIGIT;
        }
        f.write_str(str::from_utf8(&text[start..]).expect("the digits are ASCII"))
    }
}

impl FromStr for Epoch {
    type Err = NoEpoch;

    fn from_str(text: &str) -> Result<Self, NoEpoch> {
        let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'v');
        if text.len() > TEXT_BYTES_MAX || !text.bytes().all(is_digit) {
            return Err(NoEpoch);
        }
        u64::from_str_radix(text, 1 << BITS_PER_DIGIT).ok().and_then(Self::new).ok_or(NoEpoch)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_that_is_none_is_refused() {
        for text in ["", "0", "00", "A", "w", "+1", "-1", " 1", "1 ", "é", "g0000000000000", "10000000000000"] {
            assert_eq!(text.parse::<Epoch>(), Err(NoEpoch), "{text}");
        }
        assert_eq!("fvvvvvvvvvvvv".parse(), Ok(Epoch::new(u64::MAX).unwrap()));
        assert_eq!("gvvvvvvvvvvvv".parse::<Epoch>(), Err(NoEpoch), "more than 64 bits");
    }

    #[test]
    fn no_two_are_alike() {
        let mut epochs: Vec<u64> = (0..1000).map(|_| Epoch::random().get()).collect();
        epochs.sort_unstable();
        epochs.dedup();
        assert_eq!(epochs.len(), 1000);
    }

    proptest! {
        #[test]
        fn its_text_is_read_back(number in 1..=u64::MAX) {
            let epoch = Epoch::new(number).unwrap();
            prop_assert_eq!(epoch.to_string().parse(), Ok(epoch));
        }
    }
}
