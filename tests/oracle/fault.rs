//! The faults that happen to the servers and their store ([`Fault`]).

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::random::Random;
use super::reader::{Habit, Reader};
use super::table::Table;
use super::world::{Store, World, on_cluster};
use crate::support::patiently;
use crate::support::proxy::Link;

/// The end of the sessions in which the servers listen.
const END_LISTENERS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
     WHERE datname = current_database() AND application_name = 'rowcast listener'";
/// The removal of tombstones as servers do it, without the time for which they stay.
const MARK_TOMBSTONES: &str = "UPDATE product_tombstones SET horizon = pg_current_xact_id(), marked_at = now() \
     WHERE product_id IN (SELECT product_id FROM product_tombstones WHERE horizon IS NULL AND version <= $1 \
     FOR UPDATE SKIP LOCKED)";
const REMOVE_TOMBSTONES: &str = "DELETE FROM product_tombstones WHERE product_id IN (SELECT product_id \
     FROM product_tombstones WHERE horizon <= pg_snapshot_xmin(pg_current_snapshot()) FOR UPDATE SKIP LOCKED)";

/// The fault of a round. A number is the place of the server that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// The server is killed and started.
    Killed(usize),
    /// The listeners' sessions are ended, several times.
    ListenersEnded,
    /// Nothing passes between a server and the database for so many milliseconds, with all connections open.
    Stalled(usize, u64),
    /// Likewise, until the readers there are told that what they show may be old.
    HalfOpen(usize),
    Crashed,
    /// What is left of deleted rows goes as soon as no insert can need it.
    TombstonesRemoved,
    /// A table is emptied, several times; not that of products, of which each row is told.
    Truncated(usize),
    /// Columns of a table come, go, and get other names and types, several times: rows are other ones without a change.
    Altered(usize),
    /// Another table takes the name of one, several times.
    Swapped(usize),
    /// Versions begin again at half of the last one.
    SequenceSetBack,
    /// The store's files become those of the round's beginning, once all readers have shown the later ones.
    HistoryLost,
}

impl Fault {
    /// Draws the fault of a round.
    pub(super) fn draw(world: &World, random: &mut Random) -> Self {
        let server = usize::try_from(random.below(world.servers.len() as u64)).unwrap();
        if let Store::Embedded(_) = world.store {
            return *random.pick(&[Self::None, Self::None, Self::Killed(0), Self::Killed(0), Self::HistoryLost]);
        }
        match random.below(24) {
            0..4 => Self::None,
            4..6 => Self::Killed(server),
            6 => Self::HistoryLost,
            7..10 => Self::ListenersEnded,
            10 | 11 => Self::Stalled(server, random.below(4_000)),
            12 => Self::HalfOpen(server),
            13 => Self::Crashed,
            14 => Self::TombstonesRemoved,
            15 | 16 => Self::Truncated(other_table(world, random)),
            17..20 => Self::Altered(other_table(world, random)),
            20..23 => Self::Swapped(other_table(world, random)),
            _ => Self::SequenceSetBack,
        }
    }

    /// Returns whether every change reaches this server as it is committed.
    pub(super) fn spares(self, server: usize) -> bool {
        match self {
            Self::None | Self::TombstonesRemoved => true,
            Self::Killed(other) | Self::Stalled(other, _) | Self::HalfOpen(other) => server != other,
            Self::ListenersEnded
            | Self::Crashed
            | Self::Truncated(_)
            | Self::Altered(_)
            | Self::Swapped(_)
            | Self::SequenceSetBack
            | Self::HistoryLost => false,
        }
    }

    /// Returns whether it ends the connections of a server's readers.
    pub(super) fn cuts_readers(self, server: usize, world: &World) -> bool {
        match self {
            Self::Killed(killed) => killed == server,
            Self::HistoryLost => matches!(world.store, Store::Embedded(_)),
            _ => false,
        }
    }

    /// Returns whether it is of one table: it disturbs no other.
    pub(super) const fn is_of_table(self) -> bool {
        matches!(self, Self::Truncated(_) | Self::Altered(_) | Self::Swapped(_))
    }

    /// Returns whether the history of versions may be another one afterwards. Where a table was emptied, a read may find a
    /// deletion of a row that is older than what was heard of it, and such a read begins one.
    pub(super) const fn replaces_history(self) -> bool {
        matches!(self, Self::SequenceSetBack | Self::HistoryLost) || self.is_of_table()
    }

