//! The claims of a token whose signature is right, as a [`Grant`].

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::TokenError;
use super::grant::{Grant, Read, Rights};
use crate::model::key::{self, SAFE_INTEGER_MAX};
use crate::model::table::PRODUCTS;

/// The time by which a token's issuer may be ahead of this server's clock. `exp` has no such allowance: a socket and a
/// request end at the same moment, the one that the token names.
const NOT_BEFORE_LEEWAY: Duration = Duration::from_secs(5);

/// The claims of a token, unchecked. Members that mean nothing here are ignored.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    exp: Option<Value>,
    nbf: Option<Value>,
    rowcast: Option<Value>,
}

impl Claims {
    /// Returns the grant of these claims at `now`, since 1970.
    pub(super) fn grant(&self, now: Duration) -> Result<Grant, TokenError> {
        let expires_at = time(self.exp.as_ref())?.ok_or(TokenError::Times)?;
        let not_before = time(self.nbf.as_ref())?.unwrap_or_default();
        if now >= expires_at {
            return Err(TokenError::Expired);
        }
        if now.saturating_add(NOT_BEFORE_LEEWAY) < not_before {
            return Err(TokenError::NotYet);
        }
        let (products, others) = rights(self.rowcast.as_ref()).ok_or(TokenError::Rights)?;
        Ok(Grant::new(products, others, expires_at))
    }
}

/// Reads a `NumericDate`: seconds since 1970, which may have a fraction (RFC 7519, §2).
fn time(claim: Option<&Value>) -> Result<Option<Duration>, TokenError> {
    let seconds = |value: &Value| Duration::try_from_secs_f64(value.as_f64()?).ok();
    claim.map(|value| seconds(value).ok_or(TokenError::Times)).transpose()
}

/// The rights on products, and those on other tables by their names.
type AllRights = (Rights, Vec<(Box<str>, Rights)>);

/// Returns the rights in the claim `rowcast`; none where it, or a member of it, is missing. The rights on products stand in
/// the claim itself, or among the `tables`.
fn rights(claim: Option<&Value>) -> Option<AllRights> {
    let nothing = || Rights { read: Read::rows(Vec::new(), Vec::new()), write: false };
    let Some(claim) = claim else { return Some((nothing(), Vec::new())) };
    let claim = claim.as_object()?;
    let mut products = rights_of(claim, products_of)?;
    let mut others = Vec::new();
    if let Some(tables) = claim.get("tables") {
        for (name, rights) in tables.as_object()? {
            let rights = rights_of(rights.as_object()?, rows_of)?;
            if name != PRODUCTS {
                others.push((name.as_str().into(), rights));
            } else if claim.contains_key("read") || claim.contains_key("write") {
                return None;
            } else {
                products = rights;
            }
        }
    }
    Some((products, others))
}

/// Returns the rights of the members `read`, whose elements `listed` reads, and `write`.
fn rights_of(claim: &Map<String, Value>, listed: fn(&[Value]) -> Option<Read>) -> Option<Rights> {
    let read = match claim.get("read") {
        None => Read::rows(Vec::new(), Vec::new()),
        Some(Value::String(all)) if all == "*" => Read::All,
        Some(elements) => listed(elements.as_array()?)?,
    };
    let write = claim.get("write").map_or(Some(false), Value::as_bool)?;
    Some(Rights { read, write })
}

/// Reads ids of products, `7`, and ranges of them, `"7-9"`, with both ends.
fn products_of(elements: &[Value]) -> Option<Read> {
    let is_id = |integer: &i64| (0..=SAFE_INTEGER_MAX).contains(integer);
    let range = |element: &Value| match element {
        Value::String(text) => range(text, integer),
        element => element.as_i64().map(|id| (id, id)),
    };
    let range = |element| range(element).filter(|(first, last)| is_id(first) && is_id(last));
    Some(Read::rows(elements.iter().map(range).collect::<Option<_>>()?, Vec::new()))
}

