//! How long things take. Times of this machine, today: compare two commits only in one sitting. What must not get worse
//! is counted in instructions instead (`--bench instructions`).
//!
//! ```sh
//! cargo bench --bench timings                # all, about ten minutes
//! cargo bench --bench timings -- fanout      # one of: frame index fanout cores commands send_queue codec end_to_end
//! ```

#[path = "../fixtures/mod.rs"]
mod fixtures;

mod codec;
mod commands;
mod cores;
mod end_to_end;
mod fanout;
mod frame;
mod index;
mod send_queue;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    benches,
    frame::bench,
    index::bench,
    fanout::bench,
    cores::bench,
    commands::bench,
    send_queue::bench,
    codec::bench,
    end_to_end::bench
);
criterion_main!(benches);