    /// Does what comes before the round's writes.
    pub(super) async fn prepare(self, world: &mut World) {
        if self == Self::HistoryLost {
            world.kill_embedded().await;
            world.store.save().await;
            world.start_embedded().await;
        }
    }

    /// Returns what is done to a table, each in a transaction of its own.
    fn statements(self, table: &Table, random: &mut Random) -> Vec<String> {
        match self {
            Self::Altered(_) => vec![alteration(table.name, random)],
            Self::Swapped(_) => swap(table, random),
            _ => vec![format!("TRUNCATE {}", table.name)],
        }
    }

    /// Does it, while writers are at work.
    pub(super) async fn happen(self, world: &mut World, readers: &[Reader], random: &mut Random) {
        tokio::time::sleep(Duration::from_millis(random.below(500))).await;
        if let Self::Killed(server) = self {
            world.servers[server].kill().await;
            // A start asks the database many things one after the other: with every answer late it takes too long.
            world.set_delays(|| Duration::ZERO);
            world.servers[server].start_again().await;
        }
        let Store::Postgres { cluster, database, proxies } = &world.store else { return };
        match self {
            Self::None | Self::Killed(_) | Self::HistoryLost => {}
            Self::ListenersEnded => {
                let client = database.connect().await;
                for _ in 0..=random.below(3) {
                    client.execute(END_LISTENERS, &[]).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(random.below(400))).await;
                }
            }
            Self::Stalled(server, ms) => {
                let stalled = Link { is_stalled: true, ..Link::default() };
                proxies[server].set_listener(stalled);
                // At times the listener alone, while reads pass.
                if random.one_in(2) {
                    proxies[server].set_others(stalled);
                }
                tokio::time::sleep(Duration::from_millis(ms)).await;
                proxies[server].set_listener(Link::default());
                proxies[server].set_others(Link::default());
            }
            Self::HalfOpen(server) => {
                proxies[server].set_listener(Link { is_stalled: true, ..Link::default() });
                let is_shown = |reader: &Reader| reader.habit == Habit::Steady && reader.is_live_at(server);
                let told = async {
                    while readers.iter().any(is_shown) {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                };
                patiently(told).await;
                proxies[server].set_listener(Link::default());
            }
            Self::Crashed => {
                on_cluster(cluster, |cluster| {
                    cluster.crash();
                    cluster.start_again();
                })
                .await;
            }
            Self::TombstonesRemoved => {
                let client = database.connect().await;
                for _ in 0..=random.below(6) {
                    remove_tombstones(&client).await;
                    tokio::time::sleep(Duration::from_millis(random.below(300))).await;
                }
            }
            Self::Truncated(table) | Self::Altered(table) | Self::Swapped(table) => {
                let client = database.connect().await;
                for _ in 0..=random.below(3) {
                    for statements in self.statements(world.tables.get(table), random) {
                        run(&client, &statements).await;
                        tokio::time::sleep(Duration::from_millis(random.below(600))).await;
                    }
                }
            }
            Self::SequenceSetBack => {
                // Versions of which nobody was told may be given again, and of the first few all may be such.
                let back =
                    "SELECT setval('product_versions', last_value / 2) FROM product_versions WHERE last_value > 64";
                let client = database.connect().await;
                patiently(async { while client.execute(back, &[]).await.unwrap() == 0 {} }).await;
            }
        }
    }
}

/// Returns a change of a table's columns, of whatever columns it has by now: writers name none of those that come and go.
fn alteration(name: &str, random: &mut Random) -> String {
    let number = random.below(1_000);
    let add = format!("ALTER TABLE {name} ADD COLUMN IF NOT EXISTS extra");
    match random.below(6) {
        0 | 1 => format!("{add} int NOT NULL DEFAULT {number}"),
        2 => format!(
            "{add} text; ALTER TABLE {name} DROP COLUMN IF EXISTS c; ALTER TABLE {name} RENAME COLUMN extra TO c"
        ),
        3 => format!("ALTER TABLE {name} DROP COLUMN IF EXISTS extra"),
        4 => {
            format!("ALTER TABLE {name} ALTER COLUMN amount TYPE {}", random.pick(&["int", "bigint", "numeric(12, 2)"]))
        }
        _ => format!("ALTER TABLE {name} ALTER COLUMN note TYPE {}", random.pick(&["text", "varchar"])),
    }
}

