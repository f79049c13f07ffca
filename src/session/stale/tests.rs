use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::fanout::{Page, PageWish, Place};
use crate::model::product::ProductId;
use crate::model::topic::testing::{TABLE, subject, topic as id};

/// The same set, which looks at everything each time.
#[derive(Debug, Default)]
struct Model {
    stale: Vec<ModelStale>,
    listed: Vec<ModelListed>,
    /// The marks that wait for lists of all topics.
    lists_of_all: Vec<u64>,
    is_turn_of_lists: bool,
    /// The number of marks, and of places given.
    marks: u64,
    places: u64,
    /// The number of the set's first pull or place.
    first_number: u32,
}

/// A topic in a list.
#[derive(Clone, Copy, Debug)]
struct ModelListed {
    topic: Topic,
    known: u64,
    /// The mark that waits for it.
    mark: u64,
    /// The command that holds its list.
    held_by: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
struct ModelStale {
    topic: Topic,
    known: u64,
    newest: u64,
    is_asked: bool,
    mark: u64,
    /// The place in the order, or the number of the pull.
    state: State,
    /// The pull before the last subscription to it.
    older_pull: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Waits(u64),
    Pulled(u32),
}

impl Model {
    fn find(&mut self, topic: Topic) -> Option<&mut ModelStale> {
        self.stale.iter_mut().find(|stale| stale.topic == topic)
    }

    fn place(&mut self) -> State {
        self.places += 1;
        State::Waits(self.places)
    }

    fn gave_way(&mut self, topic: Topic, changes: u64, version: u64) -> u64 {
        let (state, mark) = (self.place(), self.marks);
        if let Some(stale) = self.find(topic) {
            let lost = changes - u64::from(stale.newest == 0);
            stale.newest = version.max(stale.newest);
            return lost;
        }
        let (claims, marks) = self.take_listed(topic);
        let known = claims.iter().copied().max().unwrap_or(0);
        let is_asked = claims.iter().any(|&claim| claim == 0 || claim != known);
        let mark = marks.into_iter().min().unwrap_or(mark);
        self.stale.push(ModelStale { topic, known, newest: version, is_asked, mark, state, older_pull: None });
        changes - 1
    }

    /// Takes a topic out of the lists: the versions that are claimed of it, and the marks that wait for it.
    fn take_listed(&mut self, topic: Topic) -> (Vec<u64>, Vec<u64>) {
        let is_it = |listed: &&ModelListed| listed.topic == topic;
        let taken = self.listed.iter().filter(is_it).map(|listed| (listed.known, listed.mark)).unzip();
        self.listed.retain(|listed| !is_it(&listed));
        taken
    }

    /// Adds a list: each topic once, by its id, with the greatest of its versions.
    fn list(&mut self, topics: &[(Topic, u64)], mark: u64, held_by: Option<u32>) {
        let mut versions = BTreeMap::new();
        for &(topic, version) in topics {
            let known: &mut u64 = versions.entry(topic).or_default();
            *known = version.max(*known);
        }
        let listed = |(topic, known)| ModelListed { topic, known, mark, held_by };
        self.listed.extend(versions.into_iter().map(listed));
    }

    /// A command has been carried out, and these topics differ.
    fn compared(&mut self, number: u32, differing: &[Topic]) {
        let is_its = |listed: &ModelListed| listed.held_by == Some(number);
        self.listed.retain(|listed| !is_its(listed) || listed.known == 0 || differing.contains(&listed.topic));
        self.listed.iter_mut().filter(|listed| is_its(listed)).for_each(|listed| listed.held_by = None);
    }

    fn is_answered(&self, mark: u64) -> bool {
        let marks = self.listed.iter().map(|listed| listed.mark).chain(self.lists_of_all.iter().copied());
        self.stale.iter().all(|stale| stale.mark > mark) && marks.into_iter().all(|its| its > mark)
    }

    fn oldest_mark(&self) -> u64 {
        (0..self.marks).find(|&mark| !self.is_answered(mark)).unwrap_or(self.marks)
    }

    /// The next pull: the topic and the known version. `number` is the number of the pull.
    fn next_pull(&mut self, number: impl Fn() -> Option<u32>) -> Option<(Topic, u64)> {
        self.is_turn_of_lists = !self.is_turn_of_lists;
        let mut pulled = if self.is_turn_of_lists { self.pull_listed(&number) } else { None };
        pulled = pulled.or_else(|| self.pull_waiting(&number));
        pulled.or_else(|| self.pull_listed(&number))
    }

