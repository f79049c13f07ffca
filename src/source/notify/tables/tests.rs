use super::*;
use crate::model::key::KeyKind;
use crate::store::postgres::tables::HiddenColumns;

const ALL: [&str; 3] = ["00_rowcast", "zz_rowcast", "zz_rowcast_truncate"];

fn epoch(number: u64) -> Epoch {
    Epoch::new(number).unwrap()
}

fn table() -> InstalledTable {
    InstalledTable {
        name: "orders".into(),
        given_key: None,
        oid: 7,
        id: 1,
        qualified: "public.orders".into(),
        key: "id".into(),
        kind: KeyKind::Uuid,
        hidden: HiddenColumns::new([]),
    }
}

/// A table that is live, with these columns in this file.
fn seen(columns: &str, file: u32) -> TableLook {
    let look = serde_json::json!({"oid": 7, "file": file, "columns": columns, "key": "1 id", "triggers": "on",
        "off": null, "noted": null, "epoch": null});
    serde_json::from_value(look).unwrap()
}

/// The look, as it was noted in this epoch.
fn noted(look: &TableLook, as_seen: &TableLook, epoch: Option<u64>) -> TableLook {
    let fields = serde_json::json!({"noted": as_seen.seen.text(), "epoch": epoch});
    let epoch = serde_json::from_value::<TableLook>(fields).unwrap();
    TableLook { seen: look.seen.clone(), off: look.off.clone(), ..epoch }
}

fn off(names: &[&str], word: &str) -> TableLook {
    let off: Vec<String> = names.iter().map(|name| format!("{name} is {word}")).collect();
    let look = serde_json::json!({"oid": 7, "file": 1, "columns": "a", "key": "1 id", "off": off.join(", ")});
    serde_json::from_value(look).unwrap()
}

fn begins(conclusion: &Conclusion) -> Option<bool> {
    match &conclusion.step {
        Some(Step::Note(note)) => Some(note.begins),
        _ => None,
    }
}

/// A table that a server has found as it was noted.
fn watched() -> Watched {
    let (mut watched, look) = (Watched::default(), seen("a", 1));
    assert_eq!(watched.conclude(&table(), &noted(&look, &look, None), 1, false), Conclusion::default());
    watched
}

#[test]
fn a_table_that_was_never_noted_is_live_in_the_epoch_of_all() {
    let mut watched = Watched::default();
    let concluded = watched.conclude(&table(), &seen("a", 1), 1, false);
    assert_eq!((concluded.word, begins(&concluded)), (None, Some(false)));
}

#[test]
fn one_that_is_otherwise_is_lost_then_prepared_then_noted_then_begins() {
    let mut watched = watched();
    let (before, after) = (seen("a", 1), seen("b", 1));
    let look = noted(&after, &before, None);
    let first = watched.conclude(&table(), &look, 2, false);
    assert_eq!((first.word, first.step), (Some(Word::Lost), Some(Step::Prepare)));
    watched.prepared(&look);
    let second = watched.conclude(&table(), &look, 3, false);
    assert_eq!((second.word, begins(&second)), (None, Some(true)));
    let third = watched.conclude(&table(), &noted(&after, &after, Some(9)), 4, false);
    assert_eq!((third.word, third.step), (Some(Word::Began(epoch(9))), None));
    assert_eq!(watched.conclude(&table(), &noted(&after, &after, Some(9)), 5, false), Conclusion::default());
}

#[test]
fn an_epoch_that_another_server_began_is_fed() {
    let (mut watched, look) = (watched(), seen("a", 1));
    let concluded = watched.conclude(&table(), &noted(&look, &look, Some(9)), 2, false);
    assert_eq!((concluded.word, concluded.step), (Some(Word::Began(epoch(9))), None));
    watched.epoch_of_all();
    assert_eq!(watched.conclude(&table(), &noted(&look, &look, None), 3, false), Conclusion::default());
}

#[test]
fn another_file_is_no_epoch_where_a_truncation_made_it_and_one_otherwise() {
    let (before, after) = (seen("a", 1), seen("a", 2));
    let look = noted(&after, &before, None);
    let mut truncated = watched();
    truncated.has_file(2);
    let concluded = truncated.conclude(&table(), &look, 2, false);
    assert_eq!((concluded.word, begins(&concluded)), (None, Some(false)));
    assert_eq!(truncated.conclude(&table(), &noted(&after, &after, None), 3, false), Conclusion::default());
    let rewritten = noted(&seen("a", 3), &after, None);
    assert_eq!(truncated.conclude(&table(), &rewritten, 4, false).word, Some(Word::Lost), "of that file no more");
    assert_eq!(watched().conclude(&table(), &look, 2, false).word, Some(Word::Lost));
    let mut other = watched();
    other.has_file(2);
    assert_eq!(other.conclude(&table(), &noted(&seen("b", 2), &before, None), 2, false).word, Some(Word::Lost));
}

