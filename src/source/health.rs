//! The obstacle between the source and its changes: [`Health`], for operators.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::metrics::Metrics;

/// The reason for which changes do not arrive. Each is a series of `rowcast_source_obstacle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// There is no connection.
    Connection,
    /// Something between the server and the database answers, but drops what the database tells unasked.
    Deaf,
    /// A trigger that tells changes is missing or off.
    Triggers,
    /// Rows are older than what was told, and a new epoch could not be begun.
    Epoch,
    /// The server's role lacks a right.
    Rights,
}

impl Obstacle {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Connection, Self::Deaf, Self::Triggers, Self::Epoch, Self::Rights];

    /// Returns its label in `/metrics`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Deaf => "deaf",
            Self::Triggers => "triggers",
            Self::Epoch => "epoch",
            Self::Rights => "rights",
        }
    }

    /// Returns what is to be done about it, as anybody may know it.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Connection => "the database cannot be reached; see the log",
            Self::Deaf => {
                "the database answers, but its notifications do not arrive: a proxy that pools transactions drops them; \
                 give the server a way to the database itself, or a pool in session mode"
            }
            Self::Triggers => {
                "a trigger of Rowcast on products is missing or off; enable it (ALTER TABLE products ENABLE ALWAYS TRIGGER …); \
                 see the log for its name"
            }
            Self::Epoch => {
                "rows are older than what was told of them, and a new history could not be begun; see the log"
            }
            Self::Rights => "the server's role lacks a right; see the log",
        }
    }
}

/// The obstacle of the moment, if any. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Health {
    obstacle: Arc<Mutex<Option<Obstacle>>>,
    /// By their names, the tables that are not live, with the reason.
    tables: Arc<Mutex<BTreeMap<String, String>>>,
    metrics: Arc<Metrics>,
}

impl Health {
    /// Returns a health without an obstacle.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { obstacle: Arc::default(), tables: Arc::default(), metrics }
    }

    /// Returns the obstacle.
    #[must_use]
    pub fn obstacle(&self) -> Option<Obstacle> {
        *self.obstacle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the tables that are not live while others are, each with the reason, as anybody may know it.
    #[must_use]
    pub fn tables(&self) -> BTreeMap<String, String> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the reason for which a table is not live, and answers true if it was another; `None`: it is live.
    pub fn set_table(&self, name: &str, reason: Option<&str>) -> bool {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        self.metrics.source.set_table(name, reason.is_none());
        let before = match reason {
            Some(reason) => tables.insert(name.to_owned(), reason.to_owned()),
            None => tables.remove(name),
        };
        before.as_deref() != reason
    }

    /// Returns the metrics that show it.
    #[must_use]
    pub const fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Replaces the obstacle, and answers true if it was another.
    pub fn set(&self, obstacle: Option<Obstacle>) -> bool {
        let mut current = self.obstacle.lock().unwrap_or_else(PoisonError::into_inner);
        self.metrics.source.set_obstacle(obstacle);
        std::mem::replace(&mut *current, obstacle) != obstacle
    }
}
