//! A PUT over HTTP until the last subscriber has read the change: a whole server on the embedded store in this process,
//! and real sockets over loopback.
//!
//! "from the request" includes the commit, which waits for the disk of the temporary directory (`TMPDIR`); "from the
//! answer" is what is left to wait when the writer knows that its change is committed. The reader reads one socket after
//! another on one thread, and that is in both.

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, SamplingMode};
use rowcast::open_files;

use self::clients::{Subscriber, Writer};
use self::served::Served;

mod clients;
mod served;

const SUBSCRIBERS: [usize; 3] = [1, 100, 1000];

/// From when the clock runs.
#[derive(Clone, Copy)]
enum From {
    Request,
    Answer,
}

pub(crate) fn bench(criterion: &mut Criterion) {
    assert!(open_files::raise() > 2500, "2,500 files can be open; raise the hard limit (ulimit -Hn)");
    let mut group = criterion.benchmark_group("end_to_end");
    group.sampling_mode(SamplingMode::Flat).sample_size(20);
    for count in SUBSCRIBERS {
        let served = Served::start();
        let mut writer = Writer::connect(served.address());
        writer.put();
        let mut subscribers: Vec<_> = (0..count).map(|_| Subscriber::connect(served.address())).collect();
        for (name, from) in [("from the request", From::Request), ("from the answer", From::Answer)] {
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter_custom(|changes| {
                    (0..changes).map(|_| change_to_last_reader(&mut writer, &mut subscribers, from)).sum()
                });
            });
        }
    }
    group.finish();
}

fn change_to_last_reader(writer: &mut Writer, subscribers: &mut [Subscriber], from: From) -> Duration {
    let requested = Instant::now();
    writer.put();
    let start = match from {
        From::Request => requested,
        From::Answer => Instant::now(),
    };
    for subscriber in subscribers {
        subscriber.read_change();
    }
    start.elapsed()
}
