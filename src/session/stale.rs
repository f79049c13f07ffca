//! The topics whose newest state a reader is still to get, because their changes gave way or because it asked:
//! [`StaleSet`], pure data.
//!
//! A topic leaves it once a pull of it is answered. Topics whose changes gave way are pulled first in first out,
//! so that a hot one starves nobody; those of a command stay in a list (8 bytes each, and 8 for a version that the
//! reader knows) until they are pulled or change. The two take turns. Where a command asks for all topics, their list
//! comes in pages, each when the one before is nearly pulled. Tables take turns too, and each is pulled within bounds of
//! its own: the rows of one may not come for as long as somebody locks it.
//!
//! A [`Part`] is all that was added up to some moment: a reply, or `{"live":true}`, waits until its part is answered.

mod anew;
mod list;
mod pages;
mod parts;
mod tables;

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use smallvec::SmallVec;

use self::list::{Held, List};
use self::pages::Pages;
pub use self::parts::Part;
use self::parts::Parts;
use self::tables::StaleTables;
use crate::fanout::Pull;
use crate::model::table::TableId;
use crate::model::topic::{Subject, Subjects, Topic, WideRow};

/// The places of topics that are gone which the order may keep beside those of the others.
const GONE_PLACES_MAX: usize = 32;

/// The topics that are to be pulled, and those whose pulls are under way.
#[derive(Debug, Default)]
pub struct StaleSet {
    /// The topics whose changes gave way, and those that are pulled.
    stale_by_topic: HashMap<Topic, Stale>,
    /// The tables of these.
    tables: StaleTables,
    /// The topics that wait in lists, in their order.
    lists: VecDeque<List>,
    listed: usize,
    /// The number of those in lists that are held.
    held: usize,
    /// The lists of all topics that are to come.
    pages: Pages,
    is_turn_of_lists: bool,
    /// The number of the next place or pull.
    next_number: u32,
    parts: Parts,
}

/// The content of an answer, as far as it decides whether the topic is still stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The version that the reader knows is the newest.
    Same,
    /// The topic's state at this version; 0 if that is not known.
    State(u64),
    /// It is not subscribed to.
    Ended,
}

/// The meaning of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// It ends the topic's staleness.
    Fresh,
    /// The same, and a change that gave way never comes.
    Lost,
    /// Something else is wanted: the topic waits again, and the answer is not for the reader.
    Again,
    /// It belongs to no pull that is under way.
    Void,
}

/// One topic.
#[derive(Clone, Debug)]
struct Stale {
    /// The row of a wide topic.
    row: Option<Arc<WideRow>>,
    /// The version that the reader knows.
    known: u64,
    /// The newest version that gave way; 0 if none did.
    newest: u64,
    /// The number of its place while it waits, and of its pull afterwards.
    number: u32,
    part: Part,
    is_pulled: bool,
    /// True if the state is to come, since the reader asked for it without knowing one.
    is_asked: bool,
    /// True if a subscription to it came after its pull, which may have found none.
    is_renewed: bool,
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<(Topic, Stale)>() <= 56, "what a stale topic takes beside its place");

