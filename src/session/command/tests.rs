use super::*;
use crate::model::key::{BadKey, Key, KeyKind};

#[test]
fn a_token_is_read_and_never_shown() {
    let read = |text: &str| parse(&mut text.as_bytes().to_vec(), &mut Buffers::default(), &Tables::new(), None);
    let seven = Some(ReplyId::Unsigned(7));
    for (text, reply, token) in [
        (r#"{"command":"authorize","token":"a.b.c","id":7}"#, seven.clone(), Some("a.b.c")),
        (r#"{"token":"a","x":{"token":"b"},"token":"c","command":"authorize"}"#, None, Some("c")),
        (r#"{"command":"authorize","token":"","table":7,"productIDs":null}"#, None, Some("")),
        (r#"{"command":"authorize","id":7}"#, seven, None),
        (r#"{"command":"authorize","token":["a"]}"#, None, None),
        (r#"{"command":"authorize","x":["token","a"]}"#, None, None),
    ] {
        let token = token.map(|token| Token(token.to_owned()));
        assert_eq!(read(text), Ok(Request::Authorize { reply, token }), "{text}");
    }
    let bad_id = Refusal { reply: None, why: Why::BadId };
    assert_eq!(read(r#"{"command":"authorize","token":"a","id":{}}"#), Err(bad_id));
    assert!(!format!("{:?}", read(r#"{"command":"authorize","token":"s3cret"}"#)).contains("s3cret"));
}

fn parse_text(text: &str) -> Result<Command, Refusal> {
    match parse(&mut text.as_bytes().to_vec(), &mut Buffers::default(), &Tables::new(), None)? {
        Request::Rows(command) => Ok(command),
        Request::Authorize { .. } => panic!("{text} is on rows"),
    }
}

fn id(number: u64) -> ProductId {
    ProductId::new(number).unwrap()
}

fn command(products: &[u64], states: Option<States>) -> Command {
    let topics = products.iter().map(|&number| id(number).subject()).collect();
    Command { reply: None, operation: Operation::Subscribe, topics, states }
}

#[test]
fn states_are_asked_for_with_snapshot_or_versions() {
    let since =
        |versions: &[u64], epoch: &str| Some(States::Since { versions: versions.to_vec(), epoch: epoch.parse().ok() });
    for (text, states) in [
        (r#""snapshot":true"#, Some(States::All { epoch: None })),
        (r#""snapshot":true,"epoch":"k3""#, Some(States::All { epoch: "k3".parse().ok() })),
        (r#""snapshot":false"#, None),
        (r#""epoch":"k3""#, None),
        (r#""versions":[42,0]"#, since(&[42, 0], "")),
        (r#""versions":[42,9007199254740991],"epoch":"k3","snapshot":false"#, since(&[42, (1 << 53) - 1], "k3")),
        (r#""versions":[1,2],"epoch":"of another kind""#, since(&[1, 2], "")),
    ] {
        let text = format!(r#"{{"command":"subscribe","productIDs":[1,2],{text}}}"#);
        assert_eq!(parse_text(&text), Ok(command(&[1, 2], states)), "{text}");
    }
    for (text, why) in [
        (r#""snapshot":1"#, Why::BadSnapshot),
        (r#""snapshot":null"#, Why::BadSnapshot),
        (r#""versions":5"#, Why::BadVersions(NamedBy::ProductIds)),
        (r#""versions":[1]"#, Why::BadVersions(NamedBy::ProductIds)),
        (r#""versions":[1,2,3]"#, Why::BadVersions(NamedBy::ProductIds)),
        (r#""versions":[1,2],"snapshot":true"#, Why::BadVersions(NamedBy::ProductIds)),
        (r#""versions":[1,-2]"#, Why::BadVersion(1)),
        (r#""versions":["1",2]"#, Why::BadVersion(0)),
        (r#""versions":[1,9007199254740992]"#, Why::BadVersion(1)),
        (r#""versions":[1,2],"epoch":3"#, Why::BadEpoch),
    ] {
        let refused = format!(r#"{{"command":"subscribe","productIDs":[1,2],{text}}}"#);
        assert_eq!(parse_text(&refused), Err(Refusal { reply: None, why }), "{refused}");
        let ignored = format!(r#"{{"command":"unsubscribe","productIDs":[1,2],{text}}}"#);
        let unsubscribe = Command { operation: Operation::Unsubscribe, ..command(&[1, 2], None) };
        assert_eq!(parse_text(&ignored), Ok(unsubscribe), "{ignored}");
    }
}

#[test]
fn repetitions_are_dropped_with_their_versions() {
    let since = |versions: &[u64]| Some(States::Since { versions: versions.to_vec(), epoch: None });
    let mut repeated = command(&[7, 1, 7, 3, 1], since(&[5, 0, 9, 4, 2]));
    repeated.drop_repetitions();
    assert_eq!(repeated, command(&[1, 3, 7], since(&[2, 4, 9])));
    let mut repeated = command(&[7, 1, 7], Some(States::All { epoch: None }));
    repeated.drop_repetitions();
    assert_eq!(repeated, command(&[1, 7], Some(States::All { epoch: None })));
}

#[test]
fn a_product_that_is_withheld_takes_its_version_with_it() {
    let grant = Grant::to_read(2, 4);
    let since = |versions: &[u64]| Some(States::Since { versions: versions.to_vec(), epoch: None });
    let mut asked = command(&[1, 2, 9, 4], since(&[10, 20, 90, 40]));
    assert_eq!(
        withhold(&mut asked, &grant, &Tables::new()),
        Some(Why::Forbidden { keys: vec![Key::Integer(1), Key::Integer(9)], more: 0 })
    );
    assert_eq!(asked, command(&[2, 4], since(&[20, 40])));
}

#[test]
fn products_are_named_as_rows_of_any_table_too() {
    let named = |rest: &str| parse_text(&format!(r#"{{"command":"subscribe","table":"products",{rest}}}"#));
    let since = Some(States::Since { versions: vec![42, 0], epoch: None });
    assert_eq!(named(r#""keys":[1,"2"],"versions":[42,0]"#), Ok(command(&[1, 2], since)));
    let by_ids = parse_text(r#"{"command":"subscribe","productIDs":"*","snapshot":true}"#);
    assert_eq!(named(r#""keys":"*","snapshot":true"#), by_ids);
    let why = Why::BadKey(1, BadKey::NoInteger(0, (1 << 53) - 1));
    assert_eq!(named(r#""keys":[1,-1]"#), Err(Refusal { reply: None, why }));
}

#[test]
fn a_token_without_rights_on_a_table_does_not_learn_whether_there_is_one() {
    let tables = Tables::new();
    tables.add("secret", KeyKind::Uuid).unwrap();
    let grant = Grant::to_read(2, 4);
    let refused = |text: &str, grant| {
        let refusal = parse(&mut text.as_bytes().to_vec(), &mut Buffers::default(), &tables, grant).unwrap_err();
        (refusal.why.code().as_str(), refusal.why.to_string())
    };
    for command in ["subscribe", "unsubscribe"] {
        let uuid = r#","keys":["67e55044-10b1-426f-9247-bb680e5fe0c8"]"#;
        for rest in ["", r#","keys":"*""#, uuid, r#","keys":[7]"#, r#","keys":[]"#] {
            let [secret, nothing] = ["secret", "nowhere"].map(|table| {
                let text = format!(r#"{{"command":"{command}","table":"{table}"{rest}}}"#);
                let (code, complaint) = refused(&text, Some(&grant));
                (code, complaint.replace(table, "…"))
            });
            assert_eq!(secret, ("forbidden", "the token gives no rights on the table …".to_owned()));
            assert_eq!(secret, nothing);
        }
    }
    let text = r#"{"command":"subscribe","table":"nowhere","keys":"*"}"#;
    assert_eq!(refused(text, None).0, "unknown_table");
    let long = format!(r#"{{"command":"subscribe","table":"{}","keys":"*"}}"#, "x".repeat(100_000));
    assert!(refused(&long, Some(&grant)).1.len() < 200);
}

#[test]
fn all_rows_of_a_table_are_not_subscribed_to_where_none_may_be_read() {
    let tables = Tables::new();
    tables.add("orders", KeyKind::Any).unwrap();
    let code = |command: &str, rows: &str, grant: &Grant| {
        let mut text = format!(r#"{{"command":"{command}",{rows}:"*"}}"#).into_bytes();
        let refused = parse(&mut text, &mut Buffers::default(), &tables, Some(grant)).err();
        refused.map(|refusal| (refusal.why.code().as_str(), refusal.why.to_string()))
    };
    let to_write = Grant::to_write(&["orders"]);
    let refused = |name| Some(("forbidden", format!("the token does not let you read any row of the table {name}")));
    for (rows, name) in [(r#""table":"orders","keys""#, "orders"), (r#""productIDs""#, "products")] {
        assert_eq!(code("subscribe", rows, &to_write), refused(name));
        assert_eq!(code("unsubscribe", rows, &to_write), None);
    }
    assert_eq!(code("subscribe", r#""productIDs""#, &Grant::to_read(2, 4)), None);
}

#[test]
fn refusals_name_the_member_that_names_the_rows() {
    let tables = Tables::new();
    tables.add("orders", KeyKind::Any).unwrap();
    let refused = |rows: &str| {
        let mut text = format!(r#"{{"command":"subscribe",{rows}}}"#).into_bytes();
        let why = parse(&mut text, &mut Buffers::default(), &tables, None).unwrap_err().why;
        (why.code().as_str(), why.to_string())
    };
    let versions = |member| {
        let sentence = format!(
            "versions is an array of one version for each of {member}, 0 where none is known, without snapshot"
        );
        ("bad_versions", sentence)
    };
    for (table, member) in [("", "productIDs"), (r#""table":"products","#, "keys"), (r#""table":"orders","#, "keys")] {
        for (rows, given) in [("[1,2]", "[1]"), ("[1]", "1"), (r#""*""#, "[1]")] {
            let given = format!(r#"{table}"{member}":{rows},"versions":{given}"#);
            assert_eq!(refused(&given), versions(member), "{given}");
        }
    }
}

#[test]
fn what_is_neither_a_number_nor_a_text_is_refused_with_what_the_keys_are() {
    let tables = Tables::new();
    for (name, kind, complaint) in [
        ("a", KeyKind::Any, "an integer from 0 to 2^53 - 1, or a text"),
        ("u", KeyKind::Uuid, "a UUID"),
        ("t", KeyKind::Text, "a text"),
        ("i", KeyKind::Integer(-5, 5), "an integer from -5 to 5"),
    ] {
        tables.add(name, kind).unwrap();
        for key in ["1.0", "1e3", "null", "true", "{}", "[]"] {
            let mut text = format!(r#"{{"command":"subscribe","table":"{name}","keys":[{key}]}}"#).into_bytes();
            let refusal = parse(&mut text, &mut Buffers::default(), &tables, None).unwrap_err();
            assert!(refusal.why.to_string().ends_with(complaint), "{name} {key}: {}", refusal.why);
        }
    }
}

#[test]
fn commands_are_read_whatever_the_order_of_their_members() {
    let subscribe = command(&[1, 2, 9_007_199_254_740_991], None);
    assert_eq!(parse_text(r#"{"command":"subscribe","productIDs":[1,2,9007199254740991]}"#), Ok(subscribe.clone()));
    assert_eq!(
        parse_text(
            r#" { "x" : [ { "command" : "no" } , 1 ] , "productIDs" : [ 1 , 2 , 9007199254740991 ] ,
              "command" : "subscribe", "y" : { "id" : 3 } } "#
        ),
        Ok(subscribe)
    );
    assert_eq!(
        parse_text(r#"{"command":"unsubscribe","productIDs":[],"id":-3}"#),
        Ok(Command {
            reply: Some(ReplyId::Signed(-3)),
            operation: Operation::Unsubscribe,
            topics: Subjects::default(),
            states: None
        })
    );
}

#[test]
fn what_cannot_be_carried_out_is_refused_with_its_id() {
    let not_an_object = Refusal { reply: None, why: Why::NotAnObject };
    for text in ["", "x", "[1]", "1", "null", "{", r#"{"command":}"#, "\u{0}", r#"{"command":"subscribe"}}"#] {
        assert_eq!(parse_text(text), Err(not_an_object.clone()), "{text}");
    }
    for (text, why) in [
        (r#"{"id":"a"}"#, Why::UnknownCommand),
        (r#"{"id":"a","command":1}"#, Why::UnknownCommand),
        (r#"{"id":"a","command":"publish","productIDs":[]}"#, Why::UnknownCommand),
        (r#"{"id":"a","command":"subscribe"}"#, Why::NoProducts),
        (r#"{"id":"a","command":"subscribe","productIDs":{"1":2}}"#, Why::NoProducts),
        (r#"{"id":"a","command":"subscribe","productIDs":"1"}"#, Why::NoProducts),
        (r#"{"id":"a","command":"subscribe","productIDs":[1,"2"]}"#, Why::BadProduct(1)),
        (r#"{"id":"a","command":"subscribe","productIDs":[1.5]}"#, Why::BadProduct(0)),
        (r#"{"id":"a","command":"subscribe","productIDs":[-1]}"#, Why::BadProduct(0)),
        (r#"{"id":"a","command":"subscribe","productIDs":[9007199254740992]}"#, Why::BadProduct(0)),
        (r#"{"id":"a","command":"subscribe","productIDs":[1,18446744073709551616]}"#, Why::BadProduct(1)),
        (r#"{"id":"a","command":"subscribe","productIDs":[-9223372036854775809]}"#, Why::BadProduct(0)),
        (r#"{"id":"a","command":"subscribe","productIDs":[1,[2]]}"#, Why::BadProduct(1)),
        (r#"{"id":"a","command":"subscribe","productIDs":[1,null]}"#, Why::BadProduct(1)),
    ] {
        let reply = Some(ReplyId::Text("a".into()));
        assert_eq!(parse_text(text), Err(Refusal { reply, why }), "{text}");
    }
    let bad_id = Refusal { reply: None, why: Why::BadId };
    assert_eq!(parse_text(r#"{"id":[1],"command":"subscribe","productIDs":[1]}"#), Err(bad_id));
}