    fn pull_waiting(&mut self, number: &impl Fn() -> Option<u32>) -> Option<(Topic, u64)> {
        let place = |stale: &&mut ModelStale| match stale.state {
            State::Waits(place) => place,
            State::Pulled(_) => u64::MAX,
        };
        let stale = self.stale.iter_mut().min_by_key(place).filter(|stale| matches!(stale.state, State::Waits(_)))?;
        stale.state = State::Pulled(number()?);
        Some((stale.topic, stale.known))
    }

    fn pull_listed(&mut self, number: &impl Fn() -> Option<u32>) -> Option<(Topic, u64)> {
        while let Some(place) = self.listed.iter().position(|listed| listed.held_by.is_none()) {
            let ModelListed { topic, known, mark, .. } = self.listed.remove(place);
            let is_asked = known == 0;
            let Some(stale) = self.find(topic) else {
                let state = State::Pulled(number()?);
                self.stale.push(ModelStale { topic, known, newest: 0, is_asked, mark, state, older_pull: None });
                return Some((topic, known));
            };
            let before = *stale;
            stale.mark = mark.min(before.mark);
            stale.known = known.max(before.known);
            stale.is_asked |= is_asked || known != before.known;
            if !matches!(before.state, State::Pulled(_)) || known > before.known {
                stale.state = State::Pulled(number()?);
                return Some((topic, stale.known));
            }
        }
        None
    }

    fn is_pulled(&mut self, topic: Topic, number: u32) -> bool {
        self.find(topic).is_some_and(|stale| stale.state == State::Pulled(number))
    }

    fn answered(&mut self, topic: Topic, number: u32, told: Told) -> Answered {
        if !self.is_pulled(topic, number) {
            return Answered::Void;
        }
        let place = self.place();
        let stale = self.find(topic).unwrap();
        let is_fresh = match told {
            Told::Same => stale.known >= stale.newest && !stale.is_asked,
            Told::Ended => stale.older_pull != Some(number),
            Told::State(0) => true,
            Told::State(version) => version >= stale.newest,
        };
        let is_lost = told == Told::Ended && stale.newest != 0;
        stale.state = place;
        if told != Told::Ended {
            stale.known = 0;
        }
        if !is_fresh {
            return Answered::Again;
        }
        self.stale.retain(|stale| stale.topic != topic);
        if is_lost { Answered::Lost } else { Answered::Fresh }
    }

    fn renew(&mut self, topics: &[Topic]) {
        for stale in self.stale.iter_mut().filter(|stale| topics.contains(&stale.topic)) {
            if let State::Pulled(number) = stale.state {
                stale.older_pull = Some(number);
            }
        }
    }

    fn doubt(&mut self, topics: &[Topic]) {
        let mark = self.oldest_mark();
        let awaited = self.stale.iter().filter(|stale| stale.newest == 0).map(|stale| stale.topic);
        let listed = self.listed.iter().map(|listed| listed.topic);
        let topics: Vec<Topic> = topics.iter().copied().chain(awaited).chain(listed).collect();
        self.listed.clear();
        self.list(&topics.iter().map(|&topic| (topic, 0)).collect::<Vec<_>>(), mark, None);
        self.stale.retain(|stale| stale.newest > 0);
        self.stale.iter_mut().for_each(|stale| stale.is_asked = false);
        self.pull_again();
    }

    fn begin_anew(&mut self) -> u64 {
        let lost = self.stale.iter().filter(|stale| stale.newest > 0).count();
        self.stale.iter_mut().for_each(|stale| stale.newest = 0);
        self.listed.iter_mut().for_each(|listed| listed.known = 0);
        self.pull_again();
        lost as u64
    }

