//! The publishing side: publishers that write one change after the other, each waiting for its answer.
//!
//! Open loop: every publisher writes its next change as soon as its last was answered. Paced: the changes have times at
//! which they are due, spread over the publishers, and a late one is late from when it was due (what is known as
//! coordinated omission does not hide it).

pub(crate) mod database;
mod http;
mod nats;
mod sql;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use crate::accounts::Published;
use crate::clock::{Alarm, Clock};
use crate::message::Message;
use crate::peer::Peer;
use crate::table::Table;
use crate::target::Target;
use crate::workload::Chance;

pub(crate) use http::{Http, HttpPublisher};
pub(crate) use nats::NatsPublisher;
pub(crate) use sql::{NotifyPublisher, SqlPublisher};

/// One publisher.
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

    /// Writes several changes in one transaction, and tells the versions that they got.
    async fn publish_many(&mut self, messages: &[(Message, usize)]) -> anyhow::Result<Vec<u64>> {
        match self {
            Self::Sql(publisher) => publisher.publish_many(messages).await,
            Self::Notify(publisher) => publisher.publish_many(messages).await,
            Self::Http(_) | Self::Nats(_) => unreachable!("the command line refuses --batch for these"),
        }
    }
}

/// The way by which publishers are reached.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    Http(Peer, Table, Target),
    Nats(SocketAddr),
    Sql(String),
    Notify(String),
}

impl Way {
    /// Connects this many publishers.
    pub(crate) async fn connect(&self, publishers: u32) -> anyhow::Result<Vec<Publisher>> {
        let mut connected = Vec::new();
        if let Self::Nats(address) = self {
            let publisher = NatsPublisher::connect(*address, publishers as usize).await?;
            connected.extend((0..publishers).map(|_| Publisher::Nats(publisher.clone())));
            return Ok(connected);
        }
        for _ in 0..publishers {
            connected.push(self.connect_one().await?);
        }
        Ok(connected)
    }

    async fn connect_one(&self) -> anyhow::Result<Publisher> {
        Ok(match self {
            Self::Http(peer, table, server) => Publisher::Http(HttpPublisher::connect(*peer, *table, server).await?),
            Self::Nats(address) => Publisher::Nats(NatsPublisher::connect(*address, 1).await?),
            Self::Sql(url) => Publisher::Sql(SqlPublisher::connect(url).await?),
            Self::Notify(url) => Publisher::Notify(NotifyPublisher::connect(url).await?),
        })
    }
}

/// The state that all publishers share.
pub(crate) struct Publishing {
    pub(crate) clock: Clock,
    pub(crate) products: u32,
    pub(crate) publishers: u32,
    /// Changes per second, or as fast as they are answered.
    pub(crate) rate: Option<f64>,
    /// The number of changes that a publisher makes at once.
    batch: u32,
    pub(crate) frame_bytes: usize,
    /// The table of the rows.
    pub(crate) table: Table,
    /// Returns the number of sockets that get a change of a product.
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
        (rate, batch): (Option<f64>, u32),
        frame_bytes: usize,
        subscribers: Box<dyn Fn(u32) -> u32>,
    ) -> Self {
        Self {
            clock,
            products,
            publishers,
            rate,
            batch,
            frame_bytes,
            table: Table::Products,
            subscribers,
            published: RefCell::new(Published::new(products, lanes)),
            stop: Cell::new(false),
            failures: Cell::new(0),
            first_failure: RefCell::new(None),
            version_max: Cell::new(1),
        }
    }

    /// Returns the number of lanes that keep every lane's versions in order. Where there are enough products each
    /// belongs to one publisher; otherwise several publish the same one, in no order among them.
    pub(crate) fn lanes(draws_versions: bool, products: u32, publishers: u32) -> u32 {
        if draws_versions || products >= publishers { 1 } else { publishers }
    }

    /// Returns the product that the publisher with this number changes next.
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
                let place = (turn * u64::from(publishing.publishers) + u64::from(number)) * u64::from(publishing.batch);
                let due_ns = began_ns + (place as f64 / rate * 1e9) as u64;
                alarm.until(due_ns).await?;
                due_ns
            }
            None => publishing.clock.now_ns(),
        };
        if publishing.stop.get() {
            break;
        }
        match publishing.publish(&mut publisher, number, turn, due_ns, &mut chance).await {
            Ok(()) => failures_in_a_row = 0,
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
    /// Writes what a publisher has to write in this turn, and notes what was answered.
    async fn publish(
        &self,
        publisher: &mut Publisher,
        number: u32,
        turn: u64,
        due_ns: u64,
        chance: &mut Chance,
    ) -> anyhow::Result<()> {
        let mut next = |place: u64| {
            let version = self.version(number, place);
            let message = Message { product: self.product(number, chance), version, due_ns };
            (message, self.padding(&message))
        };
        if self.batch == 1 {
            let (message, padding) = next(turn);
            let version = publisher.publish(&message, padding).await?;
            self.answered(message.product, version);
            return Ok(());
        }
        let batch = u64::from(self.batch);
        let mut messages: Vec<(Message, usize)> = (turn * batch..(turn + 1) * batch).map(next).collect();
        // Transactions that lock rows in one order end without each other's help.
        messages.sort_by_key(|(message, _)| message.product);
        let versions = publisher.publish_many(&messages).await?;
        for ((message, _), version) in messages.into_iter().zip(versions) {
            self.answered(message.product, version);
        }
        Ok(())
    }

    /// Returns the version of a publisher's change, where no store draws it: that of no other one, as from a sequence.
    fn version(&self, publisher: u32, place: u64) -> u64 {
        (place + 1) * u64::from(self.publishers) + u64::from(publisher)
    }

    fn answered(&self, product: u32, version: u64) {
        self.version_max.set(self.version_max.get().max(version));
        self.published.borrow_mut().add(product, version, (self.subscribers)(product));
    }

    fn padding(&self, message: &Message) -> usize {
        let version = message.version.max(self.version_max.get());
        self.table.padding(&Message { version, ..*message }, self.frame_bytes).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publishing(products: u32, publishers: u32) -> Publishing {
        Publishing::new(Clock::start(), (products, publishers, 1), (None, 1), 190, Box::new(|_| 1))
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
        let mut versions: Vec<u64> = (0..4)
            .flat_map(|number| (0..100).map(move |place| (number, place)))
            .map(|(number, place)| publishing.version(number, place))
            .collect();
        versions.sort_unstable();
        assert!(versions.windows(2).all(|pair| pair[0] < pair[1]), "one change has each version");
        assert_eq!(Publishing::lanes(false, 10, 4), 1);
        assert_eq!(Publishing::lanes(false, 1, 64), 64);
        assert_eq!(Publishing::lanes(true, 1, 64), 1);
    }
}
