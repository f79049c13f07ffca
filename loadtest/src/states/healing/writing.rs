//! The changes that are made while the source comes and goes: [`Writing`].

use std::rc::Rc;
use std::time::Instant;

use serde::Serialize;
use tokio::task::{JoinHandle, spawn_local};

use crate::cli::{HealingArgs, PublisherKind};
use crate::clock::Clock;
use crate::peer::Peer;
use crate::publish::{self, Publishing, Way};
use crate::table::Table;
use crate::target::Target;

/// Publishers at work.
pub(super) struct Writing {
    began: Instant,
    publishing: Rc<Publishing>,
    publishers: Vec<JoinHandle<()>>,
}

/// What they did.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Written {
    /// The changes that were answered for.
    pub(super) changes: u64,
    pub(super) changes_per_s: f64,
    pub(super) failures: u64,
    pub(super) first_failure: Option<String>,
}

impl Writing {
    /// Begins to write, if anything is to be written.
    pub(super) async fn start(args: &HealingArgs, server: &Target, clock: Clock) -> anyhow::Result<Self> {
        let (products, count) = (args.storm.products, args.publishers());
        let way = match args.publisher {
            PublisherKind::Rest => Way::Http(Peer::Rowcast, Table::Products, server.clone()),
            PublisherKind::Sql | PublisherKind::Notify => Way::Sql(args.database_url()?.to_owned()),
        };
        let (lanes, frame_bytes) = (Publishing::lanes(true, products, count), args.storm.payload_bytes as usize);
        let publishing = Publishing::new(
            clock,
            (products, count, lanes),
            (Some(args.rate), args.batch),
            frame_bytes,
            Box::new(|_| 0),
        );
        let publishing = Rc::new(publishing);
        let start = |(number, publisher)| spawn_local(publish::run(Rc::clone(&publishing), publisher, number));
        let publishers = (0..).zip(way.connect(count).await?).map(start).collect();
        Ok(Self { began: Instant::now(), publishing, publishers })
    }

    /// Learns versions that somebody else committed.
    pub(super) fn committed(&self, versions: &[(u32, u64)]) {
        let mut published = self.publishing.published.borrow_mut();
        for (product, version) in versions {
            published.renew(*product, *version);
        }
    }

    /// Returns the newest version of each product of which it is known that it is committed.
    pub(super) fn newest(&self) -> Vec<u64> {
        self.publishing.published.borrow().newest.clone()
    }

    /// Stops, and waits for the last answers.
    pub(super) async fn stop(self) -> anyhow::Result<Written> {
        self.publishing.stop.set(true);
        for publisher in self.publishers {
            publisher.await?;
        }
        let (changes, failures) = (self.publishing.published.borrow().changes, self.publishing.failures.get());
        let changes_per_s = changes as f64 / self.began.elapsed().as_secs_f64();
        Ok(Written { changes, changes_per_s, failures, first_failure: self.publishing.first_failure.borrow().clone() })
    }
}
