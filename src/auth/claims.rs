//! The claims of a token whose signature is right, as a [`Grant`].

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::TokenError;
use super::grant::{Grant, Read};
use crate::model::product::ProductId;

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
        let (read, write) = rights(self.rowcast.as_ref()).ok_or(TokenError::Rights)?;
        Ok(Grant::new(read, write, expires_at))
    }
}

/// Reads a `NumericDate`: seconds since 1970, which may have a fraction (RFC 7519, §2).
fn time(claim: Option<&Value>) -> Result<Option<Duration>, TokenError> {
    let seconds = |value: &Value| Duration::try_from_secs_f64(value.as_f64()?).ok();
    claim.map(|value| seconds(value).ok_or(TokenError::Times)).transpose()
}

/// Returns the rights in the claim `rowcast`; none where it, or a member of it, is missing.
fn rights(claim: Option<&Value>) -> Option<(Read, bool)> {
    let Some(claim) = claim else { return Some((Read::ranges(Vec::new()), false)) };
    let claim = claim.as_object()?;
    let read = match claim.get("read") {
        None => Read::ranges(Vec::new()),
        Some(Value::String(all)) if all == "*" => Read::All,
        Some(listed) => Read::ranges(listed.as_array()?.iter().map(range).collect::<Option<_>>()?),
    };
    let write = claim.get("write").map_or(Some(false), Value::as_bool)?;
    Some((read, write))
}

/// Reads `7`, or `"7-9"` with both ends.
fn range(value: &Value) -> Option<(ProductId, ProductId)> {
    if let Some(number) = value.as_u64() {
        let id = ProductId::new(number)?;
        return Some((id, id));
    }
    let (first, last) = value.as_str()?.split_once('-')?;
    let (first, last) = (id(first)?, id(last)?);
    (first <= last).then_some((first, last))
}

fn id(digits: &str) -> Option<ProductId> {
    // `parse` would take a sign as well.
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_plain { ProductId::new(digits.parse().ok()?) } else { None }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
