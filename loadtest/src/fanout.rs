//! `fanout`: readers, publishers, a measured span, then the audit.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use rowcast::open_files;
use tokio::task::{JoinHandle, spawn_local, yield_now};
use tokio::time::sleep;

use crate::accounts::Accounts;
use crate::cli::{FanoutArgs, PublisherKind, loopback};
use crate::client::open_subscribed;
use crate::clock::{Alarm, Clock, watch};
use crate::known::Known;
use crate::message::Message;
use crate::opening::{Opened, open_all};
use crate::peer::{Joining, Peer, put_request};
use crate::process::{Cpu, rss_kib};
use crate::progress::Progress;
use crate::publish::{self, Http, Publishing, Way};
use crate::readers::{Readers, read_stream};
use crate::report::{Outcome, Server};
use crate::rows::Rows;
use crate::table::Table;
use crate::target::Target;
use crate::workload::Workload;

/// The length of one point of the chart.
const INTERVAL_NS: u64 = 250_000_000;
/// The interval at which the end of the deliveries is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A server that sends nothing for so long has no more to send.
const SILENCE: Duration = Duration::from_secs(2);
/// However much it sends, the run ends.
const DRAINING_MAX: Duration = Duration::from_mins(1);

/// Runs the load and tells what came of it.
pub(crate) async fn run(args: &FanoutArgs) -> anyhow::Result<Outcome> {
    args.check()?;
    let server = args.target.server()?;
    let _ = open_files::raise();
    let table = args.table()?;
    let way = way(args, table, &server)?;
    if table != Table::Products {
        write_first(table, &server).await?;
    }
    let workload = Workload::new(args.readers.connections, args.readers.ids_per_connection, args.readers.products);
    let opened = open_all(joining(args, table), &server, args.readers.http2, &workload, &args.target.pid).await?;
    Run::new(args, (server, table), way, workload, opened)?.measure().await
}

/// Writes the first row: a store of Rowcast's own makes a table with it, and before that nobody can subscribe.
async fn write_first(table: Table, server: &Target) -> anyhow::Result<()> {
    let mut http = Http::connect(server).await?;
    let first = Message { product: 1, version: 0, due_ns: 0 };
    let request = put_request(table, &first, 0, &http.token);
    http.request(&request).await.context("write the first row of --table")?;
    Ok(())
}

fn joining(args: &FanoutArgs, table: Table) -> Joining {
    Joining { peer: args.target.peer, asks_states: args.verify_state, table, has_events: args.event_streams }
}

fn way(args: &FanoutArgs, table: Table, server: &Target) -> anyhow::Result<Way> {
    let to = match &args.publish_to {
        Some(text) => {
            let address = loopback(text).with_context(|| format!("--publish-to {text}"))?;
            Target::plain(address, server.token.clone())
        }
        None => server.clone(),
    };
    let database_url = || args.database_url.clone().unwrap_or_default();
    Ok(match (args.publisher, args.target.peer) {
        (PublisherKind::Sql, _) => Way::Sql(database_url()),
        (PublisherKind::Notify, _) => Way::Notify(database_url()),
        (PublisherKind::Rest, Peer::Nats) => Way::Nats(to.address),
        (PublisherKind::Rest, peer) => Way::Http(peer, table, to),
    })
}

struct Run<'a> {
    args: &'a FanoutArgs,
    server: Target,
    way: Way,
    clock: Clock,
    readers: Rc<RefCell<Readers>>,
    publishing: Rc<Publishing>,
    outcome: Outcome,
}

/// The numbers at one end of the measured span.
struct Mark {
    at_ns: u64,
    received: u64,
    changes: u64,
    server: Cpu,
    own: Cpu,
}