/// Of the gaps that one transaction tells, all but the first may be dropped on the way.
#[test]
fn a_gap_ends_once_its_transaction_is_heard_whole() {
    let (mut watched, look) = (watched(), seen("a", 1));
    assert_eq!((watched.gap(), watched.gap()), (Some(Word::Lost), None));
    let conclude =
        |watched: &mut Watched, epoch, number| watched.conclude(&table(), &noted(&look, &look, epoch), number, false);
    // A look that was made meanwhile ends nothing, and begins no epoch.
    assert_eq!(conclude(&mut watched, None, 2), Conclusion::default());
    assert_eq!(conclude(&mut watched, Some(9), 3), Conclusion::default());
    assert_eq!((watched.heard_whole(), watched.heard_whole()), (Some(Word::Missed), None));
    assert_eq!(conclude(&mut watched, Some(9), 4).word, Some(Word::Began(epoch(9))));
}

#[test]
fn a_table_that_is_lost_stays_so_at_the_end_of_a_gap() {
    let (mut watched, before, after) = (watched(), seen("a", 1), seen("b", 1));
    let changed = noted(&after, &before, None);
    assert_eq!(watched.conclude(&table(), &changed, 2, false).word, Some(Word::Lost));
    assert_eq!((watched.gap(), watched.heard_whole()), (None, None));
    assert_eq!(watched.gap(), None);
    let as_noted = noted(&after, &after, Some(9));
    assert_eq!(watched.conclude(&table(), &as_noted, 3, false), Conclusion::default());
    assert_eq!(watched.heard_whole(), None);
    assert_eq!(watched.conclude(&table(), &as_noted, 4, false).word, Some(Word::Began(epoch(9))));
    // Or is lost meanwhile.
    assert_eq!(watched.gap(), Some(Word::Lost));
    assert_eq!(watched.conclude(&table(), &noted(&before, &after, Some(9)), 5, false).word, None);
    assert_eq!(watched.heard_whole(), None);
    assert_eq!(watched.conclude(&table(), &as_noted, 6, false).word, Some(Word::Missed));
}

#[test]
fn a_file_that_no_truncation_made_is_an_epoch_however_near_one_is() {
    let before = seen("a", 1);
    for files in [&[][..], &[2], &[2, 4]] {
        let mut watched = watched();
        watched.truncated(1);
        for file in files {
            watched.has_file(*file);
        }
        let concluded = watched.conclude(&table(), &noted(&seen("a", 3), &before, None), 2, false);
        assert_eq!(concluded.word, Some(Word::Lost), "{files:?}");
    }
}

#[test]
fn of_several_truncations_each_explains_its_file() {
    let (mut watched, mut before) = (watched(), seen("a", 1));
    for file in 2..5 {
        watched.has_file(file);
    }
    for (number, file) in (2..).zip(2..5) {
        let after = seen("a", file);
        let concluded = watched.conclude(&table(), &noted(&after, &before, None), number, false);
        assert_eq!((concluded.word, begins(&concluded)), (None, Some(false)), "{file}");
        before = after;
    }
    // However many they are, the newest are known.
    for file in 5..200 {
        watched.has_file(file);
    }
    assert_eq!((watched.files.len(), watched.files.back()), (FILES_MAX, Some(&199)));
}

#[test]
fn a_row_that_was_older_than_known_begins_an_epoch_of_all() {
    let (mut watched, look) = (watched(), seen("a", 1));
    let older = |watched: &mut Watched, number| watched.conclude(&table(), &noted(&look, &look, None), number, true);
    let renews = Conclusion { is_replaced: true, ..Conclusion::default() };
    assert_eq!(older(&mut watched, 2), renews);
    watched.truncated(2);
    assert_eq!(older(&mut watched, 3).word, Some(Word::Lost));
    assert_eq!(watched.conclude(&table(), &noted(&look, &look, Some(9)), 4, false).word, Some(Word::Began(epoch(9))));
    // What a truncation took is read within some looks.
    let late = watched.conclude(&table(), &noted(&look, &look, Some(9)), 13, true);
    assert_eq!(late, renews);
}

