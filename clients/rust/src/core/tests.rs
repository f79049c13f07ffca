use super::*;

/// A core and the clock of its world.
struct World {
    core: Core,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self { core: Core::new(None, false), now: Instant::now() }
    }

    fn open(&mut self) -> Vec<String> {
        self.core.opened(self.now);
        self.core.commands()
    }

    fn lose(&mut self) {
        self.core.lost(Error::Lost("gone".into()), None);
    }

    fn hear(&mut self, messages: &[&str]) {
        for message in messages {
            self.core.take(Message::parse(message.as_bytes()).unwrap(), self.now);
        }
    }

    /// Lets time pass; returns what is sent then.
    fn pass(&mut self, seconds: u64) -> Vec<String> {
        self.now += Duration::from_secs(seconds);
        self.core.tick(self.now);
        self.core.commands()
    }

    /// What a subscriber is told, in short: a row as its key, version and action.
    fn told(&mut self, follower: Follower) -> Vec<String> {
        let mut told = Vec::new();
        while let Poll::Ready(Some(event)) = self.core.poll_event(follower, Waker::noop()) {
            told.push(match event {
                Event::Change(Change { key, version, action, .. }) => format!("{key} {version} {action:?}"),
                Event::Refused(refusal) => format!("Refused {}", refusal.code),
                word => format!("{word:?}"),
            });
        }
        told
    }
}