impl<'a> Run<'a> {
    fn new(
        args: &'a FanoutArgs,
        (server, table): (Target, Table),
        way: Way,
        workload: Workload,
        opened: Opened,
    ) -> anyhow::Result<Self> {
        let clock = Clock::start();
        let draws_versions = args.target.peer.draws_versions() && args.publisher != PublisherKind::Notify;
        let (products, publishers) = (args.readers.products, args.publishers());
        let lanes = Publishing::lanes(draws_versions, products, publishers);
        let subscribers: Vec<u32> = (0..=products).map(|product| workload.subscribers(product)).collect();
        let mut publishing = Publishing::new(
            clock,
            (products, publishers, lanes),
            (args.rate, args.batch),
            args.payload_bytes as usize,
            Box::new(move |product| subscribers[product as usize]),
        );
        publishing.table = table;
        let accounts = Accounts::new(&workload, lanes);
        let known = args.verify_state.then(|| Known::new(&workload));
        let mut readers = Readers::new(workload, accounts, args.target.peer.envelope(), clock, args.slow())?;
        readers.sink().known = known;
        readers.sink().finder = table.finder();
        let outcome = Outcome::new(args, opened.seconds, opened.memory);
        for (number, client) in opened.clients {
            readers.add(number, client)?;
        }
        let (readers, publishing) = (Rc::new(RefCell::new(readers)), Rc::new(publishing));
        Ok(Self { args, server, way, clock, readers, publishing, outcome })
    }

    async fn measure(mut self) -> anyhow::Result<Outcome> {
        let reading = spawn_local(read_all(Rc::clone(&self.readers)));
        if self.args.readers.http2.is_some() {
            for number in 0..self.args.readers.connections {
                spawn_local(read_stream(Rc::clone(&self.readers), number));
            }
        }
        let publishers = self.start_publishers().await?;
        let churning = (self.args.churn > 0.0).then(|| spawn_local(self.churn()));
        let (from, to) = self.watch().await?;
        if let Some(churning) = &churning {
            churning.abort();
        }
        self.publishing.stop.set(true);
        for publisher in publishers {
            publisher.await?;
        }
        self.readers.borrow_mut().resume_slow()?;
        self.drain().await;
        if self.args.verify_state {
            let mut http = Http::connect(&self.server).await?;
            let rows = Rows::read(&mut http, self.publishing.table, self.args.readers.products).await?;
            self.outcome.states = self.readers.borrow_mut().compare(&rows);
        }
        anyhow::ensure!(!reading.is_finished(), "reading sockets failed: {:?}", reading.await);
        reading.abort();
        self.conclude(&from, &to)?;
        Ok(self.outcome)
    }

    async fn start_publishers(&self) -> anyhow::Result<Vec<JoinHandle<()>>> {
        let publishers = self.way.connect(self.args.publishers()).await?;
        let start = |(number, publisher)| spawn_local(publish::run(Rc::clone(&self.publishing), publisher, number));
        Ok((0..).zip(publishers).map(start).collect())
    }

    /// Waits out the warm-up, then the measured span, interval by interval.
    async fn watch(&mut self) -> anyhow::Result<(Mark, Mark)> {
        let alarm = Alarm::new(self.clock)?;
        let progress = Progress::new("measuring", None);
        // Above 0, which is the time of changes that have none.
        let begin_ns = 1 + self.clock.now_ns() + (self.args.warm_up * 1e9) as u64;
        let end_ns = begin_ns + (self.args.duration * 1e9) as u64;
        self.readers.borrow_mut().sink().measured_ns = begin_ns..end_ns;
        alarm.until(begin_ns).await?;
        let from = self.mark()?;
        let mut before = from.received;
        let mut at_ns = begin_ns;
        while at_ns < end_ns {
            let next_ns = (at_ns + INTERVAL_NS).min(end_ns);
            alarm.until(next_ns).await?;
            let seconds = (next_ns - at_ns) as f64 / 1e9;
            let received = self.end_interval((next_ns - begin_ns) as f64 / 1e9);
            progress.say(|| format!("{:.0} deliveries/s", (received - before) as f64 / seconds));
            (before, at_ns) = (received, next_ns);
        }
        progress.finish();
        Ok((from, self.mark()?))
    }

    fn end_interval(&self, at_s: f64) -> u64 {
        let mut readers = self.readers.borrow_mut();
        readers.sink().recorder.end_interval(at_s);
        readers.sink().accounts.received
    }

    fn mark(&self) -> anyhow::Result<Mark> {
        Ok(Mark {
            at_ns: self.clock.now_ns(),
            received: self.readers.borrow_mut().sink().accounts.received,
            changes: self.publishing.published.borrow().changes,
            server: Cpu::of(&self.args.target.pid)?,
            own: Cpu::own()?,
        })
    }

