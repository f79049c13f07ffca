//! What a reader is told where one table alone was lost, or its versions began anew.

use std::rc::Rc;

use simd_json::Buffers;

use super::super::*;
use crate::fanout::{self, TableStandings, Value};
use crate::model::key::{Key, KeyKind};
use crate::session::command::Request;
use crate::session::epochs::Standing;
use crate::session::queue::SlowConsumerPolicy;
use crate::session::tables::end_tables;
use crate::wire::websocket::Opcode;

const ALL: u64 = 1;
const OWN: u64 = 2;

/// A session with its surroundings, and two tables beside products.
pub(super) struct Reader {
    pub(super) session: Session,
    pub(super) limits: SessionLimits,
    tables: Tables,
    standings: TableStandings,
}

fn epoch(number: u64) -> Epoch {
    Epoch::new(number).unwrap()
}

impl Reader {
    pub(super) fn new() -> Self {
        let tables = Tables::with_key([1, 2]);
        for name in ["orders", "notes"] {
            tables.add(name, KeyKind::Any).unwrap();
        }
        let queue = SendQueueLimits { frames_max: 4, bytes_max: 4096, policy: SlowConsumerPolicy::Conflate };
        let limits = SessionLimits {
            queue,
            subscriptions_max: 10,
            message_bytes_max: 1000,
            units_per_second_max: 0,
            ping_after: 25,
        };
        let standings = TableStandings::default();
        Self { session: Session::new(0, None), limits, tables, standings }
    }

    fn table(&self, name: &str) -> TableId {
        self.tables.find(name).unwrap().id
    }

    pub(super) fn subject(&self, name: &str, key: i64) -> Subject {
        self.tables.subject(self.table(name), Key::Integer(key))
    }

    pub(super) fn on(&mut self, event: Event<'_>) {
        let given = Given { now: 0, limits: &self.limits, tables: &self.tables };
        self.session.on(event, &given);
    }

    /// Gives the session's next command to the shards.
    pub(super) fn next(&mut self) -> Option<fanout::Command> {
        let standing = Standing { epoch: Some(epoch(ALL)), is_live: true, tables: None };
        let given = Given { now: 0, limits: &self.limits, tables: &self.tables };
        self.session.next_command(&standing, &given).map(|(command, _)| command)
    }

    /// Has the session say what a new grant ended.
    pub(super) fn say(&mut self) -> bool {
        let given = Given { now: 0, limits: &self.limits, tables: &self.tables };
        self.session.say_unsubscribed(&given).is_some()
    }

    /// Sends a command, which the shards carry out; returns the versions that it told them.
    pub(super) fn command(&mut self, json: &str) -> Vec<u64> {
        let command = self.give(json);
        self.on(Event::Applied { number: command.number, topics: command.topics.len() });
        command.known
    }

    /// Sends a command, which the shards are yet to carry out.
    fn give(&mut self, json: &str) -> fanout::Command {
        let request = command::parse(&mut json.as_bytes().to_vec(), &mut Buffers::default(), &self.tables, None);
        let Ok(Request::Rows(command)) = request else { panic!("{request:?}") };
        self.on(Event::Command(Ok(command)));
        let tables = (self.standings != TableStandings::default()).then(|| Rc::new(self.standings.clone()));
        let standing = Standing { epoch: Some(epoch(ALL)), is_live: true, tables };
        let given = Given { now: 0, limits: &self.limits, tables: &self.tables };
        let (command, _) = self.session.next_command(&standing, &given).unwrap();
        command
    }

    /// Begins an epoch of a table, or tells whether it is live.
    fn begin(&mut self, name: &str, number: u64) {
        let table = self.table(name);
        self.standings = TableStandings::of(&[(table, epoch(number))], &[]);
        self.on(Event::TableEpoch(table, epoch(number)));
    }

    fn live(&mut self, name: &str, is_live: bool) {
        let table = self.table(name);
        self.on(Event::TableLive(table, is_live));
    }

    /// Pushes a change, or conflates all that wait if there is no room for it.
    pub(super) fn push(&mut self, name: &str, key: i64, version: u64) {
        let subject = self.subject(name, key);
        let frame = || Frame::new(Opcode::Text, format!("{name} {key} at {version}").as_bytes());
        let given = Given { now: 0, limits: &self.limits, tables: &self.tables };
        if !self.session.push(&subject, &FrameRun::one(version, frame()), &self.limits) {
            self.session.push_by_policy(&subject, version, frame(), &given);
        }
    }

