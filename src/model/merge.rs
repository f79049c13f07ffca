//! A JSON merge patch on the texts of two objects (RFC 7396), in one pass over each: [`merged`]. What the patch does not
//! name keeps its text, so that no number is rounded. Pure.

use std::borrow::Cow;
use std::collections::HashMap;

/// Returns the object with the members of the patch. Both are JSON as [`Row`](super::row::Row) has it: valid, without white
/// space, no name twice.
pub(super) fn merged(target: &str, patch: &str) -> Vec<u8> {
    let mut members = Scanner::new(target).object();
    merge(&mut members, Scanner::new(patch).object());
    let mut json = Vec::with_capacity(target.len() + patch.len());
    write(&members, &mut json);
    json.shrink_to_fit();
    json
}

type Members<'a> = Vec<(Cow<'a, str>, Value<'a>)>;

/// A value: an object by its members, any other by its text.
enum Value<'a> {
    Object(Members<'a>),
    Other(&'a str),
}

impl Value<'_> {
    const NULL: &'static str = "null";
    /// Stands for a member that the patch removes.
    const REMOVED: &'static str = "";

    fn is(&self, text: &str) -> bool {
        matches!(self, Self::Other(other) if *other == text)
    }
}

/// `MergePatch` of RFC 7396, §2.
fn merge<'a>(target: &mut Members<'a>, patch: Members<'a>) {
    let places: HashMap<Cow<'a, str>, usize> =
        target.iter().enumerate().map(|(place, (name, _))| (name.clone(), place)).collect();
    for (name, value) in patch {
        let known = places.get(&name).map(|&place| &mut target[place].1);
        match (known, value) {
            (Some(known), value) if value.is(Value::NULL) => *known = Value::Other(Value::REMOVED),
            (None, value) if value.is(Value::NULL) => {}
            (Some(Value::Object(members)), Value::Object(patch)) => merge(members, patch),
            (Some(known), value) => *known = without_nulls(value),
            (None, value) => target.push((name, without_nulls(value))),
        }
    }
    target.retain(|(_, value)| !value.is(Value::REMOVED));
}

