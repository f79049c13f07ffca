//! The columns that never leave the server: [`HiddenColumns`]. Pure.

/// The version's column as a member of a row.
const VERSION_MEMBER: &str = "\"rowcast_version\"";

/// The columns of a table that nobody is shown: that of the version, and those that the command line names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HiddenColumns {
    /// The names of those that the command line names.
    names: Box<[Box<str>]>,
    /// The same in JSON, with the quotes around them.
    members: Box<[Box<str>]>,
}

impl HiddenColumns {
    /// Hides the column of the version, and these.
    #[must_use]
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut names: Vec<Box<str>> = names.into_iter().map(Into::into).collect();
        names.sort_unstable();
        names.dedup();
        let members = names.iter().map(|name| serde_json::Value::from(&**name).to_string().into()).collect();
        Self { names: names.into(), members }
    }

    /// Returns the names of the columns that the command line names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }

    /// Appends a row without them. The row is as `row_to_json` writes it: an object without space between its members,
    /// whose values may have any.
    ///
    /// Returns false, and appends nothing that anybody may be shown, where it is not such a row, or lacks a column that the
    /// command line names: that was renamed, perhaps, and stands in the row under another name.
    #[must_use]
    pub fn strip(&self, row: &str, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let is_row = self.strip_members(row, out).is_some();
        if !is_row {
            out.truncate(start);
        }
        is_row
    }

    fn strip_members(&self, row: &str, out: &mut Vec<u8>) -> Option<()> {
        let (mut rest, mut hidden) = (row.strip_prefix('{')?, 0);
        out.push(b'{');
        let empty = out.len();
        while rest != "}" {
            let name = &rest[..string_length(rest)?];
            let value = rest[name.len()..].strip_prefix(':')?;
            let member = &rest[..name.len() + 1 + value_length(value)?];
            if self.members.iter().any(|hidden| **hidden == *name) {
                hidden += 1;
            } else if name != VERSION_MEMBER {
                if out.len() > empty {
                    out.push(b',');
                }
                out.extend_from_slice(member.as_bytes());
            }
            rest = &rest[member.len()..];
            match rest.strip_prefix(',') {
                Some(next) if next.starts_with('"') => rest = next,
                None if rest == "}" => {}
                _ => return None,
            }
        }
        out.push(b'}');
        (hidden == self.members.len()).then_some(())
    }
}

/// Returns the length of the string that a text begins with, its quotes included.
fn string_length(text: &str) -> Option<usize> {
    let bytes = text.strip_prefix('"')?.as_bytes();
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', &bytes[at..])?;
        if bytes[at] == b'"' {
            return Some(at + 2);
        }
        // What is escaped.
        at += 2;
        if at > bytes.len() {
            return None;
        }
    }
}

/// Returns the length of the value that a text begins with, up to the comma or the brace behind it.
fn value_length(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0, 0_usize);
    loop {
        match bytes.get(at)? {
            b'"' => at += string_length(&text[at..])? - 1,
            b'{' | b'[' => depth += 1,
            b',' | b'}' if depth == 0 => return (at > 0).then_some(at),
            b'}' | b']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn stripped(hidden: &[&str], row: &str) -> Option<String> {
        let mut out = b"before".to_vec();
        let is_row = HiddenColumns::new(hidden.iter().copied()).strip(row, &mut out);
        let out = String::from_utf8(out).unwrap();
        let row = out.strip_prefix("before").unwrap();
        assert!(is_row || row.is_empty(), "{row}");
        is_row.then(|| row.to_owned())
    }

    #[test]
    fn what_is_no_row_is_not_shown_at_all() {
        for row in [
            "",
            "{",
            "[]",
            "null",
            "{}x",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1"#,
            r#"{"a":1,}"#,
            r#"{"a":1,,"b":2}"#,
            r#"{"a":"x}"#,
            r#"{"a":"x\"}"#,
            r#"{"a":"x\"#,
            r"{a:1}",
            r#"{"a":]1}"#,
        ] {
            if let Some(shown) = stripped(&["password"], row) {
                panic!("{row}: {shown}");
            }
        }
    }

    #[test]
    fn hidden_members_are_taken_out_wherever_they_are_and_nothing_else() {
        for (row, shown) in [
            (r"{}", r"{}"),
            (r#"{"rowcast_version":1}"#, r"{}"),
            (r#"{"rowcast_version":1,"id":2}"#, r#"{"id":2}"#),
            (r#"{"id":2,"rowcast_version":1}"#, r#"{"id":2}"#),
            (r#"{"id":2,"rowcast_version":1,"a":[1,{"x":"]}"}]}"#, r#"{"id":2,"a":[1,{"x":"]}"}]}"#),
            (
                r#"{"j":{"rowcast_version":1},"k":",\"rowcast_version\":1"}"#,
                r#"{"j":{"rowcast_version":1},"k":",\"rowcast_version\":1"}"#,
            ),
            ("{\"j\":{ \"a\" : 1,\n \"b\": [] },\"rowcast_version\":7}", "{\"j\":{ \"a\" : 1,\n \"b\": [] }}"),
        ] {
            assert_eq!(stripped(&[], row).as_deref(), Some(shown), "{row}");
        }
        let hidden = ["pass\"word", "größe", "größe"];
        let row = r#"{"pass\"word":{"a":"}"},"rowcast_version":1,"größe":null,"id":"\\"}"#;
        assert_eq!(stripped(&hidden, row).as_deref(), Some(r#"{"id":"\\"}"#));
    }

    #[test]
    fn a_row_that_lacks_a_hidden_column_is_not_shown() {
        for row in [r"{}", r#"{"id":1,"secret":"s"}"#, r#"{"id":1,"j":{"password":"s"}}"#, r#"{"id":1,"Password":"s"}"#]
        {
            assert_eq!(stripped(&["password"], row), None, "{row}");
        }
        assert_eq!(stripped(&["password", "pin"], r#"{"id":1,"password":"s"}"#), None);
    }

    proptest! {
        #[test]
        fn any_row_is_as_it_is_without_them(
            members in proptest::collection::btree_map("[a-c\"\\\\é\n]{0,3}", (".{0,8}", any::<Option<bool>>(), 0..3_u8), 0..6),
            hidden in proptest::collection::vec("[a-c\"\\\\é\n]{0,3}", 0..3),
        ) {
            let row: serde_json::Map<String, Value> = members
                .into_iter()
                .map(|(name, (text, flag, depth))| {
                    let leaf = serde_json::json!([text, flag, {"a": text}]);
                    (name, (0..depth).fold(leaf, |value, _| serde_json::json!({"b": [value]})))
                })
                .collect();
            let names: Vec<&str> = hidden.iter().map(String::as_str).filter(|name| row.contains_key(*name)).collect();
            let shown = stripped(&names, &Value::Object(row.clone()).to_string()).unwrap();
            let shown: Value = serde_json::from_str(&shown).unwrap();
            let wanted: serde_json::Map<_, _> = row.into_iter().filter(|(name, _)| !hidden.contains(name)).collect();
            prop_assert_eq!(shown, Value::Object(wanted));
        }

        #[test]
        fn nothing_panics_nor_leaks(row in "\\{?(\"(a|s)\":[\\[\\{\"\\\\a0,:\\]\\}]{0,6},?){0,4}\\}?") {
            let shown = stripped(&["s"], &row).and_then(|shown| serde_json::from_str(&shown).ok());
            if let Some(Value::Object(shown)) = shown {
                prop_assert!(!shown.contains_key("s"));
            }
        }
    }
}
