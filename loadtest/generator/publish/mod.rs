//! The publishing side: publishers that write one change after the other, each waiting for its answer.
//!
//! Open loop: every publisher writes its next change as soon as its last was answered. Paced: the changes have times at
//! which they are due, spread over the publishers, and a late one is late from when it was due (what is known as
//! coordinated omission does not hide it).

mod http;
mod nats;
mod sql;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use crate::accounts::Published;
use crate::clock::{Alarm, Clock};
use crate::message::{Message, padding};
use crate::peer::Peer;
use crate::workload::Chance;

pub(crate) use http::{Http, HttpPublisher};
pub(crate) use nats::NatsPublisher;
pub(crate) use sql::{NotifyPublisher, SqlPublisher};

/// One connection that writes.
pub(crate) enum Publisher {
    Http(HttpPublisher),
    Nats(NatsPublisher),
    Sql(SqlPublisher),
    Notify(NotifyPublisher),
}

impl Publisher {
    /// Writes a change, waits for the answer, and tells the version that the change got.
    async fn publish(&mut self, message: &Message, padding: usize) -> anyhow::Result<u64> {
        match self {
            Self::Http(publisher) => publisher.publish(message, padding).await,
            Self::Nats(publisher) => publisher.publish(message, padding).await,
            Self::Sql(publisher) => publisher.publish(message, padding).await,
            Self::Notify(publisher) => publisher.publish(message, padding).await,
        }
    }
}

/// How publishers are reached.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    Http(Peer, SocketAddr),
    Nats(SocketAddr),
    Sql(String),
    Notify(String),
}

impl Way {
    pub(crate) async fn connect(&self) -> anyhow::Result<Publisher> {
        Ok(match self {
            Self::Http(peer, address) => Publisher::Http(HttpPublisher::connect(*peer, *address).await?),
            Self::Nats(address) => Publisher::Nats(NatsPublisher::connect(*address).await?),
            Self::Sql(url) => Publisher::Sql(SqlPublisher::connect(url).await?),
            Self::Notify(url) => Publisher::Notify(NotifyPublisher::connect(url).await?),
        })
    }
}

/// What all publishers share.
pub(crate) struct Publishing {
    pub(crate) clock: Clock,
    pub(crate) products: u32,
    pub(crate) publishers: u32,
    /// Changes per second, or as fast as they are answered.
    pub(crate) rate: Option<f64>,
    pub(crate) frame_bytes: usize,
    pub(crate) lanes: u32,
    /// How many sockets get a change of a product.
    pub(crate) subscribers: Box<dyn Fn(u32) -> u32>,
    pub(crate) published: RefCell<Published>,
    pub(crate) stop: Cell<bool>,
    pub(crate) failures: Cell<u64>,
    pub(crate) first_failure: RefCell<Option<String>>,
    /// The greatest version so far, whose digits count in the length of a frame.
    version_max: Cell<u64>,
}

impl Publishing {
    pub(crate) fn new(
        clock: Clock,
        (products, publishers, lanes): (u32, u32, u32),
        rate: Option<f64>,
        frame_bytes: usize,
        subscribers: Box<dyn Fn(u32) -> u32>,
    ) -> Self {
        Self {
            clock,
            products,
            publishers,
            rate,
            frame_bytes,
            lanes,
            subscribers,
            published: RefCell::new(Published::new(products, lanes)),
            stop: Cell::new(false),
            failures: Cell::new(0),
            first_failure: RefCell::new(None),
            version_max: Cell::new(1),
        }
    }

    /// How many lanes keep every lane's versions in order. Where there are enough products each belongs to one
    /// publisher; otherwise several publish the same one, in no order among them.
    pub(crate) fn lanes(draws_versions: bool, products: u32, publishers: u32) -> u32 {
        if draws_versions || products >= publishers { 1 } else { publishers }
    }

    /// Which product the publisher with this number changes next.
    fn product(&self, publisher: u32, chance: &mut Chance) -> u32 {
        if self.products < self.publishers {
            return chance.below(self.products) + 1;
        }
        let mine = (self.products - publisher).div_ceil(self.publishers);
        1 + publisher + self.publishers * chance.below(mine)
    }

    pub(crate) fn fail(&self, error: &anyhow::Error) {
        self.failures.set(self.failures.get() + 1);
        self.first_failure.borrow_mut().get_or_insert_with(|| format!("{error:#}"));
    }
}

/// A publisher that fails this often in a row gives up.
const FAILURES_MAX: u32 = 3;

/// Publishes until the run stops. Returns after its last answer.
pub(crate) async fn run(publishing: Rc<Publishing>, publisher: Publisher, number: u32) {
    if let Err(error) = publish_all(&publishing, publisher, number).await {
        publishing.fail(&error);
    }
}

async fn publish_all(publishing: &Publishing, mut publisher: Publisher, number: u32) -> anyhow::Result<()> {
    let alarm = Alarm::new(publishing.clock)?;
    let began_ns = publishing.clock.now_ns();
    let mut chance = Chance(u64::from(number));
    let mut failures_in_a_row = 0;
    for turn in 0u64.. {
        let due_ns = match publishing.rate {
            Some(rate) => {
                let place = turn * u64::from(publishing.publishers) + u64::from(number);
                let due_ns = began_ns + (place as f64 / rate * 1e9) as u64;
                alarm.until(due_ns).await?;
                due_ns
            }
            None => publishing.clock.now_ns(),
        };
        if publishing.stop.get() {
            break;
        }
        let lane = if publishing.lanes == 1 { 0 } else { number };
        let version = (turn + 1) * u64::from(publishing.lanes) + u64::from(lane);
        let message = Message { product: publishing.product(number, &mut chance), version, due_ns };
        match publisher.publish(&message, publishing.padding(&message)).await {
            Ok(version) => {
                failures_in_a_row = 0;
                publishing.answered(message.product, version);
            }
            Err(error) => {
                failures_in_a_row += 1;
                if failures_in_a_row == FAILURES_MAX {
                    return Err(error);
                }
                publishing.fail(&error);
            }
        }
    }
    Ok(())
}

impl Publishing {
    fn answered(&self, product: u32, version: u64) {
        self.version_max.set(self.version_max.get().max(version));
        self.published.borrow_mut().add(product, version, (self.subscribers)(product));
    }

    fn padding(&self, message: &Message) -> usize {
        let version = message.version.max(self.version_max.get());
        padding(&Message { version, ..*message }, self.frame_bytes).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publishing(products: u32, publishers: u32) -> Publishing {
        Publishing::new(Clock::start(), (products, publishers, 1), None, 190, Box::new(|_| 1))
    }

    #[test]
    fn a_product_belongs_to_one_publisher_where_there_are_enough() {
        let publishing = publishing(10, 4);
        let mut publishers_by_product = [None; 11];
        for number in 0..4 {
            let mut chance = Chance(7);
            for _ in 0..200 {
                let product = publishing.product(number, &mut chance) as usize;
                assert!(publishers_by_product[product].is_none_or(|other| other == number));
                publishers_by_product[product] = Some(number);
            }
        }
        assert_eq!(publishers_by_product.iter().flatten().count(), 10);
        assert_eq!(Publishing::lanes(false, 10, 4), 1);
        assert_eq!(Publishing::lanes(false, 1, 64), 64);
        assert_eq!(Publishing::lanes(true, 1, 64), 1);
    }
}
