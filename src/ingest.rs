//! The path of a change, in one sentence: the next change of the source is encoded once and cast.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::fanout::{Cast, Hub};
use crate::loader::{Loader, SourceHeard};
use crate::metrics::Metrics;
use crate::model::change::Change;
use crate::model::event::SourceEvent;
use crate::model::table::Tables;
use crate::source::Source;
use crate::wire::frame::Frame;

/// The completeness of the casts: true if every change that is committed is cast, as far as ingest has read the source.
/// Cheap to clone; all clones are one. Starts as `false`.
#[derive(Clone, Debug, Default)]
pub struct Hearing(Arc<AtomicBool>);

impl Hearing {
    /// Returns whether the source's last word on itself was a [`SourceEvent::Began`], and ingest runs.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, is_whole: bool) {
        self.0.store(is_whole, Ordering::Relaxed);
    }
}

/// The hearing, as `/readyz` and `/metrics` know it. It ends with ingest, however that ends.
struct Ear(Hearing, Arc<Metrics>);

impl Ear {
    fn hears(&self, is_whole: bool) {
        self.0.set(is_whole);
        self.1.source.up.set(i64::from(is_whole));
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.hears(false);
    }
}

/// Casts every change of `source`, in its order, until the source ends; returns once all have reached the send queues
/// of their subscribers. Waits while too many changes are in flight, and so lets the source wait. Tells the hub, the loader
/// and `hearing` the source's word on itself when the changes before that are cast.
pub async fn run(mut source: Source, hub: Hub, loader: Loader, hearing: Hearing, metrics: Arc<Metrics>) {
    let ear = Ear(hearing, Arc::clone(&metrics));
    let metrics = &metrics.source;
    while let Some(event) = source.next().await {
        metrics.heard(&event, ear.0.is_whole(), hub.tables());
        match event {
            SourceEvent::Change(change) => {
                metrics.oldest_change.begin(change.committed_at);
                hub.cast(cast(change, hub.tables())).await;
                metrics.oldest_change.end();
            }
            SourceEvent::Began(epoch) => {
                ear.hears(true);
                hub.began(epoch);
                loader.heard(SourceHeard::Began(epoch));
            }
            SourceEvent::Gap => {
                ear.hears(false);
                hub.gap();
                loader.heard(SourceHeard::Gap);
            }
            // The loader first: what the shards wish for then is to be read.
            SourceEvent::Missed(table) => {
                loader.heard(SourceHeard::Table(table, true));
                hub.missed(table);
            }
            SourceEvent::TableLost(table) => {
                loader.heard(SourceHeard::Table(table, false));
                hub.table_lost(table);
            }
            SourceEvent::TableBegan(table, epoch) => {
                loader.heard(SourceHeard::Table(table, true));
                hub.table_began(table, epoch);
            }
            SourceEvent::Barrier(number) => loader.heard(SourceHeard::Barrier(number)),
        }
    }
    drop(ear);
    hub.settled().await;
}

/// Returns the cast of a change, with its frame.
fn cast(change: Change, tables: &Tables) -> Cast {
    let (frame, is_deletion) = (Frame::of_change(&change, tables), change.is_deletion());
    let Change { subject, version, is_whole, committed_at, .. } = change;
    Cast { subject, version, frame, is_whole, is_deletion, committed_at }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::epoch::Epoch;
    use crate::model::key::KeyKind;
    use crate::model::table::TableId;

    /// Ingest over a source that the test feeds, on a hub without subscribers.
    struct Fed {
        feed: tokio::sync::mpsc::Sender<SourceEvent>,
        hearing: Hearing,
        tables: Tables,
        metrics: Arc<Metrics>,
        ingest: tokio::task::JoinHandle<()>,
    }

    impl Fed {
        fn new() -> Self {
            let (feed, source) = Source::new();
            let tables = Tables::new();
            let (hub, _inboxes) = Hub::new(1, 1, tables.clone());
            let (hearing, metrics) = (Hearing::default(), Arc::new(Metrics::new()));
            let loader = crate::loader::channel().0;
            let ingest = tokio::spawn(run(source, hub, loader, hearing.clone(), Arc::clone(&metrics)));
            Self { feed, hearing, tables, metrics, ingest }
        }

        /// Feeds an event, and returns once it is taken.
        async fn take(&self, event: SourceEvent) {
            self.feed.send(event).await.unwrap();
            // Ingest runs while this waits for room for one event more than the channel has.
            while self.feed.capacity() < crate::source::EVENTS_WAITING_MAX {
                tokio::task::yield_now().await;
            }
        }

        fn shows(&self, line: &str) -> bool {
            self.metrics.encode().lines().any(|shown| shown == line)
        }
    }

    #[tokio::test]
    async fn the_hearing_follows_the_order_of_the_events() {
        let fed = Fed::new();
        assert!(!fed.hearing.is_whole(), "nothing is known before the beginning");
        for (event, is_whole) in [
            (SourceEvent::Began(Epoch::random()), true),
            (SourceEvent::Gap, false),
            (SourceEvent::Gap, false),
            (SourceEvent::Began(Epoch::random()), true),
        ] {
            fed.take(event.clone()).await;
            assert_eq!(fed.hearing.is_whole(), is_whole, "{event:?}");
            assert!(fed.shows(&format!("rowcast_source_up {}", u8::from(is_whole))), "{event:?}");
        }
        assert!(fed.shows("rowcast_source_gaps_total 2"));
        drop(fed.feed);
        fed.ingest.await.unwrap();
        assert!(!fed.hearing.is_whole(), "a source that has ended is heard no more");
        assert_eq!(fed.metrics.source.up.get(), 0);
    }

    #[tokio::test]
    async fn an_ingest_that_is_cut_off_hears_nothing() {
        let fed = Fed::new();
        fed.take(SourceEvent::Began(Epoch::random())).await;
        fed.ingest.abort();
        fed.ingest.await.unwrap_err();
        assert!(!fed.hearing.is_whole());
        assert_eq!(fed.metrics.source.up.get(), 0);
    }

    #[tokio::test]
    async fn a_table_s_gaps_are_counted_while_the_others_are_heard() {
        let fed = Fed::new();
        let orders: TableId = fed.tables.add("orders", KeyKind::Text).unwrap().id;
        let epoch = Epoch::random();
        for event in [
            SourceEvent::TableBegan(orders, epoch),
            SourceEvent::Began(epoch),
            SourceEvent::Missed(orders),
            SourceEvent::TableLost(orders),
            SourceEvent::TableBegan(orders, epoch),
            SourceEvent::Gap,
            SourceEvent::Missed(orders),
        ] {
            fed.take(event).await;
        }
        assert!(fed.shows("rowcast_table_gaps_total{table=\"orders\"} 2"), "{}", fed.metrics.encode());
        assert!(fed.shows("rowcast_source_barrier_timestamp_seconds 0.0"), "{}", fed.metrics.encode());
        fed.take(SourceEvent::Barrier(1)).await;
        assert!(!fed.shows("rowcast_source_barrier_timestamp_seconds 0.0"));
    }
}
