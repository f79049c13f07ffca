//! What one reader was told, and what it must never be told: [`Witness`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;

use rowcast::model::key::Key;
use rowcast::watch::message::{Change, Message};

use super::Rows;

/// What a reader knows of a product.
#[derive(Clone, Debug, Default)]
struct Known {
    /// The greatest version that was told in this epoch, of a row or an absence; 0 if none was.
    version: u64,
    row: Option<String>,
    told: Told,
}

/// What the server has told of a product, beside what is known. To who asks for everything it may tell less: it does not
/// learn the version of each product, and may lag behind the server that told it.
#[derive(Clone, Copy, Debug, Default)]
enum Told {
    /// What is known.
    #[default]
    All,
    /// Nothing until its reply: it hears of it later.
    Nothing,
    /// This version, which is below the one that is known and was ignored: it comes nearer from there.
    Less(u64),
}

/// A command without its reply.
#[derive(Debug)]
enum Asked {
    /// For changes alone.
    Changes,
    /// For what differs from the versions of an epoch, which may have been told more than these meanwhile.
    Differences { versions: BTreeMap<u64, u64>, epoch: String },
    /// For the state of these products; `missing` are those that were not named since.
    Snapshot { products: BTreeSet<u64>, missing: BTreeSet<u64> },
    /// For the state of everything; `named` are the products that were named since.
    Everything { named: BTreeSet<u64> },
    /// For the end of these.
    Unsubscribed(BTreeSet<u64>),
}

/// The changes that a reader got, by their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    /// Changes, and states and absences in the place of those that gave way.
    pub(super) received: u64,
    pub(super) skipped: u64,
    /// Absences of what the reader did not show: in the place of an insert and a delete that gave way both, or of
    /// nothing, where a load found an absence that the server did not remember.
    pub(super) perhaps: u64,
    /// True if it was told that changes may be missed.
    pub(super) was_lost: bool,
}

/// The state that a reader of the protocol keeps, and the faults that it saw.
#[derive(Debug, Default)]
pub(super) struct Witness {
    epoch: Option<String>,
    known: BTreeMap<u64, Known>,
    /// The products that its commands subscribed it to on this connection.
    subscribed: BTreeSet<u64>,
    asked: VecDeque<Asked>,
    is_live: bool,
    commands: u64,
    pub(super) account: Account,
    /// True while versions may go back though no epoch was told, as to a reader who never asked for states.
    pub(super) ignores_versions: bool,
    /// True while versions may go back before the new epoch is told.
    pub(super) may_go_back: bool,
    pub(super) faults: Vec<String>,
}

impl Witness {
    /// Begins a connection with what it knows.
    pub(super) fn begin(&mut self) {
        self.asked.clear();
        self.subscribed.clear();
        self.is_live = true;
        for known in self.known.values_mut().filter(|known| matches!(known.told, Told::Less(_))) {
            known.told = Told::All;
        }
    }

    /// Forgets what it was told.
    pub(super) fn forget(&mut self) {
        let (faults, may_go_back) = (std::mem::take(&mut self.faults), self.may_go_back);
        *self = Self { may_go_back, faults, ..Self::default() };
    }

    /// Learns that the connection is gone.
    pub(super) const fn lost(&mut self) {
        self.is_live = false;
    }

    /// Shows these rows without having been told: it was subscribed to all products when they were all there was.
    pub(super) fn show(&mut self, rows: &Rows) {
        let known = |(&id, (version, row)): (&u64, &(u64, String))| {
            (id, Known { version: *version, row: Some(row.clone()), ..Known::default() })
        };
        self.known = rows.iter().map(known).collect();
    }

    /// Returns the epoch that it was told.
    pub(super) const fn epoch(&self) -> Option<&String> {
        self.epoch.as_ref()
    }

    /// Returns whether every command is answered and what it shows is said to be the present state.
    pub(super) fn is_live(&self) -> bool {
        self.is_live && self.asked.is_empty()
    }

    /// Returns the products that it is subscribed to.
    pub(super) const fn subscribed(&self) -> &BTreeSet<u64> {
        &self.subscribed
    }

    /// Returns the rows of what it is subscribed to, if they are said to be the present state.
    pub(super) fn rows(&self) -> Option<Rows> {
        let shown = self.known.iter().filter(|(id, _)| self.subscribed.contains(id));
        let rows = shown.filter_map(|(&id, known)| Some((id, (known.version, known.row.clone()?))));
        self.is_live().then(|| rows.collect())
    }