fn row(action: &str, key: u64, version: u64) -> String {
    format!(r#"{{"action":"{action}","version":{version},"table":"orders","key":{key},"row":{{"n":{version}}}}}"#)
}

fn ok(id: u64) -> String {
    format!(r#"{{"reply":{id},"ok":true,"subscribed":1}}"#)
}

fn no(id: u64, code: &str) -> String {
    format!(r#"{{"reply":{id},"ok":false,"error":"no","code":"{code}"}}"#)
}

const EPOCH: &str = r#"{"epoch":"k3m"}"#;

#[test]
fn a_subscription_is_told_what_there_is_that_it_is_complete_and_every_change() {
    let mut world = World::new();
    let orders = world.core.subscribe(Rows::of("orders", ["17", "a-9"]));
    assert_eq!(world.core.status().state, State::Connecting);
    let begin = r#"{"command":"subscribe","table":"orders","keys":["17","a-9"],"snapshot":true,"id":1}"#;
    assert_eq!(world.open(), [begin]);
    world.hear(&[EPOCH, &row("SNAPSHOT", 17, 7), r#"{"absent":["a-9"],"versions":[5],"table":"orders"}"#]);
    assert_eq!((world.told(orders), world.core.status().state), (vec!["17 7 Snapshot".to_owned()], State::Stale));
    world.hear(&[&ok(1)]);
    assert_eq!((world.told(orders), world.core.status().state), (vec!["Complete".into(), "Live".into()], State::Live));
    world.hear(&[&row("UPDATE", 17, 7), &row("UPDATE", 17, 6), &row("UPDATE", 17, 8), &row("DELETE", 17, 9)]);
    assert_eq!(world.told(orders), ["17 8 Update", "17 9 Delete"]);
    assert_eq!(world.core.rows("orders"), []);
}

#[test]
fn what_is_known_is_named_after_a_reconnect_rows_that_are_gone_too() {
    let mut world = World::new();
    let orders = world.core.subscribe(Rows::of("orders", [1, 2, 3]));
    world.open();
    let absent = r#"{"absent":[3],"versions":[5],"table":"orders"}"#;
    world.hear(&[EPOCH, &row("SNAPSHOT", 1, 7), &row("SNAPSHOT", 2, 8), &row("DELETE", 2, 9), absent, &ok(1)]);
    world.told(orders);
    world.lose();
    assert_eq!((world.told(orders), world.core.status().state), (vec!["Stale".to_owned()], State::Stale));
    let versions = r#""versions":[7,9,5],"epoch":"k3m","id":2}"#;
    assert_eq!(world.open(), [format!(r#"{{"command":"subscribe","table":"orders","keys":["1","2","3"],{versions}"#)]);
    assert_eq!(world.core.get("orders", &1.into()).unwrap().json(), r#"{"n":7}"#, "it is shown meanwhile, as old");
    world.hear(&[EPOCH, &row("INSERT", 2, 10), &ok(2)]);
    assert_eq!(world.told(orders), ["2 10 Insert", "Complete", "Live"]);
}

#[test]
fn another_epoch_has_everything_asked_for_anew_and_any_version_is_newer_then() {
    let mut world = World::new();
    let orders = world.core.subscribe(Rows::of("orders", [1]));
    world.open();
    world.hear(&[EPOCH, &row("SNAPSHOT", 1, 7), &ok(1)]);
    world.told(orders);
    world.hear(&[r#"{"epoch":"other"}"#]);
    assert_eq!(world.told(orders), ["Stale"]);
    world.hear(&[&row("SNAPSHOT", 1, 2)]);
    assert_eq!(world.told(orders), ["1 2 Snapshot"]);
    assert_eq!(world.pass(1), [""; 0], "not at once");
    let again = world.pass(2);
    assert!(again[0].contains(r#""versions":[2],"epoch":"other""#), "{again:?}");
    world.hear(&[&ok(2)]);
    assert_eq!(world.told(orders), ["Complete", "Live"]);
}

#[test]
fn a_table_that_came_to_an_open_connection_is_asked_for_anew_in_time_too() {
    let mut world = World::new();
    world.open();
    world.core.subscribe(Rows::of("orders", [1]));
    world.core.commands();
    world.hear(&[EPOCH, &row("SNAPSHOT", 1, 7), &ok(1), r#"{"epoch":"other"}"#]);
    assert!(world.core.wake_at().is_some_and(|at| at <= world.now + ASK_PAUSE));
    assert_eq!(world.pass(3).len(), 1);
}

#[test]
fn an_epoch_that_is_another_at_the_reconnect_ends_what_was_known() {
    let mut world = World::new();
    let orders = world.core.subscribe(Rows::of("orders", [1]));
    world.open();
    world.hear(&[EPOCH, &row("SNAPSHOT", 1, 7), &ok(1)]);
    world.lose();
    world.open();
    world.told(orders);
    world.hear(&[r#"{"epoch":"other"}"#, &row("SNAPSHOT", 1, 3), &ok(2)]);
    assert_eq!(world.told(orders), ["1 3 Snapshot", "Complete", "Live"]);
    assert_eq!(world.core.wake_at(), None, "it was told of the epoch before anything else");
}

#[test]
fn a_table_s_epoch_is_its_own_until_one_is_told_for_all() {
    let mut world = World::new();
    let _orders = world.core.subscribe(Rows::of("orders", [17]));
    world.open();
    let of_table = r#"{"epoch":"its","table":"orders"}"#;
    world.hear(&[EPOCH, of_table, &row("SNAPSHOT", 17, 7), &ok(1), r#"{"epoch":"x","table":"stock"}"#]);
    for id in 2..4 {
        world.lose();
        assert!(world.open()[0].contains(r#""versions":[7],"epoch":"its""#));
        world.hear(&[EPOCH, of_table, &ok(id)]);
    }
    world.hear(&[r#"{"epoch":"other"}"#]);
    world.lose();
    assert!(world.open()[0].contains(r#""snapshot":true,"epoch":"other""#));
}

/// A server that is behind would tell rows of the epoch before as rows of this one.
#[test]
fn a_table_s_epoch_is_named_though_no_row_of_it_is_known() {
    for rows in [Rows::all("orders"), Rows::of("orders", [17])] {
        let mut world = World::new();
        let _orders = world.core.subscribe(rows);
        world.open();
        world.hear(&[EPOCH, r#"{"epoch":"its","table":"orders"}"#, &ok(1)]);
        world.lose();
        assert!(world.open()[0].ends_with(r#""snapshot":true,"epoch":"its","id":2}"#));
    }
}

#[test]
fn of_everything_what_is_not_named_until_the_reply_is_gone() {
    let mut world = World::new();
    let all = world.core.subscribe(Rows::all("orders"));
    assert_eq!(world.open(), [r#"{"command":"subscribe","table":"orders","keys":"*","snapshot":true,"id":1}"#]);
    world.hear(&[EPOCH, &row("SNAPSHOT", 1, 7), &row("INSERT", 2, 8), &row("SNAPSHOT", 3, 9), &ok(1)]);
    world.lose();
    let begin =
        r#"{"command":"subscribe","table":"orders","keys":"*","snapshot":true,"newest":9,"epoch":"k3m","id":2}"#;
    assert_eq!(world.open(), [begin]);
    world.told(all);
    let absent = r#"{"absent":[3],"versions":[10],"table":"orders"}"#;
    world.hear(&[EPOCH, &row("SNAPSHOT", 1, 7), absent, &row("INSERT", 4, 11)]);
    assert!(world.core.get("orders", &2.into()).is_some(), "it is shown as old until the reply");
    world.hear(&[&ok(2)]);
    assert_eq!(world.told(all), ["3 10 Absent", "4 11 Insert", "2 0 Absent", "Complete", "Live"]);
    world.hear(&[&row("SNAPSHOT", 2, 7), &row("SNAPSHOT", 2, 8)]);
    assert_eq!(world.told(all), ["2 8 Snapshot"], "the server lagged behind the one before");
}

#[test]
fn many_subscribers_of_a_key_are_one_subscription_which_ends_with_the_last() {
    let mut world = World::new();
    let first = world.core.subscribe(Rows::of("orders", [1, 2]));
    world.open();
    world.hear(&[EPOCH, &row("SNAPSHOT", 1, 7), &ok(1)]);
    let second = world.core.subscribe(Rows::of("orders", [1]));
    assert_eq!(world.core.commands(), [""; 0]);
    assert_eq!(world.told(second), ["1 7 Snapshot", "Complete", "Live"]);
    world.told(first);
    world.hear(&[&row("UPDATE", 1, 8)]);
    assert_eq!((world.told(first), world.told(second)), (vec!["1 8 Update".into()], vec!["1 8 Update".into()]));
    world.core.unsubscribe(first);
    assert_eq!(world.core.commands(), [r#"{"command":"unsubscribe","table":"orders","keys":["2"],"id":2}"#]);
    world.hear(&[&row("UPDATE", 1, 9), &row("INSERT", 2, 9)]);
    assert_eq!((world.told(second).len(), world.core.rows("orders").len()), (1, 1), "nobody follows the other row");
    world.core.unsubscribe(second);
    let again = world.core.subscribe(Rows::of("orders", [1]));
    assert_eq!(world.core.commands(), [""; 0], "what ends and begins at once costs nothing");
    world.core.unsubscribe(again);
    assert_eq!(world.core.commands().len(), 1);
    assert_eq!(world.core.rows("orders"), []);
}

#[test]
fn the_end_of_everything_leaves_what_is_followed_by_its_key() {
    let mut world = World::new();
    let (one, all) = (world.core.subscribe(Rows::of("orders", [1])), world.core.subscribe(Rows::all("orders")));
    assert_eq!(world.open().len(), 2);
    world.hear(&[EPOCH, &row("SNAPSHOT", 1, 7), &row("SNAPSHOT", 2, 8), &ok(1), &ok(2)]);
    world.core.unsubscribe(all);
    let commands = world.core.commands();
    assert!(commands[0].contains(r#""unsubscribe","table":"orders","keys":"*""#), "{commands:?}");
    assert!(commands[1].contains(r#""keys":["1"],"versions":[7]"#), "{commands:?}");
    world.told(one);
    world.hear(&[&ok(3), &ok(4)]);
    assert_eq!(world.core.rows("orders").len(), 1);
    assert_eq!(world.told(one), ["Complete", "Live"]);
}

#[test]
fn what_earlier_subscriptions_brought_does_not_count_as_named() {
    let mut world = World::new();
    let (_one, all) = (world.core.subscribe(Rows::of("orders", [1])), world.core.subscribe(Rows::all("orders")));
    world.open();
    world.hear(&[EPOCH, &row("SNAPSHOT", 1, 7), &ok(1), &ok(2)]);
    world.core.unsubscribe(all);
    world.core.commands();
    let all = world.core.subscribe(Rows::all("orders"));
    assert_eq!(world.core.commands(), [""; 0]);
    // It was sent before the end was read; then the row went.
    world.hear(&[&row("UPDATE", 1, 8), &ok(3)]);
    world.core.commands();
    world.hear(&[&ok(4), &ok(5)]);
    assert_eq!(world.core.rows("orders"), []);
    assert!(world.told(all).ends_with(&["1 0 Absent".into(), "Complete".into(), "Live".into()]));
}

#[test]
fn lost_sources_are_told_of_all_tables_and_of_each() {
    let mut world = World::new();
    let orders = world.core.subscribe(Rows::of("orders", [1]));
    let stock = world.core.subscribe(Rows::of("stock", [1]));
    world.open();
    world.hear(&[EPOCH, r#"{"live":false}"#, &ok(1), &ok(2)]);
    assert_eq!(world.told(orders), ["Complete", "Stale"], "all came, and may be old");
    world.hear(&[r#"{"live":true}"#]);
    assert_eq!((world.told(orders), world.told(stock).pop()), (vec!["Live".into()], Some("Live".into())));
    world.hear(&[r#"{"live":false,"table":"orders"}"#]);
    assert_eq!((world.told(orders), world.told(stock)), (vec!["Stale".into()], vec![]));
    assert_eq!((world.core.is_live("orders"), world.core.is_live("stock")), (false, true));
    world.lose();
    world.open();
    world.hear(&[EPOCH, &ok(3), &ok(4)]);
    assert_eq!(world.told(orders), ["Complete", "Live"], "it is said anew of each connection");
}

#[test]
fn one_bad_key_refuses_itself_alone_and_another_refusal_is_asked_for_again() {
    let mut world = World::new();
    let orders = world.core.subscribe(Rows::of("orders", ["1", "2", "x"]));
    world.open();
    world.hear(&[&no(1, "bad_keys")]);
    assert_eq!((world.core.commands().len(), world.told(orders).len()), (2, 0));
    world.hear(&[EPOCH, &row("SNAPSHOT", 1, 7), &ok(2), &no(3, "bad_keys")]);
    assert_eq!(world.told(orders), ["1 7 Snapshot", "Refused bad_keys"]);
    assert_eq!(world.core.status().state, State::Live, "what is not shown is no older than it is");
    let again = world.pass(30);
    assert!(again.len() == 1 && again[0].contains(r#""keys":["x"]"#), "{again:?}");
    world.hear(&[&no(4, "forbidden")]);
    assert_eq!(world.told(orders), ["Refused forbidden", "Complete", "Live"]);
    assert_eq!(world.pass(60), [""; 0], "what is forbidden is not asked for again");
}

#[test]
fn rows_that_are_shown_are_not_live_while_they_are_refused() {
    let mut world = World::new();
    let orders = world.core.subscribe(Rows::of("orders", [1]));
    world.open();
    world.hear(&[EPOCH, &row("SNAPSHOT", 1, 7), &ok(1)]);
    world.lose();
    world.open();
    world.told(orders);
    world.hear(&[EPOCH, &no(2, "too_many_subscriptions")]);
    assert_eq!(
        (world.told(orders), world.core.status().state),
        (vec!["Refused too_many_subscriptions".into()], State::Stale)
    );
    assert_eq!(world.pass(30).len(), 1);
    world.hear(&[&ok(3)]);
    assert_eq!(world.told(orders), ["Complete", "Live"]);
}

#[test]
fn keys_go_in_pieces_smaller_ones_where_a_message_was_too_large() {
    let mut world = World::new();
    let keys: Vec<String> = (0..2000).map(|number| format!("{number:04}{}", "\u{1}".repeat(252))).collect();
    let orders = world.core.subscribe(Rows::of("orders", keys));
    let commands = world.open();
    assert!(commands.len() > 40 && commands.iter().all(|command| command.len() < 65 * 1024), "{}", commands.len());
    assert_eq!(commands.iter().map(|command| command.matches(r"\u0001").count()).sum::<usize>(), 2000 * 252);
    for id in 1..commands.len() as u64 {
        world.hear(&[&ok(id)]);
    }
    assert_eq!(world.told(orders), [""; 0]);
    world.hear(&[&ok(commands.len() as u64)]);
    assert_eq!(world.told(orders), ["Complete", "Live"]);
    world.core.lost(Error::Closed { code: 1009, reason: String::new() }, None);
    assert!(world.open().len() > 80);
    let mut world = World::new();
    let _ids = world.core.subscribe(Rows::products(0..10_000));
    assert_eq!(world.open().len(), 5, "64 KiB each");
}

#[test]
fn a_row_of_which_the_key_alone_came_is_owed_until_it_is_read() {
    let mut world = World::new();
    let orders = world.core.subscribe(Rows::of("orders", [1]));
    world.open();
    world.hear(&[EPOCH, &row("SNAPSHOT", 1, 7), &ok(1)]);
    let alone = |version| format!(r#"{{"action":"UPDATE","version":{version},"table":"orders","key":1}}"#);
    world.hear(&[&alone(9), &alone(9)]);
    assert_eq!(world.told(orders).last().unwrap(), "1 9 Update");
    assert!(world.core.is_owed() && world.core.rows("orders")[0].is_owed);
    let read = || Row::from(serde_json::value::RawValue::from_string("{}".into()).unwrap());
    world.core.fill("orders", &1.into(), 8, read());
    assert!(world.core.is_owed(), "what was read is older");
    world.core.fill("orders", &1.into(), 10, read());
    assert_eq!((world.core.owed(), world.told(orders)), (vec![], vec!["1 10 Update".into()]));
    world.hear(&[&alone(11), r#"{"absent":[1],"versions":[10],"table":"orders"}"#]);
    assert!(world.core.is_owed(), "the absence is older");
    world.hear(&[&row("DELETE", 1, 12)]);
    assert_eq!((world.core.is_owed(), world.told(orders).pop()), (false, Some("1 12 Delete".into())));
}

#[test]
fn where_changes_are_lost_everything_is_asked_for_anew() {
    for (loses_changes, commands) in [(false, 0), (true, 1)] {
        let mut world = World { core: Core::new(None, loses_changes), ..World::new() };
        let _orders = world.core.subscribe(Rows::of("orders", [1]));
        world.open();
        world.hear(&[EPOCH, &ok(1), r#"{"skipped":3}"#]);
        assert_eq!(world.pass(3).len(), commands);
    }
}

#[test]
fn the_end_is_told_after_what_waits_and_what_was_known_stays() {
    let mut world = World::new();
    let orders = world.core.subscribe(Rows::of("orders", [1]));
    world.open();
    world.hear(&[EPOCH, &row("SNAPSHOT", 1, 7), r#"{"reconnect":{"afterMs":850}}"#]);
    assert_eq!(world.core.hint(), Some(Duration::from_millis(850)));
    world.core.end(Some(Error::TokenExpired));
    assert_eq!(world.told(orders), ["1 7 Snapshot"]);
    assert_eq!(world.core.poll_event(orders, Waker::noop()), Poll::Ready(None));
    let late = world.core.subscribe(Rows::of("orders", [1]));
    world.told(late);
    assert_eq!(world.core.poll_event(late, Waker::noop()), Poll::Ready(None));
    assert_eq!(
        world.core.status(),
        Status { state: State::Closed, problem: Some(Error::TokenExpired), retry_at: None }
    );
    assert!(world.core.get("orders", &1.into()).is_some());
}

/// A server tells rows that all of a table brings before its reply to an earlier end, where a command before both waits
/// for its own: nobody could say which of the two brought them.
#[test]
fn all_rows_are_asked_for_once_the_ends_before_are_answered() {
    let mut world = World::new();
    let one = world.core.subscribe(Rows::of("orders", [1]));
    world.open();
    world.hear(&[EPOCH, &row("SNAPSHOT", 1, 7), &ok(1)]);
    world.core.unsubscribe(one);
    let all = world.core.subscribe(Rows::all("orders"));
    assert_eq!(world.core.commands(), [r#"{"command":"unsubscribe","table":"orders","keys":["1"],"id":2}"#]);
    world.hear(&[&row("UPDATE", 1, 8)]);
    assert_eq!(world.core.commands(), [""; 0]);
    world.hear(&[&ok(2)]);
    let asked = world.core.commands();
    assert!(asked.len() == 1 && asked[0].contains(r#""keys":"*""#), "{asked:?}");
    world.hear(&[&row("SNAPSHOT", 2, 9), &ok(3)]);
    assert!(world.told(all).ends_with(&["2 9 Snapshot".into(), "1 0 Absent".into(), "Complete".into(), "Live".into()]));
    assert_eq!(world.core.get("orders", &1.into()), None, "it was not named");
}

/// Gives the core a token as its task does; returns what is sent then.
fn renew(world: &mut World, token: &str) -> Vec<String> {
    world.core.set_token(token.into());
    assert!(world.core.tokens().for_renewal().is_some());
    world.core.renew(Ok(token.to_owned()));
    world.core.commands()
}

#[test]
fn a_new_token_goes_to_the_open_connection_and_counts_once_it_is_taken() {
    let mut world = World::new();
    let orders = world.core.subscribe(Rows::of("orders", [1]));
    world.core.tokens().take("old".into());
    world.open();
    world.hear(&[EPOCH, &row("SNAPSHOT", 1, 7), &ok(1)]);
    world.told(orders);
    assert_eq!(renew(&mut world, "bad"), [r#"{"command":"authorize","id":2,"token":"bad"}"#]);
    world.hear(&[&no(2, "bad_token")]);
    let refused = Status { state: State::Live, problem: Some(Error::Token("no".into())), retry_at: None };
    assert_eq!((world.core.status(), world.core.tokens().good()), (refused, Some("old".into())));
    renew(&mut world, "new");
    assert_eq!(world.core.tokens().good(), Some("old".into()));
    world.hear(&[&ok(3)]);
    assert_eq!((world.core.status().problem, world.core.tokens().good()), (None, Some("new".into())));
    assert_eq!((world.told(orders), world.pass(60)), (vec![], vec![]), "nothing was refused");
    assert!(!world.core.wants_handshake() && world.core.tokens().for_renewal().is_none());
}

#[test]
fn a_token_that_cannot_be_had_or_is_not_the_last_is_not_given() {
    let mut world = World::new();
    world.open();
    world.core.set_token(Token::from_fn(|| async { Err("offline") }));
    assert!(world.core.tokens().for_renewal().is_some());
    world.core.renew(Err(Error::Token("offline".into())));
    assert_eq!((world.core.commands(), world.core.status().problem), (vec![], Some(Error::Token("offline".into()))));
    world.core.set_token("one".into());
    assert!(world.core.tokens().for_renewal().is_some());
    world.core.set_token("other".into());
    world.core.renew(Ok("one".into()));
    assert_eq!(world.core.commands(), [""; 0]);
    assert_eq!(renew(&mut world, "other").len(), 1);
}

#[test]
fn a_token_that_no_open_connection_takes_goes_with_the_next_handshake() {
    let mut world = World::new();
    let _orders = world.core.subscribe(Rows::of("orders", [1]));
    world.core.tokens().take("old".into());
    world.open();
    world.hear(&[EPOCH, &row("SNAPSHOT", 1, 7), &ok(1)]);
    renew(&mut world, "new");
    assert!(world.core.forget_token(), "the one before has expired, and this one is under way");
    world.hear(&[&no(2, "unknown_command")]);
    assert!(world.core.wants_handshake() && world.core.has_news());
    world.lose();
    assert!(world.core.tokens().for_handshake().is_some() && world.core.tokens().good().is_none());
    world.core.tokens().take("new".into());
    assert!(world.open()[0].contains(r#""versions":[7]"#));
    // Another connection that ends before it has answered.
    renew(&mut world, "newer");
    world.lose();
    assert!(world.core.wants_handshake() && world.core.tokens().for_handshake().is_some());
    assert!(!world.core.forget_token(), "a text that is not good is all that there is");
    // One that is set without a connection.
    world.core.set_token("newest".into());
    assert!(world.core.wants_handshake() && world.core.has_news());
}

#[test]
fn rows_that_a_new_token_does_not_grant_are_gone_and_refused_to_who_named_them() {
    let mut world = World::new();
    let both = world.core.subscribe(Rows::of("orders", [1, 2]));
    let first = world.core.subscribe(Rows::of("orders", [1]));
    let product = world.core.subscribe(Rows::products([1]));
    world.open();
    let of_product = r#"{"action":"SNAPSHOT","version":3,"product":{"productId":1,"productName":"Lamp"}}"#;
    world.hear(&[EPOCH, &row("SNAPSHOT", 1, 5), &row("SNAPSHOT", 2, 6), &ok(1), of_product, &ok(2)]);
    for follower in [both, first, product] {
        world.told(follower);
    }
    renew(&mut world, "narrow");
    world.hear(&[r#"{"unsubscribed":[2],"table":"orders"}"#, r#"{"unsubscribed":[1]}"#, &ok(3)]);
    assert_eq!(world.told(both), ["2 0 Absent", "Refused forbidden"]);
    assert_eq!(
        (world.told(first), world.told(product)),
        (vec![], vec!["1 0 Absent".into(), "Refused forbidden".into()])
    );
    let of_orders: Vec<Key> = world.core.rows("orders").into_iter().map(|entry| entry.key).collect();
    assert_eq!((world.core.status().state, of_orders), (State::Live, vec![Key::Integer(1)]));
    assert_eq!(world.pass(60), [""; 0]);
    // It is asked for again as one that is not known.
    renew(&mut world, "wide");
    world.hear(&[&ok(4)]);
    assert_eq!((world.told(both), world.core.status().state), (vec!["Stale".into()], State::Stale));
    let again = world.pass(3);
    assert!(again.len() == 2 && again[0].contains(r#""keys":["1","2"],"versions":[5,0]"#), "{again:?}");
    world.hear(&[&row("SNAPSHOT", 2, 6), &ok(5), &no(6, "forbidden")]);
    assert_eq!(world.told(both), ["2 6 Snapshot", "Complete", "Live"]);
    // Of what is refused still it is asked for once more with the next, and for nothing else.
    renew(&mut world, "wider");
    world.hear(&[&ok(7)]);
    let again = world.pass(3);
    assert!(again.len() == 1 && again[0].contains("products"), "{again:?}");
    world.hear(&[&ok(8)]);
    renew(&mut world, "as wide");
    world.hear(&[&ok(9)]);
    assert_eq!((world.pass(3), world.core.status().state), (vec![], State::Live));
}

#[test]
fn all_rows_are_asked_for_again_where_a_new_token_grants_others() {
    let mut world = World::new();
    let (all, one) = (world.core.subscribe(Rows::all("orders")), world.core.subscribe(Rows::of("orders", [1])));
    world.open();
    world.hear(&[EPOCH, &row("SNAPSHOT", 1, 5), &row("SNAPSHOT", 3, 4), &ok(1), &ok(2)]);
    world.told(all);
    renew(&mut world, "narrow");
    world.hear(&[r#"{"unsubscribed":"*","table":"orders"}"#, &ok(3)]);
    assert_eq!(world.told(all), ["Stale"]);
    assert!(world.core.get("orders", &3.into()).is_some(), "it is shown as old until the reply");
    let again = world.pass(3);
    assert!(again[0].contains(r#""keys":"*","snapshot":true"#) && again.len() == 2, "{again:?}");
    world.hear(&[&row("SNAPSHOT", 1, 5), &ok(4), &ok(5)]);
    assert_eq!(
        (world.told(all), world.told(one).pop()),
        (vec!["3 0 Absent".into(), "Complete".into(), "Live".into()], Some("Live".into()))
    );
    // The version at which it was seen last is not one at which it is known to be away.
    let gone = world.core.subscribe(Rows::of("orders", [3]));
    assert!(world.core.commands()[0].contains(r#""keys":["3"],"snapshot":true"#));
    world.hear(&[&no(6, "forbidden")]);
    assert_eq!(world.told(gone), ["Refused forbidden", "Complete", "Live"]);
}

/// The rows that the new token does not grant are withheld from the answer to what was asked for before.
#[test]
fn all_rows_that_came_while_a_token_was_taken_may_not_be_all() {
    let mut world = World::new();
    let all = world.core.subscribe(Rows::all("orders"));
    world.open();
    renew(&mut world, "other");
    world.hear(&[EPOCH, &row("SNAPSHOT", 1, 5), &ok(1)]);
    assert_eq!(world.told(all), ["1 5 Snapshot"]);
    world.hear(&[r#"{"unsubscribed":"*","table":"orders"}"#, &ok(2)]);
    assert!(world.pass(3)[0].contains(r#""keys":"*""#));
    world.hear(&[&row("SNAPSHOT", 2, 6), &ok(3)]);
    assert_eq!(world.told(all), ["2 6 Snapshot", "1 0 Absent", "Complete", "Live"]);
}

#[test]
fn rows_that_the_token_of_another_connection_does_not_grant_are_gone() {
    let mut world = World::new();
    let orders = world.core.subscribe(Rows::of("orders", [1, 2, 3, 4]));
    world.open();
    world.hear(&[EPOCH, &row("SNAPSHOT", 1, 5), &row("SNAPSHOT", 2, 6), &row("SNAPSHOT", 3, 7), &ok(1)]);
    world.lose();
    assert!(world.open()[0].contains(r#""versions":[5,6,7,0]"#));
    world.told(orders);
    // Of the rows that are not told anew nobody can say which are as they were, and which are forbidden.
    world.hear(&[EPOCH, &row("SNAPSHOT", 3, 8), &no(2, "forbidden")]);
    assert_eq!(world.told(orders), ["3 8 Snapshot", "Refused forbidden"]);
    assert_eq!(
        world.core.commands(),
        [r#"{"command":"subscribe","table":"orders","keys":["1","2"],"snapshot":true,"epoch":"k3m","id":3}"#]
    );
    world.hear(&[&row("SNAPSHOT", 1, 5), &no(3, "forbidden")]);
    assert_eq!(world.told(orders), ["2 0 Absent", "Refused forbidden", "Complete", "Live"]);
    assert_eq!(world.core.rows("orders").len(), 2);
    world.hear(&[&row("UPDATE", 1, 9)]);
    assert_eq!((world.told(orders), world.core.commands()), (vec!["1 9 Update".into()], vec![]));
}

#[test]
fn a_row_told_by_a_subscription_under_the_token_of_before_may_be_forbidden() {
    let mut world = World::new();
    let one = world.core.subscribe(Rows::of("orders", [1]));
    world.open();
    world.hear(&[EPOCH, &row("SNAPSHOT", 1, 5), &ok(1)]);
    world.core.unsubscribe(one);
    assert_eq!((world.core.commands().len(), renew(&mut world, "narrow").len()), (1, 1));
    let again = world.core.subscribe(Rows::of("orders", [1]));
    assert!(world.core.commands()[0].ends_with(r#""id":4}"#));
    world.hear(&[&row("UPDATE", 1, 8), &ok(2), &ok(3), &no(4, "forbidden")]);
    assert!(world.core.commands()[0].ends_with(r#""keys":["1"],"snapshot":true,"epoch":"k3m","id":5}"#));
    world.hear(&[&no(5, "forbidden")]);
    assert_eq!(world.told(again), ["1 8 Update", "1 0 Absent", "Refused forbidden", "Complete", "Live"]);
}

#[test]
fn of_all_rows_nothing_is_complete_where_none_is_granted_and_what_was_shown_is_gone() {
    let mut world = World::new();
    let all = world.core.subscribe(Rows::all("orders"));
    world.open();
    world.hear(&[EPOCH, &row("SNAPSHOT", 1, 5), &ok(1)]);
    world.lose();
    world.told(all);
    world.open();
    world.hear(&[EPOCH, &no(2, "forbidden")]);
    assert_eq!(
        (world.told(all), world.core.rows("orders")),
        (vec!["1 0 Absent".into(), "Refused forbidden".into()], vec![])
    );
    assert_eq!((world.core.status().state, world.pass(60)), (State::Live, vec![]), "it is not asked for again");
    let late = world.core.subscribe(Rows::all("orders"));
    assert_eq!((world.core.commands(), world.told(late)), (vec![], vec![]));
    renew(&mut world, "wide");
    world.hear(&[&ok(3)]);
    assert!(world.pass(3)[0].contains(r#""keys":"*""#));
    world.hear(&[&row("SNAPSHOT", 1, 7), &ok(4)]);
    for follower in [all, late] {
        assert_eq!(world.told(follower), ["1 7 Snapshot", "Complete", "Live"]);
    }
}
