//! How many instructions each path takes: counted, not estimated. A run fails where a path takes 5% more.
//!
//! Counted with Rust 1.95 on x86-64. A run repeats them to within 0.01%, another build to within 0.2%; a processor
//! without AVX2 (another `memcpy`) moves them by up to 0.5%. Another compiler may move them further.
//!
//! `scripts/instructions.sh --renew` counts again and writes the numbers here: do that in the commit that makes a path
//! cheaper, or that has a reason to make it dearer, and say there which.

use gungraun::{Callgrind, EventKind, LibraryBenchmarkConfig};

/// The head of a frame and the JSON of a row.
pub(crate) const FRAME_OF_A_ROW: u64 = 730;
/// The head of a frame, and the JSON that a database sent.
pub(crate) const FRAME_OF_READY_JSON: u64 = 397;
/// 1,000 subscriptions of one connection, among 100,000 products of others.
pub(crate) const INDEX_SUBSCRIBE: u64 = 326_509;
/// Ending them one by one.
pub(crate) const INDEX_UNSUBSCRIBE: u64 = 286_705;
/// Ending them at once.
pub(crate) const INDEX_CLOSE: u64 = 227_974;
/// One change from the hub to the sockets of 1,000 subscribers: a thousandth is one delivery.
pub(crate) const BROADCAST_ALONE: u64 = 584_707;
/// 64 changes that wait together, to 1,000 subscribers: 64,000 deliveries.
pub(crate) const BROADCAST_BURST: u64 = 711_372;
/// 64 frames into a send queue and out of it.
pub(crate) const SEND_QUEUE_PUSH_AND_TAKE: u64 = 14_202;
/// A full queue of 512 products that gives way, and 1,000 further changes of them.
pub(crate) const SEND_QUEUE_CONFLATE: u64 = 752_338;
/// 1,000 frames that the oldest make room for.
pub(crate) const SEND_QUEUE_DROP: u64 = 484_611;
/// The command to subscribe to 10 products, from masked bytes to text.
pub(crate) const DECODE_SUBSCRIBE: u64 = 436;
/// And from text to a command.
pub(crate) const PARSE_SUBSCRIBE: u64 = 3_126;
/// What a database's notification says.
pub(crate) const PARSE_NOTIFICATION: u64 = 349;

/// Fails a count that is more than 5% above what was counted.
pub(crate) fn within(counted: u64) -> LibraryBenchmarkConfig {
    let mut callgrind = Callgrind::with_args(["cache-sim=no"]);
    callgrind.hard_limits([(EventKind::Ir, counted + counted / 20)]);
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(callgrind);
    config
}
