//! The readers of the oracle that are the crate `rowcast-client` ([`ClientReader`]): the rows that its streams make, and those
//! that it keeps, have to be the table's whenever it says that they are live.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rowcast_client::{Client, Event, Options, Rows as Wanted, Server, Subscription};
use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::line::Http;
use super::random::Random;
use super::reader::{Habit, Pace, Surroundings};
use super::table::{Id, Rows};
use super::{differences, of};

/// The habits of clients. One that resumes or wants everything goes to another server with each connection.
const HABITS: [Habit; 6] =
    [Habit::Steady, Habit::Slow, Habit::Stopping, Habit::Resuming, Habit::Wildcard, Habit::Churning];
/// The subscriptions that a churning client has at most.
const SUBSCRIPTIONS_MAX: usize = 8;

/// A client as the oracle sees it.
pub(super) struct ClientReader {
    pub(super) name: String,
    around: Surroundings,
    client: Client,
    followed: Arc<Mutex<Vec<Followed>>>,
}

/// A subscription, and the task that reads it.
struct Followed {
    rows: BTreeSet<Id>,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

/// What a stream told.
#[derive(Default)]
struct Seen {
    rows: Rows,
    is_live: bool,
    faults: Vec<String>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts a client of each habit.
pub(super) async fn start_all(around: &Surroundings, first: usize, random: &mut Random) -> Vec<ClientReader> {
    let mut clients = Vec::new();
    for (number, habit) in HABITS.into_iter().enumerate() {
        let server = match habit {
            Habit::Resuming | Habit::Wildcard => {
                let way = switch(around.clone(), first + number, random.split()).await;
                Server::parse(&format!("ws://{way}"), None).unwrap()
            }
            _ => around.places[(first + number) % around.places.len()].server(),
        };
        clients.push(ClientReader::start(habit, server, around.clone(), random));
    }
    clients
}

impl ClientReader {
    fn start(habit: Habit, server: Server, around: Surroundings, random: &mut Random) -> Self {
        let client = Client::new(server, Options::default());
        let this =
            Self { name: format!("a client, {habit:?}"), around, client, followed: Arc::new(Mutex::new(Vec::new())) };
        for (table, _) in this.around.tables.iter() {
            let rows = if habit == Habit::Wildcard { &this.around.rows } else { &this.around.common };
            let rows = rows.iter().filter(|id| id.table == table).cloned().collect();
            let followed = this.follow(table, rows, habit, random.split());
            this.followed.lock().unwrap().push(followed);
        }
        if habit == Habit::Churning {
            let churning = Self {
                name: String::new(),
                around: this.around.clone(),
                client: this.client.clone(),
                followed: Arc::clone(&this.followed),
            };
            tokio::spawn(churning.churn(random.split()));
        }
        this
    }

    /// Follows rows of a table: all of them, where these are all that there may be.
    fn follow(&self, table: usize, rows: BTreeSet<Id>, habit: Habit, random: Random) -> Followed {
        let name = self.around.tables.get(table).name;
        let of_table = self.around.rows.iter().filter(|id| id.table == table).count();
        let wanted = if rows.len() == of_table {
            Wanted::all(name)
        } else {
            Wanted::of(name, rows.iter().map(|id| id.key.to_string()))
        };
        let seen = Arc::new(Mutex::new(Seen::default()));
        let pace = Pace { habit, is_busy: self.around.is_busy.clone(), random };
        let task = tokio::spawn(read(self.client.subscribe(wanted), table, Arc::clone(&seen), pace));
        Followed { rows, seen, task }
    }

