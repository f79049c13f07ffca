//! The reader's side: the messages in the bytes that the socket took, checked against what a reader may be told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::world::{Done, TOPICS, UNREACHED, World};
use crate::model::epoch::Epoch;
use crate::model::topic::testing::number_of_json;
use crate::session::close::CloseReason;
use crate::session::queue::SlowConsumerPolicy;

/// The epochs of the store are small numbers, those of one reader alone are random.
const OWN_EPOCH_MIN: u64 = 1000;

/// A frame that the socket took: where it began, its first byte, its text; and of an event its id. An event has the first
/// byte of the frame that a WebSocket would have had.
pub(super) struct Taken {
    pub(super) at: usize,
    pub(super) first: u8,
    pub(super) text: String,
    pub(super) id: Option<String>,
}

/// The event at the front of `bytes`, and its length.
fn event(at: usize, bytes: &[u8]) -> Option<(Taken, usize)> {
    let length = bytes.windows(2).position(|window| window == b"\n\n")? + 2;
    let mut taken = Taken { at, first: 0x81, text: String::new(), id: None };
    for line in str::from_utf8(&bytes[..length]).unwrap().trim_end().lines() {
        match line.split_once(": ").unwrap_or((line, "")) {
            ("data", data) => data.clone_into(&mut taken.text),
            ("id", id) => taken.id = Some(id.to_owned()),
            ("event", "close") => taken.first = 0x88,
            ("event", "ping") => taken.first = 0x89,
            (":" | "data:", "") | ("retry", _) => {}
            field => panic!("{field:?}"),
        }
    }
    Some((taken, length))
}

/// The whole frames at the front of `bytes`, and the number of bytes that follow them.
pub(super) fn frames(bytes: &[u8]) -> (Vec<Taken>, usize) {
    let (mut frames, mut at) = (Vec::new(), 0);
    while let Some(&[first, second]) = bytes[at..].first_chunk() {
        if first & 0x80 == 0 {
            let Some((taken, length)) = event(at, &bytes[at..]) else { break };
            frames.push(taken);
            at += length;
            continue;
        }
        let (length, head) = match second {
            126 if bytes.len() >= at + 4 => (usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]])), 4),
            126 => break,
            short => (usize::from(short), 2),
        };
        let Some(payload) = bytes.get(at + head..at + head + length) else { break };
        frames.push(Taken { at, first, text: String::from_utf8_lossy(payload).into_owned(), id: None });
        at += head + length;
    }
    let rest = bytes.len() - at;
    (frames, rest)
}