/// Reads keys of any table: integers, ranges of them, and texts. An integer has one text, as in [`KeyKind::of_text`]:
/// `007` is another row than `7`.
///
/// [`KeyKind::of_text`]: crate::model::key::KeyKind::of_text
fn rows_of(elements: &[Value]) -> Option<Read> {
    let (mut ranges, mut texts) = (Vec::new(), Vec::new());
    for element in elements {
        let Value::String(text) = element else {
            let integer = element.as_i64()?;
            ranges.push((integer, integer));
            continue;
        };
        let range = range(text, key::integer);
        ranges.extend(range.or_else(|| key::integer(text).map(|integer| (integer, integer))));
        texts.push((text.as_str().into(), range.is_some()));
    }
    Some(Read::rows(ranges, texts))
}

/// Reads `7-9`, or with signs `-9--7`, of such integers.
fn range(text: &str, integer: fn(&str) -> Option<i64>) -> Option<(i64, i64)> {
    // A sign of the first is no separator.
    let separator = text.get(1..)?.find('-')? + 1;
    let (first, last) = (integer(&text[..separator])?, integer(&text[separator + 1..])?);
    (first <= last).then_some((first, last))
}

fn integer(digits: &str) -> Option<i64> {
    // `parse` would take a plus as well.
    let is_plain = digits.strip_prefix('-').unwrap_or(digits).bytes().all(|byte| byte.is_ascii_digit());
    if is_plain { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::key::{Key, KeyKind};
    use crate::model::product::ProductId;
    use crate::model::table::Tables;

    const NOW: Duration = Duration::from_secs(1000);

    fn grant(claims: Value) -> Result<Grant, TokenError> {
        serde_json::from_value::<Claims>(claims).unwrap().grant(NOW)
    }

    fn reads(rowcast: &Value) -> Vec<u64> {
        let grant = grant(json!({"exp": 2000, "rowcast": rowcast})).unwrap();
        (0..12).filter(|&number| grant.may_read(ProductId::new(number).unwrap())).collect()
    }

    #[test]
    fn ids_and_ranges_are_granted_and_what_is_missing_is_not() {
        assert_eq!(reads(&json!({"read": [1, "3-5", "9-9"]})), [1, 3, 4, 5, 9]);
        assert_eq!(reads(&json!({"read": "*"})).len(), 12);
        for nothing in [json!({"read": []}), json!({}), json!({"write": true}), json!({"color": 1})] {
            assert!(reads(&nothing).is_empty());
        }
        let without = grant(json!({"exp": 2000})).unwrap();
        assert!(!without.may_write() && !without.may_read(ProductId::MAX));
        assert!(grant(json!({"exp": 2000, "rowcast": {"write": true}})).unwrap().may_write());
    }

    #[test]
    fn tables_have_rights_of_their_own() {
        let tables = Tables::new();
        let orders = tables.add("orders", KeyKind::Any).unwrap();
        let claims =
            json!({"read": [1], "tables": {"orders": {"read": [17, "100-199", "a-9", "-5--3"], "write": true}}});
        let grant = grant(json!({"exp": 2000, "rowcast": claims})).unwrap();
        let reads = |key| grant.may_read_row(&orders, &key);
        assert!([17, 100, 199, -4].into_iter().all(|integer| reads(Key::Integer(integer))));
        assert!(![18, 200, 1, -2].into_iter().any(|integer| reads(Key::Integer(integer))));
        assert!(reads(Key::Text("a-9".into())) && !reads(Key::Text("a".into())));
        assert!(grant.may_read(ProductId::new(1).unwrap()) && !grant.may_write() && grant.may_write_to("orders"));
        assert_eq!(self::reads(&json!({"tables": {"products": {"read": ["3-5"]}}})), [3, 4, 5]);
        let all = self::grant(json!({"exp": 2000, "rowcast": {"tables": {"orders": {"read": "*"}}}})).unwrap();
        assert!(all.may_read_row(&orders, &Key::Text(String::new().into())) && !all.may_read(ProductId::MAX));
    }

    #[test]
    fn a_key_grants_no_other_that_is_written_like_it() {
        const HYPHENATED: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        const PLAIN: &str = "67e5504410b1426f9247bb680e5fe0c8";
        let tables = Tables::new();
        for (granted, kind, read, unread) in [
            ("007", KeyKind::Any, &["007"][..], &["7", "07"][..]),
            ("-0", KeyKind::Any, &["-0"], &["0"]),
            ("01-03", KeyKind::Any, &["01-03"], &["1", "2", "3"]),
            ("1-03", KeyKind::Any, &["1-03"], &["1", "2"]),
            ("1-3", KeyKind::Any, &["1", "3"], &["1-3", "4"]),
            (PLAIN, KeyKind::Any, &[PLAIN], &[HYPHENATED]),
            (HYPHENATED, KeyKind::Any, &[HYPHENATED], &[PLAIN]),
            ("67E55044-10B1-426F-9247-BB680E5FE0C8", KeyKind::Any, &[HYPHENATED], &[PLAIN]),
            ("67E55044-10B1-426F-9247-BB680E5FE0C8", KeyKind::Text, &[], &[HYPHENATED, PLAIN]),
            (PLAIN, KeyKind::Uuid, &[HYPHENATED], &["67e55044-10b1-426f-9247-bb680e5fe0c9"]),
            ("007", KeyKind::Integer(0, 9), &[], &["7"]),
        ] {
            let table = tables.add(&format!("{kind:?}"), kind).unwrap();
            let rights = json!({"tables": {&*table.name: {"read": [granted]}}});
            let grant = grant(json!({"exp": 2000, "rowcast": rights})).unwrap();
            let reads = |text: &&str| grant.may_read_row(&table, &kind.of_text(text).unwrap());
            assert!(read.iter().all(reads), "{granted} {kind:?}");
            assert!(!unread.iter().any(reads), "{granted} {kind:?}");
        }
    }

    #[test]
    fn rights_that_cannot_be_read_are_no_rights() {
        for rowcast in [
            json!("*"),
            json!([]),
            json!({"read": "all"}),
            json!({"read": ["*"]}),
            json!({"read": [-1]}),
            json!({"read": [1.5]}),
            json!({"read": ["7"]}),
            json!({"read": ["9-3"]}),
            json!({"read": ["-3"]}),
            json!({"read": ["1-"]}),
            json!({"read": ["+1-2"]}),
            json!({"read": ["1-2-3"]}),
            json!({"read": [9_007_199_254_740_992u64]}),
            json!({"read": {"1": 2}}),
            json!({"read": null}),
            json!({"write": "true"}),
            json!({"write": 1}),
            json!({"tables": []}),
            json!({"tables": {"orders": "*"}}),
            json!({"tables": {"orders": {"read": "a"}}}),
            json!({"tables": {"orders": {"read": [1.5]}}}),
            json!({"tables": {"orders": {"read": [null]}}}),
            json!({"tables": {"orders": {"write": "true"}}}),
            json!({"read": "*", "tables": {"products": {"read": [1]}}}),
        ] {
            assert_eq!(grant(json!({"exp": 2000, "rowcast": rowcast})), Err(TokenError::Rights), "{rowcast}");
        }
    }

    #[test]
    fn a_token_is_valid_from_nbf_to_exp() {
        for (claims, expected) in [
            (json!({"exp": 1001}), Ok(())),
            (json!({"exp": 1000.5}), Ok(())),
            (json!({"exp": 1000}), Err(TokenError::Expired)),
            (json!({"exp": 0}), Err(TokenError::Expired)),
            (json!({"exp": 1e30}), Err(TokenError::Times)),
            (json!({"exp": -1}), Err(TokenError::Times)),
            (json!({"exp": "2000"}), Err(TokenError::Times)),
            (json!({"nbf": 1}), Err(TokenError::Times)),
            (json!({"exp": 2000, "nbf": 1005}), Ok(())),
            (json!({"exp": 2000, "nbf": 1006}), Err(TokenError::NotYet)),
            (json!({"exp": 2000, "nbf": "1"}), Err(TokenError::Times)),
        ] {
            assert_eq!(grant(claims.clone()).map(|_| ()), expected, "{claims}");
        }
    }
}
