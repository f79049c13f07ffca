//! What one batch casts of one product, joined: [`CastRun`].
//!
//! Changes of a hot product pile up while a core delivers the ones before. Joined into one buffer they cost each
//! subscriber one push and one piece of a write, however many they are.

use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::{SmallVec, smallvec};

use super::hub::{Cast, InFlight};
use crate::model::product::ProductId;
use crate::wire::frame::{Frame, FrameRun};

/// How many frames, and about how many bytes, one run has at most: a reader that takes a part of a run keeps the rest
/// of its buffer.
const RUN_FRAMES_MAX: usize = 256;
const RUN_BYTES_MAX: usize = 64 * 1024;

/// Changes of one product on their way to their subscribers.
#[derive(Debug)]
pub(super) struct CastRun {
    pub(super) product: ProductId,
    pub(super) run: FrameRun,
    pub(super) in_flight: SmallVec<[InFlight; 1]>,
}

/// The changes of a batch, by product, in the order in which each product came first.
#[derive(Debug, Default)]
pub(super) struct CastRuns {
    open: Vec<OpenRun>,
    /// The run of each product that takes more.
    places_by_product: HashMap<ProductId, usize>,
}

#[derive(Debug)]
struct OpenRun {
    product: ProductId,
    frames: SmallVec<[Frame; 1]>,
    bytes: usize,
    in_flight: SmallVec<[InFlight; 1]>,
}

impl CastRuns {
    pub(super) fn add(&mut self, cast: Cast) {
        let Cast { product, frame, in_flight } = cast;
        if let Some(&place) = self.places_by_product.get(&product) {
            let run = &mut self.open[place];
            if run.frames.len() < RUN_FRAMES_MAX && run.bytes + frame.len() <= RUN_BYTES_MAX {
                run.bytes += frame.len();
                run.frames.push(frame);
                run.in_flight.push(in_flight);
                return;
            }
        }
        self.places_by_product.insert(product, self.open.len());
        let bytes = frame.len();
        self.open.push(OpenRun { product, frames: smallvec![frame], bytes, in_flight: smallvec![in_flight] });
    }

    /// All runs, each joined; none is left.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Arc<CastRun>> {
        self.places_by_product.clear();
        self.open.drain(..).map(|OpenRun { product, frames, in_flight, .. }| {
            Arc::new(CastRun { product, run: FrameRun::join(&frames), in_flight })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures_util::FutureExt;

    use super::super::Hub;
    use super::super::core::Message;
    use super::*;
    use crate::wire::websocket::Opcode;

    /// What the hub casts for these products and payloads.
    fn casts(changes: &[(u64, &[u8])]) -> Vec<Cast> {
        let (hub, mut inboxes) = Hub::new(1, 1);
        let cast = |&(product, payload): &(u64, &[u8])| {
            let frame = Frame::new(Opcode::Text, payload);
            hub.cast(ProductId::new(product).unwrap(), frame, Instant::now()).now_or_never().unwrap();
            match inboxes[0].messages.try_recv() {
                Ok(Message::Cast(cast)) => cast,
                other => panic!("{other:?}"),
            }
        };
        changes.iter().map(cast).collect()
    }

    fn runs(changes: &[(u64, &[u8])]) -> Vec<(u64, usize)> {
        let mut runs = CastRuns::default();
        for cast in casts(changes) {
            runs.add(cast);
        }
        let drained: Vec<_> =
            runs.drain().map(|run| (run.product.get(), run.run.frames(), run.in_flight.len())).collect();
        assert!(drained.iter().all(|&(_, frames, in_flight)| frames == in_flight));
        assert_eq!(runs.drain().count(), 0);
        drained.into_iter().map(|(product, frames, _)| (product, frames)).collect()
    }

    #[test]
    fn the_changes_of_each_product_are_joined_in_their_order() {
        let changes: [(u64, &[u8]); 5] = [(1, b"a"), (2, b"b"), (1, b"c"), (3, b"d"), (1, b"e")];
        assert_eq!(runs(&changes), [(1, 3), (2, 1), (3, 1)]);
        let mut joined = CastRuns::default();
        for cast in casts(&changes) {
            joined.add(cast);
        }
        let first = joined.drain().next().unwrap();
        assert_eq!(*first.run, *b"\x81\x01a\x81\x01c\x81\x01e");
    }

    #[test]
    fn a_run_ends_at_its_bounds() {
        let small: Vec<(u64, &[u8])> = vec![(1, b"x"); RUN_FRAMES_MAX * 2 + 1];
        assert_eq!(runs(&small), [(1, RUN_FRAMES_MAX), (1, RUN_FRAMES_MAX), (1, 1)]);
        let large = vec![b'x'; RUN_BYTES_MAX / 2];
        assert_eq!(runs(&[(1, &large), (1, &large), (1, b"x"), (1, b"y")]), [(1, 1), (1, 3)]);
    }
}