    /// Closes and opens connections, one after the other.
    fn churn(&self) -> impl Future<Output = ()> + 'static {
        let (readers, publishing, clock) = (Rc::clone(&self.readers), Rc::clone(&self.publishing), self.clock);
        let (joining, server, slow) =
            (joining(self.args, self.publishing.table), self.server.clone(), self.args.slow());
        let (connections, every_ns) = (self.args.readers.connections, 1e9 / self.args.churn);
        async move {
            let began_ns = clock.now_ns();
            for turn in 0usize.. {
                let result: anyhow::Result<()> = async {
                    Alarm::new(clock)?.until(began_ns + (turn as f64 * every_ns) as u64).await?;
                    let number = slow + turn % connections.saturating_sub(slow).max(1);
                    let ids = {
                        let mut readers = readers.borrow_mut();
                        readers.remove(number);
                        readers.sink().workload.ids(number).to_vec()
                    };
                    let client = open_subscribed(joining, &server, number, &ids).await?;
                    readers.borrow_mut().add(number, client)
                }
                .await;
                if let Err(error) = result {
                    return publishing.fail(&error.context("churn"));
                }
            }
        }
    }

    /// Waits until everything that was published has arrived, or no more arrives.
    async fn drain(&self) {
        let progress = Progress::new("waiting for the last deliveries", None);
        let expected = self.publishing.published.borrow().deliveries;
        let (mut last, mut silent, mut waited) = (0, Duration::ZERO, Duration::ZERO);
        while silent < SILENCE && waited < DRAINING_MAX {
            let arrived = {
                let mut readers = self.readers.borrow_mut();
                let accounts = &readers.sink().accounts;
                accounts.received + accounts.skipped
            };
            // Those that were closed in between do not get everything: then silence is the sign.
            if arrived == expected {
                break;
            }
            progress.say(|| format!("{arrived} of {expected}"));
            silent = if arrived == last { silent + LOOK_EVERY } else { Duration::ZERO };
            last = arrived;
            waited += LOOK_EVERY;
            sleep(LOOK_EVERY).await;
        }
        progress.finish();
    }

    fn conclude(&mut self, from: &Mark, to: &Mark) -> anyhow::Result<()> {
        let mut readers = self.readers.borrow_mut();
        let closed = readers.closed;
        let sink = readers.sink();
        let seconds = (to.at_ns - from.at_ns) as f64 / 1e9;
        let deliveries = to.received - from.received;
        sink.recorder.end_interval(self.args.duration);
        sink.accounts.audit(&sink.workload, &mut self.publishing.published.borrow_mut());
        let outcome = &mut self.outcome;
        outcome.seconds = seconds;
        outcome.deliveries = deliveries;
        outcome.deliveries_per_s = deliveries as f64 / seconds;
        outcome.answers_per_s = (to.changes - from.changes) as f64 / seconds;
        outcome.skipped = sink.accounts.skipped;
        outcome.closed = closed;
        outcome.latencies = sink.recorder.summary();
        outcome.publish_failures = self.publishing.failures.get();
        outcome.first_failure.clone_from(&self.publishing.first_failure.borrow());
        outcome.faults_count = sink.accounts.faults.count;
        outcome.faults = sink.accounts.faults.texts();
        outcome.load_cpu_share = to.own.since(&from.own).total_us / (seconds * 1e6);
        if !self.args.target.pid.is_empty() {
            let used = to.server.since(&from.server);
            outcome.server = Some(Server::new(used, deliveries, seconds, rss_kib(&self.args.target.pid)?));
        }
        Ok(())
    }
}

/// Reads all sockets for as long as it is polled.
async fn read_all(readers: Rc<RefCell<Readers>>) -> anyhow::Result<()> {
    let readiness = watch(readers.borrow().readiness()?)?;
    loop {
        let mut ready = readiness.readable().await?;
        if readers.borrow_mut().turn()? == 0 {
            ready.clear_ready();
        } else {
            // The publishers live on this thread too.
            yield_now().await;
        }
    }
}