    fn pull_again(&mut self) {
        let mut numbers: Vec<(u32, Topic)> = (self.stale.iter())
            .filter_map(|stale| match stale.state {
                State::Pulled(number) => Some((number.wrapping_sub(self.first_number), stale.topic)),
                State::Waits(_) => None,
            })
            .collect();
        numbers.sort_unstable();
        for (_, topic) in numbers {
            let place = self.place();
            self.find(topic).unwrap().state = place;
        }
        self.stale.iter_mut().for_each(|stale| stale.known = 0);
    }
}

#[derive(Clone, Debug)]
enum Step {
    GaveWay(u64, u64),
    List(Vec<(u64, u64)>, bool),
    /// The list of a command whose versions are compared.
    Hold(Vec<(u64, u64)>),
    /// Such a command is carried out, and these topics differ, told in two parts.
    Compared(prop::sample::Index, Vec<u64>),
    ListAll,
    /// The answer to the page that was asked for last, or to one before; perhaps the last.
    Page(Vec<u64>, bool, bool),
    EndPages,
    Mark,
    Pull(usize),
    Answer(prop::sample::Index, u64),
    PutBack(prop::sample::Index),
    Remove(u64),
    Renew(Vec<u64>),
    /// Perhaps of all topics.
    Doubt(Vec<u64>, bool),
    BeginAnew,
    Clear,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let page = prop::collection::vec(0..8_u64, 0..4);
    let listed = prop::collection::vec((0..8_u64, prop_oneof![Just(0_u64), 0..40_u64]), 0..6);
    let step = prop_oneof![
        8 => (0..8_u64, 1..4_u64).prop_map(|(topic, changes)| Step::GaveWay(topic, changes)),
        5 => (listed.clone(), any::<bool>()).prop_map(|(topics, knows_none)| Step::List(topics, knows_none)),
        4 => listed.prop_map(Step::Hold),
        5 => (any::<prop::sample::Index>(), prop::collection::vec(0..8_u64, 0..6))
            .prop_map(|(command, differing)| Step::Compared(command, differing)),
        2 => Just(Step::Mark),
        8 => (1..5_usize).prop_map(Step::Pull),
        12 => (any::<prop::sample::Index>(), 0..6_u64).prop_map(|(pull, told)| Step::Answer(pull, told)),
        2 => any::<prop::sample::Index>().prop_map(Step::PutBack),
        3 => (0..8_u64).prop_map(Step::Remove),
        4 => page.clone().prop_map(Step::Renew),
        1 => (prop::collection::vec(0..8_u64, 0..4), any::<bool>()).prop_map(|(ids, all)| Step::Doubt(ids, all)),
        1 => Just(Step::BeginAnew),
        1 => Just(Step::Clear),
        2 => Just(Step::ListAll),
        8 => (page, prop::bool::weighted(0.3), prop::bool::weighted(0.1))
            .prop_map(|(ids, is_last, is_late)| Step::Page(ids, is_last, is_late)),
        1 => Just(Step::EndPages),
    ];
    prop::collection::vec(step, 0..120)
}

/// A set and its model, which take the same steps.
#[derive(Default)]
struct Pair {
    set: StaleSet,
    model: Model,
    version: u64,
    /// The pulls that are not answered, those that mean nothing any more among them.
    pulls: Vec<Pull>,
    marks: Vec<(Part, u64)>,
    /// The commands that hold lists, with the topics whose versions are not known.
    commands: Vec<(u32, Vec<Topic>)>,
    next_command: u32,
    /// The pages that were asked for; the last may be answered.
    pages: Vec<PageWish>,
}

impl Pair {
    fn step(&mut self, step: Step) {
        match step {
            Step::GaveWay(topic, changes) => {
                self.version += changes;
                let lost = self.set.gave_way(&subject(topic), changes, self.version);
                assert_eq!(lost, self.model.gave_way(id(topic), changes, self.version));
            }
            Step::List(topics, knows_none) => self.list(&topics, knows_none),
            Step::Hold(topics) => self.hold(&topics),
            Step::Compared(command, differing) if !self.commands.is_empty() => {
                let (number, unknown) = self.commands.remove(command.index(self.commands.len()));
                let differing: Vec<Topic> = differing.into_iter().map(id).chain(unknown).collect();
                let (first, second) = differing.split_at(differing.len() / 2);
                self.set.differ(number, first.to_vec());
                self.set.differ(number, second.to_vec());
                self.set.compared(number);
                self.model.compared(number, &differing);
            }
            Step::Mark => {
                let part = self.set.end_part();
                self.mark(part);
            }
            Step::Pull(pulls) => (0..pulls).for_each(|_| self.pull()),
            Step::Answer(pull, told) if !self.pulls.is_empty() => {
                let Pull { subject, number, .. } = self.pulls.remove(pull.index(self.pulls.len()));
                let told = match told {
                    0 => Told::Ended,
                    1 => Told::Same,
                    2 => Told::State(0),
                    3 => Told::State(self.version / 2 + 1),
                    _ => Told::State(self.version + 1),
                };
                let answered = self.set.answered(subject.topic(), number, told);
                assert_eq!(answered, self.model.answered(subject.topic(), number, told));
            }
            Step::PutBack(pull) if !self.pulls.is_empty() => {
                let Pull { subject, number, .. } = self.pulls.remove(pull.index(self.pulls.len()));
                let topic = subject.topic();
                let is_pulled = self.model.is_pulled(topic, number);
                assert_eq!(self.set.put_back(topic, number), is_pulled);
                if is_pulled {
                    let place = self.model.place();
                    self.model.find(topic).unwrap().state = place;
                }
            }
            Step::Compared(..) | Step::Answer(..) | Step::PutBack(_) => {}
            Step::Renew(topics) => {
                let topics: Vec<Topic> = topics.into_iter().map(id).collect();
                self.set.renew(&topics);
                self.model.renew(&topics);
            }
            Step::Remove(topic) => {
                let has_lost = self.model.find(id(topic)).is_some_and(|stale| stale.newest > 0);
                self.model.stale.retain(|stale| stale.topic != id(topic));
                self.model.take_listed(id(topic));
                assert_eq!(self.set.remove(id(topic)), has_lost);
            }
            Step::Doubt(topics, all) => {
                self.model.doubt(&topics.iter().copied().map(id).collect::<Vec<Topic>>());
                self.set.doubt(topics.into_iter().map(subject).collect());
                self.pages.clear();
                if all {
                    let mark = self.model.oldest_mark();
                    if self.model.lists_of_all.is_empty() {
                        self.model.lists_of_all.push(mark);
                    }
                    self.set.list_all_again(TABLE);
                }
            }
            Step::ListAll => {
                self.model.lists_of_all.push(self.model.marks);
                let part = self.set.list_all(TABLE);
                self.mark(part);
            }
            Step::Page(topics, is_last, is_late) => self.page(&topics, is_last, is_late),
            Step::EndPages => {
                self.model.lists_of_all.clear();
                self.set.end_pages(TABLE);
                self.pages.clear();
            }
            Step::Clear => {
                let lost = self.model.stale.iter().filter(|stale| stale.newest > 0).count();
                (self.model.stale, self.model.listed) = (Vec::new(), Vec::new());
                (self.model.lists_of_all, self.model.is_turn_of_lists) = (Vec::new(), false);
                self.model.marks += 1;
                assert_eq!(self.set.clear(TABLE), lost as u64);
                self.pages.clear();
            }
            Step::BeginAnew => assert_eq!(self.set.begin_anew(), self.model.begin_anew()),
        }
    }