    /// Answers all pulls with rows of this version.
    fn answer_pulls(&mut self, version: u64) -> usize {
        let pulls = self.session.next_pulls(&self.limits);
        let count = pulls.len();
        for pull in pulls {
            let frame = Frame::new(Opcode::Text, format!("row at {version}").as_bytes());
            let value = Value::Present { version, frame };
            self.on(Event::Pulled(Pulled { subject: pull.subject, number: pull.number, value }));
        }
        count
    }

    /// Answers all pulls with rows of this version, a few at a time, and takes what is told until there are none.
    fn told_of_pulls(&mut self, version: u64) -> Vec<String> {
        const ROUNDS_MAX: usize = 100;
        let mut told = Vec::new();
        for _ in 0..ROUNDS_MAX {
            if self.answer_pulls(version) == 0 {
                return told;
            }
            told.extend(self.told());
        }
        panic!("pulls without end: {told:?}");
    }

    /// Takes what waits.
    pub(super) fn told(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        while self.session.has_output() {
            let mut slices = [IoSlice::new(&[]); 16];
            let used = self.session.fill(&mut slices);
            let mut bytes: &[u8] = &slices[..used].iter().flat_map(|slice| slice.to_vec()).collect::<Vec<u8>>();
            let taken = bytes.len();
            while let [_, length, rest @ ..] = bytes {
                let (text, after) = rest.split_at(usize::from(*length));
                told.push(String::from_utf8(text.to_vec()).unwrap());
                bytes = after;
            }
            self.session.taken(taken);
        }
        told
    }
}

