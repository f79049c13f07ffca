//! `If-Match` and `If-None-Match` (RFC 9110, §13.1.1 and §13.1.2), as a [`Precondition`] of versions: [`read`]. Pure.
//!
//! A version's tag is the number between quotes. Any other tag is one that no row has ever had.

use hyper::HeaderMap;
use hyper::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};

use super::problem::Problem;
use crate::store::{Precondition, Versions};

/// The kind of comparison of two tags (RFC 9110, §8.8.3.2).
#[derive(Clone, Copy)]
enum Comparison {
    /// A weak tag equals none.
    Strong,
    /// A weak tag equals the strong one that is written the same.
    Weak,
}

/// Reads the conditions that a request sets for the row.
///
/// # Errors
/// 400 where a header is neither `*` nor a list of tags.
pub(super) fn read(headers: &HeaderMap) -> Result<Precondition, Problem> {
    Ok(Precondition {
        wanted: versions(headers, &IF_MATCH, Comparison::Strong)?,
        unwanted: versions(headers, &IF_NONE_MATCH, Comparison::Weak)?,
    })
}

/// Returns the versions that all lines of a header name together, or `None` where there is no such header.
fn versions(headers: &HeaderMap, name: &HeaderName, comparison: Comparison) -> Result<Option<Versions>, Problem> {
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(|value| value.as_bytes().trim_ascii()).collect();
    match lines[..] {
        [] => Ok(None),
        [b"*"] => Ok(Some(Versions::Any)),
        _ => {
            let malformed =
                || Problem::bad_request(format!("{name} is * or a list of tags as ETag gives them: \"42\""));
            tags(&lines.join(&b','), comparison).map(|versions| Some(Versions::OneOf(versions))).ok_or_else(malformed)
        }
    }
}

/// Returns the versions in a list of tags; those that are no version's are left out. `None` where it is no such list,
/// or an empty one. Empty elements are passed over (RFC 9110, §5.6.1.2).
fn tags(list: &[u8], comparison: Comparison) -> Option<Vec<u64>> {
    let (mut versions, mut rest, mut count) = (Vec::new(), list, 0);
    loop {
        rest = rest.trim_ascii_start();
        if let Some(after) = rest.strip_prefix(b",") {
            rest = after;
            continue;
        }
        if rest.is_empty() {
            return (count > 0).then_some(versions);
        }
        let (is_weak, tag) = rest.strip_prefix(b"W/").map_or((false, rest), |tag| (true, tag));
        let (opaque, after) = quoted(tag)?;
        count += 1;
        if matches!(comparison, Comparison::Weak) || !is_weak {
            versions.extend(version(opaque));
        }
        rest = after.trim_ascii_start();
        if !rest.is_empty() && !rest.starts_with(b",") {
            return None;
        }
    }
}

/// Splits `text` into the content of the quotes that it begins with and the rest (`opaque-tag`, RFC 9110, §8.8.3).
fn quoted(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.strip_prefix(b"\"")?;
    let end = text.iter().position(|&byte| byte == b'"')?;
    let (opaque, after) = (&text[..end], &text[end + 1..]);
    opaque.iter().all(|&byte| byte == 0x21 || (0x23..=0x7e).contains(&byte) || byte >= 0x80).then_some((opaque, after))
}

/// Returns the version whose tag this is: exactly its digits.
fn version(opaque: &[u8]) -> Option<u64> {
    let version: u64 = std::str::from_utf8(opaque).ok()?.parse().ok()?;
    (version.to_string().as_bytes() == opaque).then_some(version)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn read_lines(name: &HeaderName, lines: &[&str]) -> Result<Precondition, Problem> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, HeaderValue::from_str(line).unwrap());
        }
        read(&headers)
    }

    fn one_of(versions: &[u64]) -> Versions {
        Versions::OneOf(versions.to_vec())
    }

    #[test]
    fn stars_lists_and_weak_tags_are_read() {
        for (lines, strong, weak) in [
            (&[][..], None, None),
            (&["*"], Some(Versions::Any), Some(Versions::Any)),
            (&[" * "], Some(Versions::Any), Some(Versions::Any)),
            (&["\"7\""], Some(one_of(&[7])), Some(one_of(&[7]))),
            (&["\"7\" ,\t\"8\",,W/\"9\", "], Some(one_of(&[7, 8])), Some(one_of(&[7, 8, 9]))),
            (&["\"7\"", "\"8\""], Some(one_of(&[7, 8])), Some(one_of(&[7, 8]))),
            (&["W/\"7\""], Some(one_of(&[])), Some(one_of(&[7]))),
            (&["\"\", \"a,b\", \"07\", \"+7\", \"*\", \"-1\""], Some(one_of(&[])), Some(one_of(&[]))),
            (
                &["\"18446744073709551615\", \"18446744073709551616\""],
                Some(one_of(&[u64::MAX])),
                Some(one_of(&[u64::MAX])),
            ),
        ] {
            let (matched, unmatched) = (read_lines(&IF_MATCH, lines), read_lines(&IF_NONE_MATCH, lines));
            assert_eq!(matched.unwrap(), Precondition { wanted: strong, unwanted: None }, "{lines:?}");
            assert_eq!(unmatched.unwrap(), Precondition { wanted: None, unwanted: weak }, "{lines:?}");
        }
    }

    #[test]
    fn what_is_no_list_of_tags_is_refused() {
        for lines in [
            &[""][..],
            &[","],
            &["7"],
            &["\"7"],
            &["7\""],
            &["\"7\"\"8\""],
            &["\"7\" \"8\""],
            &["w/\"7\""],
            &["W/ \"7\""],
            &["W/7"],
            &["\"7 8\""],
            &["'7'"],
            &["*, \"7\""],
            &["\"7\", *"],
            &["*", "*"],
            &["*", "\"7\""],
            &["**"],
        ] {
            for name in [IF_MATCH, IF_NONE_MATCH] {
                assert!(read_lines(&name, lines).is_err(), "{name}: {lines:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_is_listed_is_read_back(versions in prop::collection::vec(any::<u64>(), 1..20)) {
            let list: Vec<String> = versions.iter().map(|version| format!("\"{version}\"")).collect();
            let read = read_lines(&IF_MATCH, &[&list.join(", ")]).unwrap();
            prop_assert_eq!(read.wanted, Some(Versions::OneOf(versions)));
        }

        #[test]
        fn no_header_panics(line in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(value) = HeaderValue::from_bytes(&line) {
                let _ = read(&HeaderMap::from_iter([(IF_MATCH, value)]));
            }
        }
    }
}