impl StaleSet {
    /// Returns whether nothing is stale.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stale_by_topic.is_empty() && self.listed == 0 && self.pages.is_empty()
    }

    /// Returns the number of topics that wait in lists.
    #[must_use]
    pub const fn listed(&self) -> usize {
        self.listed
    }

    /// Returns the tables of what is stale or waits in lists, and of each the number of pulls that are under way.
    #[must_use]
    pub fn tables(&self) -> SmallVec<[(TableId, usize); 1]> {
        let mut tables: SmallVec<_> = self.tables.stale().collect();
        for list in &self.lists {
            if tables.iter().all(|(table, _)| *table != list.table()) {
                tables.push((list.table(), 0));
            }
        }
        tables
    }

    /// Returns whether a topic of these tables is to be pulled.
    #[must_use]
    pub fn has_waiting(&self, is_open: impl Fn(TableId) -> bool) -> bool {
        let is_listed = |list: &List| list.held.is_none() && is_open(list.table());
        self.tables.have_waiting(&is_open) || self.listed > self.held && self.lists.iter().any(is_listed)
    }

    /// Returns whether changes of this topic are to be noted with [`StaleSet::gave_way`], since a pull brings the
    /// newest of them.
    #[must_use]
    pub fn contains(&self, topic: Topic) -> bool {
        self.stale_by_topic.contains_key(&topic) || self.lists.iter().any(|list| list.place_of(topic).is_some())
    }

    /// Notes that changes of a topic gave way, the last of which has this version. Returns the number of those that
    /// never come, earlier ones among them: all but the newest.
    pub fn gave_way(&mut self, subject: &Subject, changes: u64, version: u64) -> u64 {
        let topic = subject.topic();
        if let Some(stale) = self.stale_by_topic.get_mut(&topic) {
            let lost = changes - 1 + u64::from(stale.newest > 0);
            stale.newest = stale.newest.max(version);
            return lost;
        }
        let listed = self.take_listed(topic).unwrap_or_else(|| {
            let part = self.parts.open();
            self.parts.add(part, 1);
            Listed { row: subject.wide().cloned(), known: 0, is_asked: false, part }
        });
        let number = take_number(&mut self.next_number);
        let Listed { row, known, is_asked, part } = listed;
        self.stale_by_topic.insert(
            topic,
            Stale { row, known, newest: version, number, part, is_pulled: false, is_asked, is_renewed: false },
        );
        let its = self.tables.of(topic);
        its.stale += 1;
        its.waiting.push_back((topic, number));
        changes - 1
    }

    /// Adds the topics that a command asked for, with the version that the reader knows of each, 0 for none; without
    /// `versions` it knows none. Ends a part with them.
    pub fn list(&mut self, topics: Subjects, versions: Vec<u64>) -> Part {
        let part = self.parts.open();
        self.add_list(topics, versions, part);
        self.end_part()
    }

    /// Does the same, and holds the list until the shards have said which of the versions are not the newest: of a
    /// command with this number.
    pub fn list_held(&mut self, topics: Subjects, versions: Vec<u64>, number: u32) -> Part {
        let before = self.lists.len();
        let part = self.list(topics, versions);
        if self.lists.len() > before
            && let Some(list) = self.lists.back_mut()
        {
            list.held = Some(Box::new(Held { number, differing: Vec::new() }));
            self.held += list.topics.len();
        }
        part
    }

    /// Learns topics of a command whose newest versions are not those that its list has, or may not be.
    pub fn differ(&mut self, number: u32, topics: Vec<Topic>) {
        if let Some(held) = self.lists.iter_mut().filter_map(|list| list.held.as_mut()).find(|it| it.number == number) {
            if held.differing.is_empty() {
                held.differing = topics;
            } else {
                held.differing.extend(topics);
            }
        }
    }

    /// Lets the list of a command go that was held: the topics that did not differ are answered by that, unless their
    /// versions mean nothing any more.
    pub fn compared(&mut self, number: u32) {
        let is_its = |list: &List| list.held.as_ref().is_some_and(|held| held.number == number);
        let Some(place) = self.lists.iter().position(is_its) else { return };
        let list = &mut self.lists[place];
        let Some(held) = list.held.take() else { return };
        let (part, waited) = (list.part, list.len());
        self.held -= waited;
        if !list.versions.is_empty() {
            list.keep(held.differing);
        }
        let left = list.len();
        if left == 0 {
            self.lists.remove(place);
        }
        let answered = waited - left;
        self.listed -= answered;
        // Where all had left, the part may be gone.
        if answered > 0 {
            self.parts.leave(part, answered);
        }
        self.give_memory_back();
    }

    /// Ends the part that is open, and returns it.
    pub fn end_part(&mut self) -> Part {
        self.parts.end()
    }

    /// Returns whether all of this part, and of those before it, is answered.
    #[must_use]
    pub const fn is_answered(&self, part: Part) -> bool {
        self.parts.is_answered(part)
    }

    /// Takes the topic whose turn it is to be pulled, if any of these tables waits.
    pub fn next_pull(&mut self, is_open: impl Fn(TableId) -> bool) -> Option<Pull> {
        self.is_turn_of_lists = !self.is_turn_of_lists;
        if self.is_turn_of_lists {
            self.pull_listed(&is_open).or_else(|| self.pull_waiting(&is_open))
        } else {
            self.pull_waiting(&is_open).or_else(|| self.pull_listed(&is_open))
        }
    }

    /// Learns the answer to the pull with this number.
    pub fn answered(&mut self, topic: Topic, number: u32, told: Told) -> Answered {
        let Entry::Occupied(mut occupied) = self.stale_by_topic.entry(topic) else { return Answered::Void };
        let stale = occupied.get_mut();
        if !stale.is_pulled || stale.number != number {
            return Answered::Void;
        }
        self.tables.of(topic).pulled -= 1;
        let is_fresh = match told {
            Told::Same => !stale.is_asked && stale.newest <= stale.known,
            Told::State(version) => version == 0 || version >= stale.newest,
            Told::Ended => !stale.is_renewed,
        };
        if !is_fresh {
            if told != Told::Ended {
                // A claim that was looked at needs no second look: the state is wanted.
                stale.known = 0;
            }
            self.wait_again(topic);
            return Answered::Again;
        }
        let (part, is_lost) = (stale.part, told == Told::Ended && stale.newest > 0);
        occupied.remove();
        self.tables.of(topic).stale -= 1;
        self.parts.leave_one(part);
        self.give_memory_back();
        if is_lost { Answered::Lost } else { Answered::Fresh }
    }

    /// Lets a topic whose answer found no room wait again, behind all others; returns whether it was pulled with this
    /// number.
    pub fn put_back(&mut self, topic: Topic, number: u32) -> bool {
        let is_pulled = self.is_pulled(topic, number);
        if is_pulled {
            self.tables.of(topic).pulled -= 1;
            self.wait_again(topic);
        }
        is_pulled
    }

    /// Returns whether the pull of a topic with this number is under way.
    #[must_use]
    pub fn is_pulled(&self, topic: Topic, number: u32) -> bool {
        let is_pulled = |stale: &Stale| stale.is_pulled && stale.number == number;
        self.stale_by_topic.get(&topic).is_some_and(is_pulled)
    }

    /// Learns that topics are subscribed to from here on. Where changes of an earlier subscription gave way, a pull may be
    /// under way that comes before this one, and is answered by its absence.
    pub fn renew(&mut self, topics: &[Topic]) {
        if self.tables.stale().all(|(_, pulled)| pulled == 0) {
            return;
        }
        for topic in topics {
            if let Some(stale) = self.stale_by_topic.get_mut(topic) {
                stale.is_renewed = stale.is_pulled;
            }
        }
    }

    /// Forgets a topic that is not subscribed to; returns whether a change that gave way never comes.
    pub fn remove(&mut self, topic: Topic) -> bool {
        if let Some(listed) = self.take_listed(topic) {
            self.parts.leave_one(listed.part);
            self.give_memory_back();
        }
        let Some(stale) = self.stale_by_topic.remove(&topic) else { return false };
        let its = self.tables.of(topic);
        its.stale -= 1;
        its.pulled -= usize::from(stale.is_pulled);
        self.parts.leave_one(stale.part);
        if its.waiting.len() > 2 * its.stale + GONE_PLACES_MAX {
            let stale_by_topic = &self.stale_by_topic;
            its.waiting.retain(|(topic, number)| {
                stale_by_topic.get(topic).is_some_and(|stale| !stale.is_pulled && stale.number == *number)
            });
        }
        self.give_memory_back();
        stale.newest > 0
    }

    /// Forgets all rows of a table. Returns the number of changes that gave way and never come.
    pub fn clear(&mut self, table: TableId) -> u64 {
        self.end_pages(table);
        self.retain(|topic, _| topic.table() != table)
    }

    /// Forgets all rows but those that stay, which are told with their rows if they are wide. Returns the number of changes
    /// that gave way and never come.
    pub fn retain(&mut self, mut stays: impl FnMut(Topic, Option<&WideRow>) -> bool) -> u64 {
        let (mut given_up, mut parts) = (0, Vec::new());
        self.stale_by_topic.retain(|topic, stale| {
            let stays = stays(*topic, stale.row.as_deref());
            if !stays {
                given_up += u64::from(stale.newest > 0);
                parts.push(stale.part);
            }
            stays
        });
        for place in (0..self.lists.len()).rev() {
            let list = &mut self.lists[place];
            let (part, is_held, gone) = (list.part, list.held.is_some(), list.leave_all_but(&mut stays));
            self.listed -= gone;
            self.held -= if is_held { gone } else { 0 };
            parts.resize(parts.len() + gone, part);
            if !is_held && list.have_all_left() {
                self.lists.remove(place);
            }
        }
        for part in parts {
            self.parts.leave_one(part);
        }
        self.tables.count(&self.stale_by_topic);
        self.is_turn_of_lists &= !self.is_empty();
        self.give_memory_back();
        given_up
    }

    fn add_list(&mut self, topics: Subjects, versions: Vec<u64>, part: Part) {
        let list = List::new(topics, versions, part);
        if list.topics.is_empty() {
            return;
        }
        self.parts.add(part, list.topics.len());
        self.listed += list.topics.len();
        self.lists.push_back(list);
    }

    /// Takes a topic out of all lists; it counts for the oldest of their parts then.
    fn take_listed(&mut self, topic: Topic) -> Option<Listed> {
        let mut taken: Option<Listed> = None;
        for place in 0..self.lists.len() {
            let list = &mut self.lists[place];
            let Some((row, known)) = list.take(topic) else { continue };
            let part = list.part;
            self.listed -= 1;
            self.held -= usize::from(self.lists[place].held.is_some());
            if let Some(other) = &mut taken {
                other.is_asked |= known == 0 || known != other.known;
                other.known = other.known.max(known);
                let newer = if part.is_before(other.part) { std::mem::replace(&mut other.part, part) } else { part };
                self.parts.leave_one(newer);
            } else {
                taken = Some(Listed { row, known, is_asked: known == 0, part });
            }
        }
        taken
    }

    fn pull_waiting(&mut self, is_open: &impl Fn(TableId) -> bool) -> Option<Pull> {
        for its in self.tables.in_turn(is_open) {
            while let Some((topic, number)) = its.waiting.pop_front() {
                if let Some(stale) = self.stale_by_topic.get_mut(&topic)
                    && !stale.is_pulled
                    && stale.number == number
                {
                    stale.is_pulled = true;
                    its.pulled += 1;
                    let subject = Subject::new(topic, stale.row.as_ref());
                    return Some(Pull { subject, known: stale.known, number });
                }
            }
        }
        None
    }

    fn pull_listed(&mut self, is_open: &impl Fn(TableId) -> bool) -> Option<Pull> {
        let is_next = |list: &List| list.held.is_none() && is_open(list.table());
        while let Some(place) = self.lists.iter().position(is_next) {
            let list = &mut self.lists[place];
            let part = list.part;
            let next = list.pop();
            if list.topics.is_empty() {
                self.lists.remove(place);
            }
            let Some((subject, known)) = next else { continue };
            self.listed -= 1;
            let wanted = self.pull_at_once(subject, known, part);
            if wanted.is_some() {
                return wanted;
            }
        }
        None
    }

    /// Pulls a topic from a list, unless a pull of it is under way whose answer serves as well.
    fn pull_at_once(&mut self, subject: Subject, known: u64, part: Part) -> Option<Pull> {
        let is_asked = known == 0;
        match self.stale_by_topic.entry(subject.topic()) {
            Entry::Occupied(mut occupied) => {
                let stale = occupied.get_mut();
                let serves = stale.is_pulled && known <= stale.known;
                let (before, after) = (stale.part, if part.is_before(stale.part) { part } else { stale.part });
                self.tables.of(subject.topic()).pulled += usize::from(!stale.is_pulled);
                stale.is_pulled = true;
                // Of two claims that differ, one is not answered by the other's being the newest.
                stale.is_asked |= is_asked || known != stale.known;
                stale.known = stale.known.max(known);
                stale.part = after;
                if !serves {
                    stale.number = take_number(&mut self.next_number);
                    stale.is_renewed = false;
                }
                let wanted = Pull { subject, known: stale.known, number: stale.number };
                // It is in one part, and was counted in two.
                self.parts.leave_one(if after == before { part } else { before });
                (!serves).then_some(wanted)
            }
            Entry::Vacant(vacant) => {
                let number = take_number(&mut self.next_number);
                let row = subject.wide().cloned();
                let stale = Stale { row, known, newest: 0, number, part, is_pulled: true, is_asked, is_renewed: false };
                vacant.insert(stale);
                let its = self.tables.of(subject.topic());
                (its.stale, its.pulled) = (its.stale + 1, its.pulled + 1);
                Some(Pull { subject, known, number })
            }
        }
    }

    /// Gives a topic a new place, behind all others.
    fn wait_again(&mut self, topic: Topic) {
        let number = take_number(&mut self.next_number);
        let stale = self.stale_by_topic.get_mut(&topic).expect("only what is stale waits again");
        (stale.is_pulled, stale.is_renewed, stale.number) = (false, false, number);
        self.tables.of(topic).waiting.push_back((topic, number));
    }

    fn give_memory_back(&mut self) {
        if self.is_empty() {
            self.stale_by_topic = HashMap::new();
            self.tables = StaleTables::default();
            self.lists = VecDeque::new();
        }
    }
}

/// A topic that was taken out of the lists before its turn.
#[derive(Debug)]
struct Listed {
    row: Option<Arc<WideRow>>,
    known: u64,
    is_asked: bool,
    part: Part,
}

fn take_number(next: &mut u32) -> u32 {
    let number = *next;
    *next = next.wrapping_add(1);
    number
}

#[cfg(test)]
mod tests;
