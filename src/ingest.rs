//! The path of a change, in one sentence: the next change of the source is encoded once and cast.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::fanout::{Cast, Hub};
use crate::loader::{Loader, SourceHeard};
use crate::metrics::Metrics;
use crate::model::event::SourceEvent;
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

/// Ends the hearing with ingest, however that ends.
struct Ear(Hearing);

impl Drop for Ear {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// Casts every change of `source`, in its order, until the source ends; returns once all have reached the send queues
/// of their subscribers. Waits while too many changes are in flight, and so lets the source wait. Tells the hub, the loader
/// and `hearing` the source's word on itself when the changes before that are cast.
pub async fn run(mut source: Source, hub: Hub, loader: Loader, hearing: Hearing, metrics: Arc<Metrics>) {
    let ear = Ear(hearing);
    while let Some(event) = source.next().await {
        match event {
            SourceEvent::Change(change) => {
                metrics.changes.inc();
                let (frame, is_deletion) = (Frame::of_change(&change, hub.tables()), change.is_deletion());
                let (is_whole, committed_at) = (change.is_whole, change.committed_at);
                let (subject, version) = (change.subject, change.version);
                hub.cast(Cast { subject, version, frame, is_whole, is_deletion, committed_at }).await;
            }
            SourceEvent::Began(epoch) => {
                ear.0.set(true);
                hub.began(epoch);
                loader.heard(SourceHeard::Began(epoch));
            }
            SourceEvent::Gap => {
                ear.0.set(false);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::epoch::Epoch;
    use crate::model::table::Tables;

    /// Starts ingest over a source that the test feeds, on a hub without subscribers.
    fn started() -> (tokio::sync::mpsc::Sender<SourceEvent>, Hearing, tokio::task::JoinHandle<()>) {
        let (feed, source) = Source::new();
        let (hub, _inboxes) = Hub::new(1, 1, Tables::new());
        let hearing = Hearing::default();
        let loader = crate::loader::channel().0;
        let ingest = tokio::spawn(run(source, hub, loader, hearing.clone(), Arc::new(Metrics::new())));
        (feed, hearing, ingest)
    }

    #[tokio::test]
    async fn the_hearing_follows_the_order_of_the_events() {
        let (feed, hearing, ingest) = started();
        assert!(!hearing.is_whole(), "nothing is known before the beginning");
        for (event, is_whole) in [
            (SourceEvent::Began(Epoch::random()), true),
            (SourceEvent::Gap, false),
            (SourceEvent::Gap, false),
            (SourceEvent::Began(Epoch::random()), true),
        ] {
            feed.send(event.clone()).await.unwrap();
            // Ingest runs while this waits for room for one event more than the channel has.
            while feed.capacity() < crate::source::EVENTS_WAITING_MAX {
                tokio::task::yield_now().await;
            }
            assert_eq!(hearing.is_whole(), is_whole, "{event:?}");
        }
        drop(feed);
        ingest.await.unwrap();
        assert!(!hearing.is_whole(), "a source that has ended is heard no more");
    }

    #[tokio::test]
    async fn an_ingest_that_is_cut_off_hears_nothing() {
        let (feed, hearing, ingest) = started();
        feed.send(SourceEvent::Began(Epoch::random())).await.unwrap();
        while !hearing.is_whole() {
            tokio::task::yield_now().await;
        }
        ingest.abort();
        ingest.await.unwrap_err();
        assert!(!hearing.is_whole());
    }
}