#[test]
fn a_table_that_is_lost_is_told_once_to_those_who_are_subscribed_to_it() {
    let (mut reader, mut other) = (Reader::new(), Reader::new());
    reader.command(r#"{"command":"subscribe","table":"orders","keys":[1]}"#);
    other.command(r#"{"command":"subscribe","table":"notes","keys":"*"}"#);
    other.command(r#"{"command":"subscribe","productIDs":[1]}"#);
    for reader in [&mut reader, &mut other] {
        for is_live in [false, false, true, true] {
            reader.live("orders", is_live);
        }
    }
    assert_eq!(reader.told(), [r#"{"live":false,"table":"orders"}"#, r#"{"live":true,"table":"orders"}"#]);
    assert_eq!(other.told(), [""; 0]);
    reader.command(r#"{"command":"unsubscribe","table":"orders","keys":"*"}"#);
    reader.live("orders", false);
    assert_eq!(reader.told(), [""; 0]);
}

#[test]
fn who_subscribes_while_the_table_is_lost_is_told_so() {
    let mut reader = Reader::new();
    reader.standings = TableStandings::of(&[], &[reader.table("orders")]);
    reader.command(r#"{"command":"subscribe","table":"notes","keys":[1]}"#);
    assert_eq!(reader.told(), [""; 0]);
    reader.command(r#"{"command":"subscribe","table":"orders","keys":[1],"snapshot":true}"#);
    assert_eq!(reader.told(), [r#"{"live":false,"table":"orders"}"#, r#"{"epoch":"1"}"#]);
    reader.live("orders", true);
    assert_eq!(reader.told(), [""; 0], "its state has not come");
    assert_eq!(reader.answer_pulls(7), 1);
    assert_eq!(reader.told(), ["row at 7", r#"{"live":true,"table":"orders"}"#]);
}

/// Versions of rows that it knows are of the epoch before, and those that come are not above them.
#[test]
fn who_compares_versions_is_told_the_epoch_of_a_table_that_it_follows_without_states() {
    let mut reader = Reader::new();
    reader.command(r#"{"command":"subscribe","table":"orders","keys":[1],"snapshot":true}"#);
    reader.answer_pulls(7);
    reader.command(r#"{"command":"unsubscribe","table":"orders","keys":"*"}"#);
    reader.told();
    reader.begin("orders", OWN);
    assert_eq!(reader.told(), [""; 0], "it is subscribed to no row");
    reader.command(r#"{"command":"subscribe","table":"orders","keys":[1]}"#);
    assert_eq!(reader.told(), [r#"{"epoch":"2","table":"orders"}"#]);
    let mut other = Reader::new();
    other.standings = reader.standings.clone();
    other.command(r#"{"command":"subscribe","table":"orders","keys":[1]}"#);
    assert_eq!(other.told(), [""; 0], "it compares none yet");
    other.command(r#"{"command":"subscribe","productIDs":[1],"snapshot":true}"#);
    assert_eq!(other.told()[..2], [r#"{"epoch":"1"}"#, r#"{"epoch":"2","table":"orders"}"#]);
}

/// A deletion, say: its shard has forgotten the row, and nothing is told of it in the new epoch.
#[test]
fn a_row_whose_change_is_of_an_epoch_that_is_over_is_asked_for_by_who_is_told_of_all() {
    for states in ["", r#","snapshot":true"#] {
        for is_of_table in [false, true] {
            let mut reader = Reader::new();
            reader.command(r#"{"command":"subscribe","productIDs":[1],"snapshot":true}"#);
            reader.answer_pulls(7);
            reader.command(&format!(r#"{{"command":"subscribe","table":"orders","keys":"*"{states}}}"#));
            reader.command(r#"{"command":"subscribe","table":"notes","keys":[1]}"#);
            reader.told();
            for name in ["orders", "notes"] {
                reader.push(name, 1, 8);
            }
            if is_of_table {
                reader.begin("orders", OWN);
            } else {
                reader.on(Event::Epoch(epoch(OWN)));
            }
            let pulled: Vec<Subject> =
                reader.session.next_pulls(&reader.limits).into_iter().map(|pull| pull.subject).collect();
            assert!(pulled.contains(&reader.subject("orders", 1)), "{states} {is_of_table}: {pulled:?}");
            let told = reader.told();
            assert!(!told.contains(&"orders 1 at 8".to_owned()), "{told:?}");
        }
    }
}

#[test]
fn a_return_that_waits_behind_changes_that_give_way_is_told_after_their_states() {
    let mut reader = Reader::new();
    reader.command(r#"{"command":"subscribe","table":"orders","keys":[1,2,3,4,5]}"#);
    reader.live("orders", false);
    reader.told();
    reader.push("orders", 1, 1);
    reader.live("orders", true);
    (2..=5).for_each(|key| reader.push("orders", key, 1));
    let told = reader.told();
    assert!(!told.iter().any(|it| it.contains("live")), "{told:?}");
    let told = reader.told_of_pulls(9);
    assert_eq!((told.len(), told.last().unwrap().as_str()), (6, r#"{"live":true,"table":"orders"}"#));
}

#[test]
fn a_return_that_did_not_last_is_not_told() {
    let mut reader = Reader::new();
    reader.command(r#"{"command":"subscribe","table":"orders","keys":[1]}"#);
    reader.live("orders", false);
    reader.live("orders", true);
    reader.live("orders", false);
    assert_eq!(reader.told(), [r#"{"live":false,"table":"orders"}"#]);
}

#[test]
fn the_epoch_of_a_table_makes_its_versions_void_and_no_others() {
    let mut reader = Reader::new();
    reader.command(r#"{"command":"subscribe","table":"orders","keys":[1],"snapshot":true}"#);
    reader.command(r#"{"command":"subscribe","table":"notes","keys":[1],"snapshot":true}"#);
    reader.answer_pulls(5);
    reader.told();
    reader.push("orders", 1, 6);
    reader.push("notes", 1, 7);
    reader.begin("orders", OWN);
    reader.push("orders", 1, 1);
    let told = reader.told();
    assert_eq!(told, [r#"{"skipped":1}"#, "notes 1 at 7", r#"{"epoch":"2","table":"orders"}"#, "orders 1 at 1"]);
    reader.begin("orders", OWN);
    assert_eq!(reader.told(), [""; 0], "it was told");
}

#[test]
fn a_state_that_gave_way_in_the_epoch_before_is_fresh_at_any_version_of_the_next() {
    let mut reader = Reader::new();
    reader.command(r#"{"command":"subscribe","table":"orders","keys":[1,2,3,4,5],"snapshot":true}"#);
    reader.told_of_pulls(50);
    (1..=5).for_each(|key| reader.push("orders", key, 100 + key.unsigned_abs()));
    reader.begin("orders", OWN);
    let rows = reader.told_of_pulls(3).into_iter().filter(|it| it == "row at 3").count();
    assert_eq!(rows, 5);
}

#[test]
fn versions_are_compared_within_the_epoch_of_their_table() {
    let resume = |table: &str, epoch: &str| {
        format!(r#"{{"command":"subscribe","table":"{table}","keys":[1],"versions":[9],"epoch":"{epoch}"}}"#)
    };
    for (table, claimed, known) in
        [("orders", "2", vec![9]), ("orders", "1", vec![]), ("notes", "1", vec![9]), ("notes", "2", vec![])]
    {
        let mut reader = Reader::new();
        reader.standings = TableStandings::of(&[(reader.table("orders"), epoch(OWN))], &[]);
        assert_eq!(reader.command(&resume(table, claimed)), known, "{table} {claimed}");
        let own = if table == "orders" { Some("2") } else { (claimed != "1").then_some("1") };
        let own = own.map(|own| format!(r#"{{"epoch":"{own}","table":"{table}"}}"#));
        assert_eq!(reader.told(), [r#"{"epoch":"1"}"#.to_owned()].into_iter().chain(own).collect::<Vec<_>>());
        reader.command(&resume(table, claimed));
        assert_eq!(reader.told(), [""; 0], "epochs are told once");
    }
}

#[test]
fn an_epoch_that_began_while_nothing_of_the_table_was_subscribed_to_is_told_with_the_next_command() {
    let mut reader = Reader::new();
    let ask = r#"{"command":"subscribe","table":"orders","keys":[1],"snapshot":true}"#;
    reader.command(ask);
    reader.begin("orders", OWN);
    reader.command(r#"{"command":"unsubscribe","table":"orders","keys":"*"}"#);
    reader.command(r#"{"command":"subscribe","table":"notes","keys":[1]}"#);
    reader.told();
    reader.begin("orders", 3);
    assert_eq!(reader.told(), [""; 0]);
    reader.command(ask);
    assert_eq!(reader.told(), [r#"{"epoch":"3","table":"orders"}"#]);
}

#[test]
fn who_was_told_that_a_table_is_lost_and_comes_back_to_it_is_told_that_it_is_live() {
    let ends: [fn(&mut Reader); 3] = [
        |reader| drop(reader.command(r#"{"command":"unsubscribe","table":"orders","keys":"*"}"#)),
        |reader| drop(reader.command(r#"{"command":"unsubscribe","table":"orders","keys":[1]}"#)),
        |reader| {
            let values = reader.session.values.as_mut().unwrap();
            end_tables(&mut values.followed, |_| true);
        },
    ];
    for (place, end) in ends.into_iter().enumerate() {
        let mut reader = Reader::new();
        let follow = r#"{"command":"subscribe","table":"orders","keys":[1]}"#;
        reader.command(follow);
        reader.live("orders", false);
        assert_eq!(reader.told(), [r#"{"live":false,"table":"orders"}"#]);
        end(&mut reader);
        reader.live("orders", true);
        assert_eq!(reader.told(), [""; 0], "{place}: it shows nothing of it");
        reader.command(follow);
        assert_eq!(reader.told(), [r#"{"live":true,"table":"orders"}"#], "{place}");
        reader.command(follow);
        assert_eq!(reader.told(), [""; 0], "{place}: it was told");
    }
}

#[test]
fn who_comes_back_to_a_table_that_is_still_lost_is_told_when_it_is_live() {
    let mut reader = Reader::new();
    let follow = r#"{"command":"subscribe","table":"orders","keys":[1]}"#;
    reader.command(follow);
    reader.standings = TableStandings::of(&[], &[reader.table("orders")]);
    reader.live("orders", false);
    reader.command(r#"{"command":"unsubscribe","table":"orders","keys":"*"}"#);
    reader.told();
    reader.command(follow);
    assert_eq!(reader.told(), [""; 0], "it was told");
    reader.live("orders", true);
    assert_eq!(reader.told(), [r#"{"live":true,"table":"orders"}"#]);
}

#[test]
fn who_claims_another_epoch_of_a_table_is_told_that_of_the_server() {
    let resume = r#"{"command":"subscribe","table":"orders","keys":[1],"versions":[9],"epoch":"2"}"#;
    let all = r#"{"command":"subscribe","table":"orders","keys":"*","snapshot":true,"newest":9,"epoch":"2"}"#;
    // Those that know no row take what they are told for rows of the epoch that they keep.
    let first = r#"{"command":"subscribe","table":"orders","keys":[1],"snapshot":true,"epoch":"2"}"#;
    let first_of_all = r#"{"command":"subscribe","table":"orders","keys":"*","snapshot":true,"epoch":"2"}"#;
    for ask in [resume, all, first, first_of_all] {
        let mut reader = Reader::new();
        reader.command(r#"{"command":"subscribe","productIDs":[1],"versions":[9],"epoch":"1"}"#);
        assert_eq!(reader.told(), [r#"{"epoch":"1"}"#]);
        assert_eq!(reader.command(ask), [0; 0]);
        assert_eq!(reader.told(), [r#"{"epoch":"1","table":"orders"}"#]);
        reader.command(ask);
        assert_eq!(reader.told(), [""; 0], "it was told");
        reader.begin("orders", OWN);
        assert_eq!(reader.told(), [r#"{"epoch":"2","table":"orders"}"#]);
        reader.on(Event::Epoch(epoch(7)));
        assert_eq!(reader.told(), [r#"{"epoch":"7"}"#]);
    }
}

#[test]
fn a_claim_from_before_a_new_epoch_of_all_is_answered_by_that() {
    let mut reader = Reader::new();
    reader.command(r#"{"command":"subscribe","productIDs":[1],"snapshot":true}"#);
    reader.on(Event::Epoch(epoch(7)));
    assert_eq!(reader.told(), [r#"{"epoch":"1"}"#, r#"{"epoch":"7"}"#]);
    reader.command(r#"{"command":"subscribe","table":"orders","keys":[1],"versions":[9],"epoch":"2"}"#);
    assert_eq!(reader.told(), [""; 0], "it ended that of the table");
}

#[test]
fn an_epoch_of_all_is_that_of_every_table() {
    let mut reader = Reader::new();
    reader.standings = TableStandings::of(&[(reader.table("orders"), epoch(OWN))], &[]);
    reader.command(r#"{"command":"subscribe","table":"orders","keys":[1],"snapshot":true}"#);
    reader.told();
    reader.on(Event::Epoch(epoch(7)));
    reader.standings = TableStandings::default();
    assert_eq!(reader.told(), [r#"{"epoch":"7"}"#]);
    let resume = r#"{"command":"subscribe","table":"orders","keys":[1],"versions":[9],"epoch":"7"}"#;
    assert_eq!(reader.command(resume), [9]);
}

#[test]
fn the_newest_version_that_is_claimed_of_a_table_counts_in_its_epoch() {
    let claim = |epoch| {
        format!(r#"{{"command":"subscribe","table":"orders","keys":"*","snapshot":true,"newest":9,"epoch":"{epoch}"}}"#)
    };
    for (claimed, begins_meanwhile, epochs) in [("2", false, 3), ("1", false, 2), ("2", true, 3)] {
        let mut reader = Reader::new();
        reader.standings = TableStandings::of(&[(reader.table("orders"), epoch(OWN))], &[]);
        let number = reader.give(&claim(claimed)).number;
        if begins_meanwhile {
            reader.begin("orders", 3);
        }
        reader.on(Event::Applied { number, topics: 0 });
        let told = reader.told();
        let told_epochs: Vec<&String> = told.iter().filter(|it| it.contains("epoch")).collect();
        assert_eq!(told_epochs.len(), epochs, "{claimed} {begins_meanwhile}: {told:?}");
        assert_eq!(told_epochs[epochs - 1].contains("orders"), epochs == 2 || begins_meanwhile, "{told:?}");
    }
}

#[test]
fn an_epoch_of_one_reader_is_that_of_its_tables_too() {
    let mut reader = Reader::new();
    reader.standings = TableStandings::of(&[(reader.table("orders"), epoch(OWN))], &[]);
    reader.command(r#"{"command":"subscribe","table":"orders","keys":[1],"versions":[9],"epoch":"1"}"#);
    reader.told();
    for pull in reader.session.next_pulls(&reader.limits) {
        reader.on(Event::Pulled(Pulled { subject: pull.subject, number: pull.number, value: Value::Unreached }));
    }
    let told = reader.told();
    let own = told[0].strip_prefix(r#"{"epoch":""#).and_then(|rest| rest.strip_suffix(r#""}"#)).unwrap();
    for (claimed, known) in [("2", vec![]), (own, vec![9])] {
        let resume =
            format!(r#"{{"command":"subscribe","table":"orders","keys":[2],"versions":[9],"epoch":"{claimed}"}}"#);
        assert_eq!(reader.command(&resume), known, "{claimed}");
    }
}