/// Returns a value of a patch as it stands where there was no object before: merged into an empty one.
fn without_nulls(value: Value<'_>) -> Value<'_> {
    match value {
        Value::Object(patch) => {
            let mut members = Vec::new();
            merge(&mut members, patch);
            Value::Object(members)
        }
        other @ Value::Other(_) => other,
    }
}

fn write(members: &Members<'_>, json: &mut Vec<u8>) {
    json.push(b'{');
    for (place, (name, value)) in members.iter().enumerate() {
        if place > 0 {
            json.push(b',');
        }
        serde_json::to_writer(&mut *json, name).expect("a text is JSON, and a Vec takes all");
        json.push(b':');
        match value {
            Value::Object(members) => write(members, json),
            Value::Other(text) => json.extend_from_slice(text.as_bytes()),
        }
    }
    json.push(b'}');
}

/// Goes through the text of a value that is known to be valid.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn byte(&self) -> u8 {
        self.text.as_bytes()[self.at]
    }

    /// Passes the object that begins here.
    fn object(&mut self) -> Members<'a> {
        let mut members = Vec::new();
        self.at += 1;
        while self.byte() != b'}' {
            let name = self.name();
            self.at += 1;
            members.push((name, self.value()));
            self.at += usize::from(self.byte() == b',');
        }
        self.at += 1;
        members
    }

    fn name(&mut self) -> Cow<'a, str> {
        let start = self.at;
        self.pass_string();
        let quoted = &self.text[start..self.at];
        if quoted.contains('\\') {
            Cow::Owned(serde_json::from_str(quoted).expect("the text is valid"))
        } else {
            Cow::Borrowed(&quoted[1..quoted.len() - 1])
        }
    }

    fn value(&mut self) -> Value<'a> {
        if self.byte() == b'{' {
            return Value::Object(self.object());
        }
        let start = self.at;
        self.pass();
        Value::Other(&self.text[start..self.at])
    }

    /// Passes a value that is no object.
    fn pass(&mut self) {
        let mut depth = 0;
        loop {
            match self.byte() {
                b'"' => self.pass_string(),
                b'[' | b'{' => (depth, self.at) = (depth + 1, self.at + 1),
                b']' | b'}' if depth > 0 => (depth, self.at) = (depth - 1, self.at + 1),
                b']' | b'}' | b',' if depth == 0 => return,
                _ => self.at += 1,
            }
        }
    }

    fn pass_string(&mut self) {
        self.at += 1;
        while self.byte() != b'"' {
            self.at += if self.byte() == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value as Json, json};

    use crate::model::row::Row;

    fn patched(target: &str, patch: &str) -> String {
        let [target, patch] = [target, patch].map(|text| Row::parse(text.as_bytes()).unwrap());
        format!("{:?}", target.merged(&patch))
    }

    /// The examples of RFC 7396, appendix A, whose target and patch are objects.
    #[test]
    fn the_examples_of_the_rfc() {
        for (target, patch, result) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            assert_eq!(patched(target, patch), result);
        }
    }

    #[test]
    fn what_is_not_named_keeps_its_text_and_its_place() {
        let target =
            r#"{"n":1.50,"big":12345678901234567890,"s":"\u0061 \" }","l":["{",{"x":null}],"o":{"y":1E2,"z":0}}"#;
        assert_eq!(patched(target, "{}"), target);
        assert_eq!(
            patched(target, r#"{"s":null,"new":{"a":[null],"b":null},"o":{"z":"}"},"\u006e":2.0}"#),
            r#"{"n":2.0,"big":12345678901234567890,"l":["{",{"x":null}],"o":{"y":1E2,"z":"}"},"new":{"a":[null]}}"#
        );
    }

    /// The pseudocode of RFC 7396, §2.
    fn merge_of_the_rfc(target: &Json, patch: &Json) -> Json {
        let Json::Object(patch) = patch else { return patch.clone() };
        let mut merged = target.as_object().cloned().unwrap_or_else(Map::new);
        for (name, value) in patch {
            if value.is_null() {
                merged.remove(name);
            } else {
                let result = merge_of_the_rfc(merged.get(name).unwrap_or(&Json::Null), value);
                merged.insert(name.clone(), result);
            }
        }
        Json::Object(merged)
    }

    fn objects() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            "[\"\\\\{}\\[\\],:é\n a]{0,6}".prop_map(Json::from),
        ];
        let value = leaf.prop_recursive(4, 24, 4, |inner| {
            let members = prop::collection::btree_map("[ab\"\\\\]{0,2}", inner.clone(), 0..4);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Json::from),
                members.prop_map(|members| Json::Object(members.into_iter().collect())),
            ]
        });
        prop::collection::btree_map("[ab\"\\\\]{0,2}", value, 0..5)
            .prop_map(|members| Json::Object(members.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn it_is_the_merge_of_the_rfc(target in objects(), patch in objects()) {
            let merged = patched(&target.to_string(), &serde_json::to_string_pretty(&patch).unwrap());
            let read: Json = serde_json::from_str(&merged).unwrap();
            prop_assert_eq!(read, merge_of_the_rfc(&target, &patch));
            prop_assert!(Row::parse(merged.as_bytes()).is_ok_and(|row| row.as_bytes() == merged.as_bytes()));
        }
    }

    #[test]
    fn a_patch_of_many_members_is_one_pass() {
        let many = |value: u32| json!((0..20_000).map(|n| (n.to_string(), value.into())).collect::<Map<_, _>>());
        assert_eq!(
            serde_json::from_str::<Json>(&patched(&many(1).to_string(), &many(2).to_string())).unwrap(),
            many(2)
        );
    }
}
