//! The source of changes: whether it is heard, how late, and what was missed.

use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::clock::{Age, Lag};
use super::labels::{ObstacleLabel, TableLabel};
use super::{shown, shown_in};
use crate::model::event::SourceEvent;
use crate::model::table::Tables;
use crate::source::Obstacle;

/// The numbers of the source.
#[derive(Debug)]
pub struct SourceMetrics {
    /// Changes that ingest took from the source.
    pub changes: Counter,
    /// 1 while every change that is committed is heard, as far as ingest has read the source.
    pub up: Gauge,
    /// Times that changes may have been missed, of all tables.
    pub gaps: Counter,
    /// The lateness of the last sign of life (Postgres).
    pub lag: Lag,
    /// The age of the change that ingest has in its hands.
    pub oldest_change: Age,
    barrier_at: Gauge<f64, AtomicU64>,
    obstacle: Family<ObstacleLabel, Gauge>,
    table_live: Family<TableLabel, Gauge>,
    table_gaps: Family<TableLabel, Counter>,
    notification_queue: Gauge<f64, AtomicU64>,
    /// Changes of rows whose keys are too long to be told.
    pub keys_too_long: Counter,
    /// Epochs that this server began, since the history of versions was replaced.
    pub epochs_begun: Counter,
}

impl SourceMetrics {
    pub(super) fn registered(all: &mut Registry) -> Self {
        let late = "Postgres: the lateness of its last sign of life, or how long one is being waited for";
        let oldest = "The age of the change that is being handed to the cores; 0 while there is none";
        let barrier = "When a mark that this server put among the changes was heard last; 0: never";
        let too_long = "Changes that were not cast, of rows whose keys are too long";
        let epochs = "Epochs that this server began, since the history of versions was replaced";
        let metrics = Self {
            changes: shown(all, "changes", "Committed changes taken from the source"),
            up: shown(all, "source_up", "1 while changes arrive"),
            gaps: shown(all, "source_gaps", "Times that changes of all tables may have been missed"),
            lag: shown_in(all, "source_lag", Unit::Seconds, late),
            oldest_change: shown_in(all, "source_oldest_change", Unit::Seconds, oldest),
            barrier_at: shown_in(all, "source_barrier_timestamp", Unit::Seconds, barrier),
            obstacle: shown(all, "source_obstacle", "1 while this is the reason for which changes do not arrive"),
            table_live: shown(all, "table_live", "0 while changes of this named table alone do not arrive"),
            table_gaps: shown(all, "table_gaps", "Times that changes of this named table alone may have been missed"),
            notification_queue: shown(
                all,
                "notification_queue_usage_ratio",
                "Postgres: the part of its notification queue that is taken; commits fail when it is full",
            ),
            keys_too_long: shown(all, "keys_too_long", too_long),
            epochs_begun: shown(all, "epochs_begun", epochs),
        };
        metrics.set_obstacle(None);
        metrics
    }

    /// Counts an event that ingest takes. What is said of a table while no changes are heard is told of all of them.
    pub fn heard(&self, event: &SourceEvent, is_up: bool, tables: &Tables) {
        match *event {
            SourceEvent::Change(_) => drop(self.changes.inc()),
            SourceEvent::Gap => drop(self.gaps.inc()),
            SourceEvent::Missed(table) | SourceEvent::TableBegan(table, _) if is_up => {
                self.table_gaps.get_or_create(&TableLabel::of(&tables.get(table).name)).inc();
            }
            SourceEvent::Barrier(_) => self.barrier_heard(),
            _ => {}
        }
    }

    /// Learns that a mark was heard.
    pub fn barrier_heard(&self) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.barrier_at.set(now.as_secs_f64());
    }

    /// Shows the obstacle between the source and its changes.
    pub fn set_obstacle(&self, obstacle: Option<Obstacle>) {
        for each in Obstacle::ALL {
            let label = ObstacleLabel { obstacle: each.label() };
            self.obstacle.get_or_create(&label).set(i64::from(obstacle == Some(each)));
        }
    }

    /// Shows whether changes of a named table arrive while those of others do, and its gaps from the first on.
    pub fn set_table(&self, table: &str, is_live: bool) {
        let label = TableLabel::of(table);
        self.table_live.get_or_create(&label).set(i64::from(is_live));
        drop(self.table_gaps.get_or_create(&label));
    }

    /// Shows the part of Postgres' notification queue that is taken, 0 to 1.
    pub fn set_notification_queue(&self, usage: f64) {
        self.notification_queue.set(usage);
    }
}