fn number(text: &str, name: &str) -> Option<u64> {
    text.strip_prefix(&format!(r#"{{"{name}":"#))?.split([',', '}']).next()?.parse().ok()
}

/// The content of a message.
#[derive(Debug)]
enum Told {
    /// A row: the topic and its version.
    Row(u64, u64),
    /// Topics that are absent, with versions.
    Absent(Vec<(u64, u64)>),
    Epoch(Epoch),
    Live(bool),
    Reply(usize),
    /// These are not subscribed to any more; `None`: everything is not.
    Unsubscribed(Option<Vec<u64>>),
    Other,
}

fn told(text: &str) -> Told {
    let json: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    if let Some(version) = json["v"].as_u64().or(json["s"].as_u64()) {
        Told::Row(json["p"].as_u64().unwrap(), version)
    } else if json["absent"].is_array() {
        let keys = json["absent"].as_array().unwrap().iter();
        let topics: Vec<u64> = keys.map(|key| number_of_json(json["table"].as_str(), key)).collect();
        let versions = json["versions"].as_array().unwrap().iter().filter_map(serde_json::Value::as_u64);
        let versions: Vec<u64> = versions.collect();
        assert_eq!(topics.len(), versions.len());
        Told::Absent(topics.into_iter().zip(versions).collect())
    } else if let Some(keys) = json["unsubscribed"].as_array() {
        assert!(keys.len() <= 3, "a message has not many");
        Told::Unsubscribed(Some(keys.iter().map(|key| number_of_json(json["table"].as_str(), key)).collect()))
    } else if json["unsubscribed"] == "*" {
        Told::Unsubscribed(None)
    } else if let Some(epoch) = json["epoch"].as_str() {
        Told::Epoch(epoch.parse().unwrap())
    } else if let Some(is_live) = json["live"].as_bool() {
        Told::Live(is_live)
    } else if let (Some(number), Some(true)) = (json["reply"].as_u64(), json["ok"].as_bool()) {
        Told::Reply(usize::try_from(number).unwrap())
    } else {
        Told::Other
    }
}

/// The epoch that the reader was told last.
pub(super) fn told_epoch(taken: &[u8]) -> Option<Epoch> {
    let epoch = |frame: &Taken| if let Told::Epoch(epoch) = told(&frame.text) { Some(epoch) } else { None };
    frames(taken).0.iter().filter_map(epoch).next_back()
}

/// The version of each topic that the reader was told last, in the epoch that it was told.
pub(super) fn told_versions(taken: &[u8]) -> BTreeMap<u64, u64> {
    let mut versions = BTreeMap::new();
    for frame in frames(taken).0 {
        match told(&frame.text) {
            Told::Row(topic, version) => drop(versions.insert(topic, version)),
            Told::Absent(topics) => versions.extend(topics),
            Told::Epoch(_) => versions.clear(),
            Told::Live(_) | Told::Reply(_) | Told::Unsubscribed(_) | Told::Other => {}
        }
    }
    versions
}

/// A command that asked for states, whose reply has not come: the topics of which nothing came since.
struct Asked {
    number: usize,
    topics: Vec<u64>,
    missing: Vec<u64>,
}

/// The state of a reader, as its messages make it.
#[derive(Default)]
struct Reader {
    epoch: Option<Epoch>,
    /// The version of each topic that it holds or claims to; the greatest number for one that is absent at an unknown
    /// version.
    versions: BTreeMap<u64, u64>,
    /// The greatest version of each topic that came in this epoch.
    came: BTreeMap<u64, u64>,
    asked: Vec<Asked>,
    /// The commands that asked for everything, with the topics that were named since; true where no earlier subscription
    /// may have brought them last.
    asked_for_all: Vec<(usize, BTreeMap<u64, bool>)>,
    /// The commands that end subscriptions and are not answered.
    ending: BTreeSet<usize>,
    /// The topics that an ended subscription may have named last: gone perhaps, for all that the reader knows, since it asked
    /// again before it knew of the end.
    doubtful: BTreeSet<u64>,
    /// The versions that it was owed when the source came back last.
    owed_when_live: BTreeMap<u64, u64>,
    is_lost: bool,
    /// The topics whose states it asked for, as long as it is subscribed to them.
    asking: BTreeSet<u64>,
    /// True if the history was replaced before it knew of epochs: versions of both are mixed then.
    is_mixed: bool,
    /// Rows, and topics that are absent.
    states: u64,
    /// The rows that its token reads, if it has one.
    readable: Option<BTreeSet<u64>>,
    /// The commands that changed it, until they are answered, and what is to be said before each.
    authorizing: VecDeque<(usize, BTreeSet<u64>, bool)>,
}

impl Reader {
    fn learn(&mut self, done: &Done) {
        match done {
            Done::Asked { number, topics, missing } => {
                // Versions of another epoch than the reader was told are no claim.
                for &(topic, version) in topics {
                    let held = self.versions.entry(topic).or_default();
                    // Who says that it knows none takes its claim back.
                    *held = version.unwrap_or(0).max(if *held == UNREACHED { 0 } else { *held });
                }
                // They come with the reply.
                self.owed_when_live.retain(|id, _| topics.iter().all(|(topic, _)| topic != id));
                self.asking.extend(topics.iter().map(|&(topic, _)| topic));
                let topics = topics.iter().map(|&(topic, _)| topic).collect();
                self.asked.push(Asked { number: *number, topics, missing: missing.clone() });
            }
            Done::AskedForAll(number) => self.asked_for_all.push((*number, BTreeMap::new())),
            Done::Ending(number, ends_all) => {
                self.ending.insert(*number);
                if *ends_all {
                    // The replies to these say nothing of what is gone.
                    self.asked_for_all.clear();
                }
            }
            // In an epoch of its own it is told no more of them than of others that it never claimed anything of.
            Done::Unasked(topics) => {
                self.asking.retain(|topic| !topics.contains(topic));
                self.versions.retain(|topic, version| *version != UNREACHED || !topics.contains(topic));
            }
            Done::Ended(topics) => {
                self.asking.retain(|topic| !topics.contains(topic));
                self.versions.retain(|topic, version| *version != UNREACHED || !topics.contains(topic));
                self.asked.iter_mut().for_each(|asked| asked.missing.retain(|id| !topics.contains(id)));
                self.owed_when_live.retain(|id, _| !topics.contains(id));
            }
            Done::Authorized { number, readable, ended, ends_all } => {
                self.readable = Some(readable.clone());
                self.authorizing.push_back((*number, ended.clone(), *ends_all));
            }
            Done::NewEpoch => {
                self.asked.iter_mut().for_each(|asked| asked.missing.clear());
                self.owed_when_live.clear();
                self.is_mixed |= self.epoch.is_none();
            }
            Done::Live(owed) => {
                // What a command asks for that waits still comes with its reply.
                let is_asked = |topic: &u64| {
                    !self.asked_for_all.is_empty() || self.asked.iter().any(|asked| asked.topics.contains(topic))
                };
                self.owed_when_live = owed.clone().into_iter().filter(|(topic, _)| !is_asked(topic)).collect();
            }
        }
    }

    fn take(&mut self, told: Told, is_everything_owed: bool) {
        match told {
            Told::Row(topic, version) => {
                assert!(self.reads(topic), "{topic} is told to a reader whose token does not read it");
                let before = self.came.insert(topic, version).unwrap_or(0);
                assert!(version >= before || self.epoch.is_none(), "{topic} goes from {before} back to {version}");
                self.hold(topic, version);
            }
            Told::Absent(topics) => {
                for (topic, version) in topics {
                    assert!(self.reads(topic), "{topic} is told to be absent to a reader whose token does not read it");
                    let before = self.came.get(&topic).copied().unwrap_or(0);
                    assert!(version == 0 || version >= before || self.epoch.is_none(), "{topic} is old when absent");
                    // At an unknown version it counts for the newest.
                    self.hold(topic, if version == 0 { u64::MAX } else { version });
                    // It may be the last word of a subscription that has ended, older than what the reader claims meanwhile.
                    if version == 0 && !self.ending.is_empty() {
                        self.doubtful.insert(topic);
                    }
                }
            }
            Told::Epoch(epoch) => {
                let is_first = self.epoch.replace(epoch).is_none();
                if is_first && !self.is_mixed {
                    return;
                }
                // In an epoch of its own, rows that it never claimed anything of are still right.
                let is_own = epoch.get() > OWN_EPOCH_MIN;
                self.versions.retain(|topic, _| is_own && !self.asking.contains(topic));
                self.came.clear();
                // What was missing was asked for in another history.
                self.asked.iter_mut().for_each(|asked| asked.missing.clear());
                self.owed_when_live.clear();
            }
            Told::Live(is_live) => {
                assert_eq!(is_live, self.is_lost, "it is told each once");
                self.is_lost = !is_live;
                let owed = self.owed_when_live.iter().filter(|(topic, _)| !self.doubtful.contains(topic));
                for (topic, version) in owed.filter(|_| is_live && is_everything_owed && !self.is_mixed) {
                    let held = self.versions.get(topic).copied().unwrap_or(0);
                    assert!(held >= *version, "{topic} is at {held} and not at {version} when all is live");
                }
            }
            Told::Reply(number) => {
                self.ending.remove(&number);
                if let Some((_, ended, ends_all)) = self.authorizing.pop_front_if(|(its, ..)| *its == number) {
                    assert!(ended.is_empty() && !ends_all, "{ended:?} were not said to have ended, or everything");
                }
                if let Some(place) = self.asked_for_all.iter().position(|(asked, _)| *asked == number) {
                    let (_, named) = self.asked_for_all.swap_remove(place);
                    // What was not named is gone.
                    self.versions.extend((0..TOPICS).filter(|id| !named.contains_key(id)).map(|id| (id, u64::MAX)));
                    self.doubtful.extend(named.iter().filter(|(_, is_sure)| !**is_sure).map(|(id, _)| id));
                }
                if let Some(place) = self.asked.iter().position(|asked| asked.number == number) {
                    let asked = self.asked.swap_remove(place);
                    assert_eq!(asked.missing, [] as [u64; 0], "a reply comes after the states");
                }
            }
            Told::Unsubscribed(ended) => {
                let (_, due, ends_all) = self.authorizing.front_mut().expect("a token that does not read it came");
                match ended {
                    Some(ended) => assert!(ended.iter().all(|id| due.remove(id)), "{ended:?} and not of {due:?}"),
                    None => assert!(std::mem::take(ends_all), "it was told, or was not subscribed to"),
                }
            }
            Told::Other => {}
        }
    }

    fn reads(&self, topic: u64) -> bool {
        self.readable.as_ref().is_none_or(|readable| readable.contains(&topic))
    }

    fn hold(&mut self, topic: u64, version: u64) {
        self.states += 1;
        self.doubtful.remove(&topic);
        for (asked, named) in &mut self.asked_for_all {
            named.insert(topic, self.ending.range(..*asked).next().is_none());
        }
        let held = self.versions.entry(topic).or_default();
        *held = if *held == u64::MAX { version } else { version.max(*held) };
        self.asked.iter_mut().for_each(|asked| asked.missing.retain(|id| *id != topic));
    }
}

/// Checks everything that a reader was told.
pub(super) fn check_taken(world: &World) {
    let (frames, rest) = frames(&world.taken);
    assert!(rest == 0 || world.is_gone || world.is_cut, "a frame was left unfinished");

    let closes: Vec<&Taken> = frames.iter().filter(|frame| frame.first == 0x88).collect();
    assert!(closes.len() <= 1);
    if let Some(close) = closes.first() {
        assert!(close.at == frames.last().unwrap().at && rest == 0, "nothing follows a close");
        assert!(world.closed_at.is_some());
    }
    if let Some(closed_at) = world.closed_at {
        let is_state =
            |frame: &&Taken| !matches!(told(&frame.text), Told::Other | Told::Reply(_) | Told::Unsubscribed(_));
        let late = frames.iter().filter(|frame| frame.at >= closed_at && frame.first == 0x81).filter(is_state).count();
        assert_eq!(late, 0, "changes begin after the close did");
    }
    check_answers(world, &frames);

    let is_conflating = world.limits.queue.policy == SlowConsumerPolicy::Conflate;
    let (mut reader, mut log) = (Reader::default(), world.log.iter().peekable());
    for frame in frames.iter().filter(|frame| frame.first == 0x81) {
        while let Some((_, done)) = log.next_if(|(at, _)| *at <= frame.at) {
            reader.learn(done);
        }
        let told = told(&frame.text);
        if world.session.is_event_stream() {
            let id = |version| reader.epoch.map(|epoch| format!("{epoch}-{version}"));
            let wanted = if let Told::Row(_, version) = told { id(version) } else { None };
            assert_eq!(frame.id, wanted, "rows have ids of the epoch that was told, and nothing else has one");
        }
        reader.take(told, is_conflating);
    }
    log.for_each(|(_, done)| reader.learn(done));

    if world.closed_at.is_none() && world.session.ended().is_none() {
        check_end(world, &frames, &reader);
    }
}

fn check_answers(world: &World, frames: &[Taken]) {
    let answers: Vec<&str> = frames
        .iter()
        .map(|frame| &*frame.text)
        .filter(|text| text.starts_with(r#"{"reply""#) || text.starts_with(r#"{"error""#))
        .collect();
    for (answer, expected) in answers.iter().zip(&world.answers) {
        assert!(answer.starts_with(&**expected), "{answer} instead of {expected}");
    }
    assert!(answers.len() <= world.answers.len());
    let has_ended = world.session.ended();
    let is_in_time = world.peer_closed_at.is_some_and(|second| world.closed_in == Some(second));
    let is_answered = is_in_time && !world.has_wanted_states && !world.has_unheard_token;
    if matches!(has_ended, Some(CloseReason::Peer(_))) && is_answered && !world.is_gone && !world.is_cut {
        assert_eq!(answers.len(), world.answers.len(), "every command before the peer's close is answered");
    }
    if world.closed_at.is_none() && has_ended.is_none() {
        assert_eq!(answers.len(), world.answers.len(), "every command is answered");
    }
}

/// Checks a reader that has everything that will come.
fn check_end(world: &World, frames: &[Taken], reader: &Reader) {
    let told: u64 = frames.iter().filter_map(|frame| number(&frame.text, "skipped")).sum();
    assert_eq!(told, world.skipped);
    if !world.has_asked && !world.has_new_epoch && !world.has_grant() {
        assert_eq!(reader.states + told, world.pushed, "received and skipped are all that was pushed");
    }
    assert!(world.is_live || world.subscribed.is_empty() || reader.is_lost, "it is told that the source is lost");
    assert!(!(world.is_live && reader.is_lost), "it is told that all is live");
    if world.has_asked {
        assert!(reader.epoch.is_some(), "the epoch is told");
    }
    let is_everything_owed = world.limits.queue.policy == SlowConsumerPolicy::Conflate && !reader.is_mixed;
    for topic in world.owed.iter().filter(|_| is_everything_owed) {
        let Some(row) = world.rows.get(topic) else { continue };
        let held = reader.versions.get(topic).copied().unwrap_or(0);
        if reader.doubtful.contains(topic) && (row.is_gone || held == u64::MAX) {
            continue;
        }
        assert!(held == row.version || row.is_gone && held == u64::MAX, "{topic}: {held} instead of {row:?}");
    }
}