    /// Returns the command that subscribes to changes alone.
    pub(super) fn follow(&mut self, products: &BTreeSet<u64>) -> String {
        self.asked.push_back(Asked::Changes);
        self.subscribed.extend(products);
        self.command("subscribe", products, "")
    }

    /// Returns the command that asks for the state of products.
    pub(super) fn snapshot(&mut self, products: &BTreeSet<u64>) -> String {
        // What is not subscribed to may have got another history meanwhile: who does not say what it knows begins anew.
        self.known.retain(|id, _| !products.contains(id) || self.subscribed.contains(id));
        self.asked.push_back(Asked::Snapshot { products: products.clone(), missing: products.clone() });
        self.subscribed.extend(products);
        self.command("subscribe", products, r#","snapshot":true"#)
    }

    /// Returns the command that asks for what differs from what it knows; for all, if it knows no epoch.
    pub(super) fn resume(&mut self, products: &BTreeSet<u64>) -> String {
        let Some(epoch) = self.epoch.clone() else { return self.snapshot(products) };
        let version = |id: &u64| (*id, self.known.get(id).map_or(0, |known| known.version));
        let versions: BTreeMap<u64, u64> = products.iter().map(version).collect();
        let rest = format!(r#","versions":[{}],"epoch":"{epoch}""#, joined(versions.values().copied()));
        self.asked.push_back(Asked::Differences { versions, epoch });
        self.subscribed.extend(products);
        self.command("subscribe", products, &rest)
    }

    /// Returns the command that asks for everything, and tells what it knows. `products` are all that there may be.
    pub(super) fn everything(&mut self, products: &BTreeSet<u64>) -> String {
        self.asked.push_back(Asked::Everything { named: BTreeSet::new() });
        self.subscribed.extend(products);
        self.commands += 1;
        let newest = self.known.values().map(|known| known.version).max().unwrap_or(0);
        let known =
            self.epoch.as_ref().map_or_else(String::new, |epoch| format!(r#","epoch":"{epoch}","newest":{newest}"#));
        format!(r#"{{"command":"subscribe","productIDs":"*","snapshot":true{known},"id":{}}}"#, self.commands)
    }

    /// Returns the command that ends subscriptions.
    pub(super) fn unsubscribe(&mut self, products: &BTreeSet<u64>) -> String {
        for asked in &mut self.asked {
            if let Asked::Snapshot { missing, .. } = asked {
                // What was asked for before need not come any more.
                missing.retain(|id| !products.contains(id));
            }
        }
        self.asked.push_back(Asked::Unsubscribed(products.clone()));
        self.subscribed.retain(|id| !products.contains(id));
        self.command("unsubscribe", products, "")
    }

    fn command(&mut self, command: &str, products: &BTreeSet<u64>, rest: &str) -> String {
        self.commands += 1;
        let ids = joined(products.iter().copied());
        format!(r#"{{"command":"{command}","productIDs":[{ids}]{rest},"id":{}}}"#, self.commands)
    }

    /// Takes what the server says.
    pub(super) fn take(&mut self, text: &[u8]) {
        let before = self.faults.len();
        match Message::parse(text) {
            Ok(Message::Change(change)) => self.change(&change),
            Ok(Message::Absent { keys, versions, .. }) => {
                for (place, key) in keys.iter().enumerate() {
                    self.absent(id(key), versions.get(place).copied());
                }
            }
            Ok(Message::Epoch { epoch, .. }) => self.begin_epoch(epoch),
            Ok(Message::Live { is_live, .. }) => {
                self.is_live = is_live;
                self.account.was_lost |= !is_live;
            }
            Ok(Message::Skipped(skipped)) => self.account.skipped += skipped,
            Ok(Message::Reply { error: None }) => self.replied(),
            Ok(Message::Reply { error: Some(error) }) => self.faults.push(format!("a refusal, {error}")),
            Ok(Message::Reconnect { .. }) => {}
            Ok(Message::Other) => self.faults.push("an unknown message".to_owned()),
            Err(error) => self.faults.push(format!("no message, {error}")),
        }
        for fault in &mut self.faults[before..] {
            let shown = &text[..text.len().min(200)];
            let _ = write!(fault, ": {}", String::from_utf8_lossy(shown));
        }
    }

    fn change(&mut self, change: &Change) {
        let product = id(&change.key);
        self.named(product);
        let is_asked = self.is_asked(product, change.version);
        if self.is_told_less(product, change.version) {
            return;
        }
        let known = self.known.entry(product).or_default();
        if change.version <= known.version && !self.ignores_versions {
            let is_repeated = change.version == known.version;
            if !(is_repeated && (is_asked || !matches!(known.told, Told::All))) {
                self.faults.push(format!("a version that is not above {}", known.version));
            }
        }
        let row = change.row.as_ref().filter(|_| !change.is_delete).map(|row| row.get().to_owned());
        *known = Known { version: change.version, row, told: Told::All };
        self.account.received += 1;
    }

    fn absent(&mut self, product: u64, version: Option<u64>) {
        self.named(product);
        if version.is_some_and(|version| 0 < version && self.is_told_less(product, version)) {
            return;
        }
        let known = self.known.entry(product).or_default();
        match version {
            None => self.faults.push(format!("an absence of {product} without a version")),
            Some(version) if 0 < version && version < known.version && !self.ignores_versions => {
                self.faults.push(format!("an absence of {product} below {}", known.version));
            }
            Some(version) => {
                let was_shown = known.row.take().is_some();
                known.version = if self.ignores_versions { version } else { version.max(known.version) };
                *(if was_shown { &mut self.account.received } else { &mut self.account.perhaps }) += 1;
            }
        }
    }

    /// Notes what is told of a product below the version that is known, where a server may tell less; returns whether it did.
    fn is_told_less(&mut self, product: u64, version: u64) -> bool {
        let asks_for_everything = self.asked.iter().any(|asked| matches!(asked, Asked::Everything { .. }));
        let known = self.known.entry(product).or_default();
        // The version at which a product went is forgotten at times, and is no bound for versions that go back.
        let may_return = self.may_go_back && known.row.is_none();
        let comes_nearer = match known.told {
            Told::All => false,
            Told::Nothing => true,
            Told::Less(told) => told <= version,
        };
        let is_less = version < known.version && (asks_for_everything || may_return || comes_nearer);
        if is_less {
            known.told = Told::Less(version);
        }
        is_less
    }

    /// Looks at whether a product may be named, and notes that it was.
    fn named(&mut self, product: u64) {
        let is_ending = |asked: &Asked| matches!(asked, Asked::Unsubscribed(products) if products.contains(&product));
        if !self.subscribed.contains(&product) && !self.asked.iter().any(is_ending) {
            self.faults.push(format!("a message about {product}, which it is not subscribed to"));
        }
        for asked in &mut self.asked {
            match asked {
                Asked::Snapshot { missing, .. } => {
                    missing.remove(&product);
                }
                Asked::Everything { named } => {
                    named.insert(product);
                }
                Asked::Changes | Asked::Differences { .. } | Asked::Unsubscribed(_) => {}
            }
        }
    }

    /// Returns whether a product may come at a version that was told.
    fn is_asked(&self, product: u64, version: u64) -> bool {
        self.asked.iter().any(|asked| match asked {
            Asked::Snapshot { products, .. } => products.contains(&product),
            // Versions of another epoch are none.
            Asked::Differences { versions, epoch } => {
                versions.get(&product).is_some_and(|known| *known < version || self.epoch.as_ref() != Some(epoch))
            }
            Asked::Everything { .. } => true,
            Asked::Changes | Asked::Unsubscribed(_) => false,
        })
    }

    fn begin_epoch(&mut self, epoch: String) {
        if self.epoch.as_ref() != Some(&epoch) {
            self.epoch = Some(epoch);
            self.known.values_mut().for_each(|known| (known.version, known.told) = (0, Told::All));
        }
    }

    fn replied(&mut self) {
        match self.asked.pop_front() {
            None => self.faults.push("a reply to nothing".to_owned()),
            Some(Asked::Snapshot { missing, .. }) if !missing.is_empty() => {
                self.faults.push(format!("a reply before {missing:?} were named"));
            }
            Some(Asked::Everything { named }) => {
                // What was not named is gone.
                for (_, known) in self.known.iter_mut().filter(|(id, _)| !named.contains(id)) {
                    (known.row, known.told) = (None, Told::Nothing);
                }
            }
            Some(_) => {}
        }
    }
}

/// Returns the id of the product that has this key.
pub(super) fn id(key: &Key) -> u64 {
    key.to_string().parse().unwrap()
}

fn joined(numbers: impl Iterator<Item = u64>) -> String {
    numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(",")
}