    /// Begins and ends subscriptions to some rows of a table, or to all, while there are writes.
    async fn churn(mut self, mut random: Random) {
        loop {
            sleep(Duration::from_millis(random.below(300))).await;
            let _ = self.around.is_busy.wait_for(|is_busy| *is_busy).await;
            let table = usize::try_from(random.below(self.around.tables.iter().count() as u64)).unwrap();
            let part = 1 + random.below(6);
            let is_drawn = |id: &&Id| id.table == table && random.one_in(part);
            let rows = self.around.rows.iter().filter(is_drawn).cloned().collect();
            let followed = self.follow(table, rows, Habit::Churning, random.split());
            let mut all = self.followed.lock().unwrap();
            all.push(followed);
            while all.len() > 1 && (all.len() > SUBSCRIPTIONS_MAX || random.one_in(2)) {
                let place = usize::try_from(random.below(all.len() as u64)).unwrap();
                all.swap_remove(place);
            }
        }
    }

    /// Returns in what it differs from the table, if it does.
    pub(super) fn differs_from(&self, table: &Rows) -> Option<String> {
        let followed = self.followed.lock().unwrap();
        for Followed { rows, seen, .. } in &*followed {
            let (seen, wanted) = (seen.lock().unwrap(), of(table, rows));
            if !seen.is_live {
                return Some(format!("a stream is not live, {:?}", self.client.status()));
            }
            if seen.rows != wanted {
                return Some(format!("a stream: {}", differences(&seen.rows, &wanted)));
            }
        }
        let ids = followed.iter().flat_map(|followed| &followed.rows).cloned().collect();
        let (kept, wanted) = (self.kept(), of(table, &ids));
        (kept != wanted).then(|| format!("what is kept: {}", differences(&kept, &wanted)))
    }

    /// Returns the rows that the client keeps.
    fn kept(&self) -> Rows {
        let rows = self.around.tables.iter().flat_map(|(table, its)| {
            let entries = self.client.rows(its.name).into_iter();
            entries.map(move |it| (Id::new(table, it.key.to_string()), (it.version, it.row.json().to_owned())))
        });
        rows.collect::<BTreeMap<_, _>>()
    }

    /// Returns what it saw that must not be.
    pub(super) fn faults(&self) -> Vec<String> {
        let followed = self.followed.lock().unwrap();
        followed.iter().flat_map(|followed| followed.seen.lock().unwrap().faults.clone()).collect()
    }
}

async fn read(mut events: Subscription, table: usize, seen: Arc<Mutex<Seen>>, mut pace: Pace) {
    while let Some(event) = events.next().await {
        let bytes = match &event {
            Event::Change(change) => change.row.as_ref().map_or(0, |row| row.json().len()),
            _ => 0,
        };
        seen.lock().unwrap().take(event, table);
        pace.rest(bytes).await;
    }
}

impl Seen {
    fn take(&mut self, event: Event, table: usize) {
        match event {
            Event::Change(change) => {
                let id = Id::new(table, change.key.to_string());
                match change.row {
                    Some(row) => self.rows.insert(id, (change.version, row.json().to_owned())),
                    None => self.rows.remove(&id),
                };
            }
            Event::Live => self.is_live = true,
            Event::Stale => self.is_live = false,
            Event::Complete => {}
            Event::Refused(refusal) => self.faults.push(format!("a refusal, {refusal}")),
        }
    }
}

/// Returns an address that leads to another server with each connection; it is cut at random while there are writes.
async fn switch(around: Surroundings, first: usize, mut random: Random) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in first.. {
            let Ok((mut near, _)) = listener.accept().await else { return };
            let place = around.places[number % around.places.len()].clone();
            let (mut is_busy, span) = (around.is_busy.clone(), Duration::from_millis(200 + random.below(4_000)));
            tokio::spawn(async move {
                let Some(mut far) = place.connect(Http::One).await else { return };
                let until_cut = async {
                    sleep(span).await;
                    let _ = is_busy.wait_for(|is_busy| *is_busy).await;
                };
                tokio::select! {
                    _ = copy_bidirectional(&mut near, &mut far) => {}
                    () = until_cut => {}
                }
            });
        }
    });
    address
}