/// Returns the transactions that put another table in the place of one: the one from before that, if there is one, or one that
/// is made like it, with other rows, and of the version and the triggers all or nothing. At times there is none meanwhile.
fn swap(table: &Table, random: &mut Random) -> Vec<String> {
    let Table { name, column, .. } = table;
    let own = name.rsplit('.').next().unwrap_or(name);
    let spare = format!("{name}_spare");
    if random.one_in(3) {
        return vec![format!(
            "DO $$ BEGIN IF to_regclass('{spare}') IS NOT NULL THEN ALTER TABLE {name} RENAME TO {own}_swapped; \
             ALTER TABLE {spare} RENAME TO {own}; ALTER TABLE {name}_swapped RENAME TO {own}_spare; END IF; END $$"
        )];
    }
    let (third, number) = (random.below(3), random.below(1_000));
    let rows = format!("FROM {spare} WHERE hashtext({column}::text) % 3 <> {third}");
    let values = format!("{column}, amount, note, data");
    let insert = format!("INSERT INTO {name} ({values}) SELECT {values} {rows}");
    let filled = match random.below(4) {
        0 => format!("ALTER TABLE {name} DROP COLUMN IF EXISTS rowcast_version; {insert}"),
        1 => insert,
        2 => format!("INSERT INTO {name} SELECT * {rows}; UPDATE {name} SET amount = {number}"),
        _ => format!("{insert}; {}", copy_of_triggers(&spare, name)),
    };
    let away = format!("DROP TABLE IF EXISTS {spare}; ALTER TABLE {name} RENAME TO {own}_spare");
    let mut made = format!("CREATE TABLE {name} (LIKE {spare} INCLUDING ALL); {filled}");
    if random.one_in(3) {
        made.extend(["; DROP TABLE ", &spare]);
    }
    if random.one_in(3) { vec![away, made] } else { vec![format!("{away}; {made}")] }
}

/// Returns the statement that gives a table the triggers of another, which call the functions of that.
fn copy_of_triggers(from: &str, to: &str) -> String {
    format!(
        "DO $$ DECLARE it pg_trigger; BEGIN FOR it IN SELECT * FROM pg_trigger WHERE tgrelid = '{from}'::regclass LOOP \
         EXECUTE regexp_replace(pg_get_triggerdef(it.oid), ' ON [^ ]+ ', ' ON {to} '); \
         EXECUTE format('ALTER TABLE {to} ENABLE ALWAYS TRIGGER %I', it.tgname); END LOOP; END $$"
    )
}

/// Runs statements until they are not refused for the writers' sake.
async fn run(client: &Client, statements: &str) {
    while let Err(error) = client.batch_execute(statements).await {
        assert_eq!(error.code(), Some(&SqlState::T_R_DEADLOCK_DETECTED), "{statements}: {error:?}");
        client.batch_execute("ROLLBACK").await.unwrap();
    }
}

/// Draws a table that is not that of products.
fn other_table(world: &World, random: &mut Random) -> usize {
    1 + usize::try_from(random.below(world.tables.iter().count() as u64 - 1)).unwrap()
}

impl World {
    /// Lets every byte between the servers and the database take as long as `delay` says.
    pub(super) fn set_delays(&self, mut delay: impl FnMut() -> Duration) {
        let Store::Postgres { proxies, .. } = &self.store else { return };
        for proxy in proxies {
            proxy.set_listener(Link { delay: delay(), ..Link::default() });
            proxy.set_others(Link { delay: delay() / 4, ..Link::default() });
        }
    }

    /// Puts the files of the last [`Fault::prepare`] back.
    pub(super) async fn lose_history(&mut self) {
        self.kill_embedded().await;
        self.store.put_back().await;
        self.start_embedded().await;
        self.until_ready().await;
    }

    /// Kills the server whose files are the store.
    async fn kill_embedded(&mut self) {
        if let Store::Embedded(_) = &self.store {
            self.servers[0].kill().await;
        }
    }

    async fn start_embedded(&mut self) {
        if let Store::Embedded(_) = &self.store {
            self.servers[0].start_again().await;
        }
    }
}

async fn remove_tombstones(client: &Client) {
    client.execute(REMOVE_TOMBSTONES, &[]).await.unwrap();
    let last = client.query_one("SELECT last_value FROM product_versions", &[]).await.unwrap();
    client.execute(MARK_TOMBSTONES, &[&last.get::<_, i64>(0)]).await.unwrap();
}