    fn list(&mut self, listed: &[(u64, u64)], knows_none: bool) {
        let known = |version| if knows_none { 0 } else { version };
        let pairs: Vec<_> = listed.iter().map(|&(topic, version)| (id(topic), known(version))).collect();
        self.model.list(&pairs, self.model.marks, None);
        let topics = listed.iter().map(|&(topic, _)| subject(topic)).collect();
        let versions = listed.iter().map(|&(_, version)| version).collect::<Vec<u64>>();
        let part = self.set.list(topics, if knows_none { Vec::new() } else { versions });
        self.mark(part);
    }

    fn hold(&mut self, listed: &[(u64, u64)]) {
        let number = self.next_command;
        self.next_command += 1;
        let pairs: Vec<_> = listed.iter().map(|&(topic, version)| (id(topic), version)).collect();
        self.model.list(&pairs, self.model.marks, Some(number));
        let (topics, versions) = listed.iter().map(|&(topic, version)| (subject(topic), version)).unzip();
        let part = self.set.list_held(topics, versions, number);
        self.mark(part);
        let unknown = pairs.into_iter().filter(|&(_, version)| version == 0).map(|(topic, _)| topic);
        self.commands.push((number, unknown.collect()));
    }

    /// Asks for a page if it may, and answers it.
    fn page(&mut self, topics: &[u64], is_last: bool, is_late: bool) {
        let may_ask = !self.model.lists_of_all.is_empty() && self.pages.is_empty();
        let wish = self.set.next_page();
        assert_eq!(wish.is_some(), may_ask, "one page at a time");
        self.pages.extend(wish);
        let Some(&PageWish { from, number, .. }) = self.pages.last() else { return };
        let numbers: BTreeSet<u64> = topics.iter().copied().collect();
        let topics: BTreeSet<Topic> = numbers.iter().copied().map(id).collect();
        let next = (!is_last).then(|| Place { shard: from.shard + 1, after: None });
        let page = Page { number, topics: numbers.into_iter().map(subject).collect(), next };
        if is_late {
            // It answers another question.
            return self.set.page(Page { number: number.wrapping_sub(1), ..page });
        }
        let mark = self.model.lists_of_all[0];
        self.model.listed.extend(topics.into_iter().map(|topic| ModelListed { topic, known: 0, mark, held_by: None }));
        if is_last {
            self.model.lists_of_all.remove(0);
        }
        self.set.page(page);
        self.pages.clear();
    }

