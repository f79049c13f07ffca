//! The path of a change, in one sentence: the next change of the source is encoded once and cast.

use std::sync::Arc;

use crate::fanout::Hub;
use crate::metrics::Metrics;
use crate::source::Source;
use crate::wire::frame::Frame;

/// Casts every change of `source`, in its order, until the source ends; returns once all have reached the send queues
/// of their subscribers. Waits while too many changes are in flight, and so lets the source wait.
pub async fn run(mut source: Source, hub: Hub, metrics: Arc<Metrics>) {
    while let Some(change) = source.next().await {
        metrics.changes.inc();
        hub.cast(change.product_id, Frame::of_change(&change), change.committed_at).await;
    }
    hub.settled().await;
}