#[test]
fn a_row_that_was_older_than_known_after_a_truncation_begins_an_epoch() {
    let (mut watched, look) = (watched(), seen("a", 1));
    watched.truncated(1);
    let concluded = watched.conclude(&table(), &noted(&look, &look, None), 2, true);
    assert_eq!((concluded.word, begins(&concluded)), (Some(Word::Lost), Some(true)));
    let concluded = watched.conclude(&table(), &noted(&look, &look, Some(9)), 3, false);
    assert_eq!(concluded.word, Some(Word::Began(epoch(9))));
}

#[test]
fn what_is_gone_is_said_and_what_may_be_put_right_is() {
    let gone = serde_json::from_value::<TableLook>(serde_json::json!({})).unwrap();
    let another = TableLook { seen: serde_json::from_value(serde_json::json!({"oid": 8})).unwrap(), ..gone.clone() };
    let no_key = serde_json::from_value(serde_json::json!({"oid": 7, "triggers": "on"})).unwrap();
    let unmigrated =
        TableLook { seen: serde_json::from_value(serde_json::json!({"oid": 7})).unwrap(), ..off(&ALL, "missing") };
    for (look, says, prepares) in [
        (gone, "no such table", false),
        (unmigrated, "taken off", false),
        (off(&ALL[..1], "off"), "00_rowcast is off; enable it", false),
        (off(&ALL[..1], "missing"), "not as it was installed", true),
        (off(&ALL, "missing"), "not as it was installed", true),
        (another, "not as it was installed", true),
        (no_key, "not as it was installed", true),
    ] {
        let concluded = watched().conclude(&table(), &look, 2, false);
        assert_eq!(concluded.word, Some(Word::Lost), "{look:?}");
        assert_eq!(concluded.step == Some(Step::Prepare), prepares, "{look:?}");
        assert!(concluded.obstacle.as_ref().is_some_and(|told| told.contains(says)), "{concluded:?}");
    }
}

#[test]
fn one_that_comes_back_as_it_was_is_healed_in_its_epoch() {
    let (mut watched, look) = (watched(), seen("a", 1));
    let gone = serde_json::from_value::<TableLook>(serde_json::json!({})).unwrap();
    assert_eq!(watched.conclude(&table(), &gone, 2, false).word, Some(Word::Lost));
    assert_eq!(watched.conclude(&table(), &gone, 3, false).word, None, "that is fed once");
    let back = watched.conclude(&table(), &noted(&look, &look, None), 4, false);
    assert_eq!(back, Conclusion { word: Some(Word::Missed), ..Conclusion::default() });
}

#[test]
fn every_part_of_what_a_table_is_counts() {
    let before = seen("a", 1);
    for (part, other) in
        [("columns", "b".into()), ("key", "2 id".into()), ("triggers", "again".into()), ("file", serde_json::json!(2))]
    {
        let mut look = serde_json::json!({"oid": 7, "file": 1, "columns": "a", "key": "1 id", "triggers": "on"});
        look[part] = other;
        let after = serde_json::from_value::<TableLook>(look).unwrap();
        let concluded = watched().conclude(&table(), &noted(&after, &before, None), 2, false);
        assert_eq!((concluded.word, concluded.step), (Some(Word::Lost), Some(Step::Prepare)), "{part}");
    }
}

#[test]
fn an_epoch_of_the_table_that_is_gone_begins_another() {
    let (mut watched, look) = (watched(), seen("a", 1));
    watched.conclude(&table(), &noted(&look, &look, Some(9)), 2, false);
    let concluded = watched.conclude(&table(), &noted(&look, &look, None), 3, false);
    assert_eq!((concluded.word, begins(&concluded)), (Some(Word::Lost), Some(true)));
}

#[test]
fn one_whose_rows_cannot_be_read_is_lost_until_they_can_be() {
    let (mut watched, look) = (watched(), seen("a", 1));
    let look = noted(&look, &look, None);
    watched.unreadable();
    for (number, word) in [(2, Some(Word::Lost)), (3, None)] {
        let concluded = watched.conclude(&table(), &look, number, false);
        assert_eq!((concluded.word, concluded.step), (word, Some(Step::Try)));
        assert!(concluded.obstacle.is_some_and(|obstacle| obstacle.contains("cannot be read")));
    }
    watched.readable();
    let concluded = watched.conclude(&table(), &look, 4, false);
    assert_eq!(concluded, Conclusion { word: Some(Word::Missed), ..Conclusion::default() });
    assert_eq!(watched.conclude(&table(), &look, 5, false), Conclusion::default());
}