    fn mark(&mut self, part: Part) {
        self.marks.push((part, self.model.marks));
        self.model.marks += 1;
    }

    fn pull(&mut self) {
        let pulled = self.set.next_pull(|_| true);
        let expected = self.model.next_pull(|| pulled.as_ref().map(|wanted| wanted.number));
        assert_eq!(pulled.as_ref().map(|wanted| (wanted.subject.topic(), wanted.known)), expected);
        if let Some(wanted) = pulled {
            let is_new = |other: &Pull| (&other.subject, other.number) != (&wanted.subject, wanted.number);
            assert!(self.pulls.iter().all(is_new), "a pull is known by its number");
            self.pulls.push(wanted);
        }
    }

    fn check(&mut self) {
        let Self { set, model, .. } = self;
        let is_empty = model.stale.is_empty() && model.listed.is_empty() && model.lists_of_all.is_empty();
        assert_eq!(set.is_empty(), is_empty);
        assert_eq!(set.listed(), model.listed.len());
        let waits = model.stale.iter().filter(|stale| matches!(stale.state, State::Waits(_))).count();
        let pulled: usize = set.tables().iter().map(|&(_, pulled)| pulled).sum();
        assert_eq!(pulled, model.stale.len() - waits);
        let held = model.listed.iter().filter(|listed| listed.held_by.is_some()).count();
        assert_eq!(set.has_waiting(|_| true), waits + model.listed.len() - held > 0);
        for topic in (0..8).map(id) {
            let is_listed = model.listed.iter().any(|listed| listed.topic == topic);
            assert_eq!(set.contains(topic), is_listed || model.find(topic).is_some());
        }
        for &(part, mark) in &self.marks {
            assert_eq!(set.is_answered(part), model.is_answered(mark));
        }
        for list in &set.lists {
            let is_narrow = list.topics.iter().all(|topic| topic.narrow().is_some());
            assert!(list.rows.len() == list.topics.len() || list.rows.is_empty() && is_narrow);
            (0..list.topics.len()).for_each(|place| assert_eq!(list.subject(place).topic(), list.topics[place]));
        }
        for (&topic, stale) in &set.stale_by_topic {
            assert_eq!(Subject::new(topic, stale.row.as_ref()).topic(), topic);
        }
        assert!(set.tables.of(id(0)).waiting.len() <= 2 * set.stale_by_topic.len() + GONE_PLACES_MAX + pulled);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn it_does_what_a_naive_set_does(steps in steps(), first_number in prop_oneof![Just(0_u32), Just(u32::MAX - 20)]) {
        let mut pair = Pair::default();
        pair.set.next_number = first_number;
        pair.model.first_number = first_number;
        pair.set.parts = Parts::beginning_at(first_number);
        for step in steps {
            pair.step(step);
            pair.check();
        }
    }
}

#[test]
fn a_hot_topic_starves_nobody() {
    let mut set = StaleSet::default();
    for version in 1..=100 {
        set.gave_way(&subject(1), 1, version);
    }
    set.gave_way(&subject(2), 1, 101);
    let first = set.next_pull(|_| true).unwrap();
    assert_eq!((first.subject.topic(), first.known), (id(1), 0));
    set.gave_way(&subject(1), 1, 102);
    assert_eq!(set.answered(id(1), first.number, Told::State(100)), Answered::Again, "what is newer was given way");
    assert_eq!(set.next_pull(|_| true).map(|wanted| wanted.subject.topic()), Some(id(2)));
    assert_eq!(set.next_pull(|_| true).map(|wanted| wanted.subject.topic()), Some(id(1)));
}

#[test]
fn a_table_that_is_not_pulled_holds_up_no_other() {
    let mut set = StaleSet::default();
    let product = |number| ProductId::new(number).unwrap().subject();
    for number in 1..=3 {
        set.gave_way(&subject(number), 1, number);
        set.gave_way(&product(number), 1, number);
    }
    set.list((4..=6).map(subject).collect(), Vec::new());
    set.list((4..=6).map(product).collect(), Vec::new());
    let turns = [set.next_pull(|_| true), set.next_pull(|_| true), set.next_pull(|_| true), set.next_pull(|_| true)];
    let tables: BTreeSet<TableId> = turns.iter().flatten().map(|pull| pull.subject.topic().table()).collect();
    assert_eq!((tables.len(), turns.iter().flatten().count()), (2, 4), "they take turns");
    let is_of_products = |table| table == TableId::PRODUCTS;
    while let Some(pull) = set.next_pull(is_of_products) {
        assert_eq!(pull.subject.topic().table(), TableId::PRODUCTS);
    }
    assert!(!set.has_waiting(is_of_products) && set.has_waiting(|table| table == TABLE));
    assert_eq!(set.tables().iter().map(|&(_, pulled)| pulled).max(), Some(6), "all products, and no more");
    assert_eq!(set.clear(TABLE), 3);
    assert!(!set.has_waiting(|_| true));
    assert_eq!(set.tables()[..], [(TableId::PRODUCTS, 6)]);
}

#[test]
fn a_set_that_is_empty_again_holds_no_memory_of_what_was_stale() {
    let mut set = StaleSet::default();
    let topics: Subjects = (0..1000).map(subject).collect();
    let part = set.list(topics, vec![7; 1000]);
    while let Some(wanted) = set.next_pull(|_| true) {
        assert_eq!(wanted.known, 7);
        assert!(!set.is_answered(part));
        assert_eq!(set.answered(wanted.subject.topic(), wanted.number, Told::Same), Answered::Fresh);
    }
    assert!(set.is_answered(part) && set.is_empty());
    assert_eq!((set.stale_by_topic.capacity(), set.lists.capacity()), (0, 0));
}

#[test]
fn places_of_topics_that_are_gone_are_given_up() {
    let mut set = StaleSet::default();
    for round in 0..1000 {
        set.gave_way(&subject(round % 3), 1, round + 1);
        assert!(set.remove(id(round % 3)));
    }
    set.gave_way(&subject(7), 1, 2000);
    for round in 0..1000 {
        set.gave_way(&subject(round % 3), 1, round + 1);
        set.remove(id(round % 3));
    }
    assert!(set.tables.of(id(0)).waiting.len() <= GONE_PLACES_MAX + 4);
    assert_eq!(set.next_pull(|_| true).map(|wanted| wanted.subject.topic()), Some(id(7)));
}

/// Ten million rows cost a reader some hundred ids, however slowly it pulls.
#[test]
fn a_reader_of_all_topics_holds_a_page_or_two_of_them() {
    const PAGE: usize = 64;
    let mut set = StaleSet::default();
    let part = set.list_all(TABLE);
    let mut all: Vec<Subject> = (0..100 * PAGE as u64).map(subject).collect();
    all.sort_unstable_by_key(Subject::topic);
    let (mut listed, mut pulled) = (0, 0);
    while !set.is_answered(part) {
        while let Some(PageWish { from, number, .. }) = set.next_page() {
            let after = all[..listed].last().map(Subject::topic);
            assert_eq!(from, Place { shard: 0, after }, "it goes on where it was");
            let topics: Subjects = all[listed..listed + PAGE].iter().cloned().collect();
            listed += PAGE;
            let next =
                (listed < all.len()).then(|| Place { shard: 0, after: all[..listed].last().map(Subject::topic) });
            set.page(Page { number, topics, next });
        }
        let held: usize = set.lists.iter().map(|list| list.topics.capacity() + list.left.capacity()).sum();
        assert!(held < pages::AHEAD + 128, "{held}");
        let rows: usize = set.lists.iter().map(|list| list.rows.capacity()).sum();
        assert!(rows < pages::AHEAD + 128, "{rows}");
        assert!(set.lists.capacity() <= 16, "{}", set.lists.capacity());
        let Pull { subject, number, .. } = set.next_pull(|_| true).expect("some are listed until all are pulled");
        assert_eq!(subject, all[pulled], "each once, in their order");
        pulled += 1;
        set.answered(subject.topic(), number, Told::State(1));
    }
    assert_eq!((listed, pulled, set.is_empty()), (all.len(), all.len(), true));
}
