//! The names of tables: [`is_name`]. Pure.

/// The most characters of a name.
const NAME_MAX: usize = 63;

/// Returns true if a table may have this name: `[A-Za-z_][A-Za-z0-9_.]{0,62}`.
pub(super) fn is_name(name: &str) -> bool {
    let is_first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let is_other = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
    name.len() <= NAME_MAX && name.bytes().next().is_some_and(is_first) && name.bytes().all(is_other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_plain() {
        let long = "a".repeat(63);
        for good in ["a", "_", "Orders", "shop.customers", "_1.", "A_b.c9", &long] {
            assert!(is_name(good), "{good}");
        }
        let longer = "a".repeat(64);
        for bad in ["", "1a", ".a", "a-b", "a b", "a/b", "é", "a\0", "a\n", "\"a\"", "*", &longer] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
