//! Strangers who do everything that they should not, at every port (plain, TLS, the redirect's), while sockets that behave
//! lose nothing and the server's memory comes back.
//!
//! `ROWCAST_HOSTILE=long` makes it two minutes and 1,000 good sockets; `ROWCAST_HOSTILE_SEED` repeats a run whose seed
//! was printed.

mod attacks;
mod port;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout, timeout_at};

use self::attacks::{Attack, Dice};
use self::port::{Port, Speaks};
use crate::process::Running;
use crate::support::patiently;
use crate::support::server::{AMPLE_QUEUES, Http, product_json};
use crate::support::socket::Socket;
use crate::support::tls::Certificate;

/// Products that change; each good socket is subscribed to two of them.
const PRODUCTS: u64 = 10;
/// The mark of the last change of a product, by which a reader knows it.
const LAST: i64 = -1;

/// The extent of a run.
struct Extent {
    first_wave: Duration,
    duration: Duration,
    good_sockets: u64,
    strangers: u64,
}

impl Extent {
    fn wanted() -> Self {
        match std::env::var("ROWCAST_HOSTILE").as_deref() {
            Ok("long") => Self {
                first_wave: Duration::from_mins(1),
                duration: Duration::from_mins(2),
                good_sockets: 1000,
                strangers: 96,
            },
            _ => Self {
                first_wave: Duration::from_secs(3),
                duration: Duration::from_secs(3),
                good_sockets: 60,
                strangers: 36,
            },
        }
    }
}

#[tokio::test]
async fn good_sockets_lose_nothing_to_strangers_and_memory_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let server = Running::start(directory.path(), &AMPLE_QUEUES).await;
    let port = Port { address: server.address, speaks: Speaks::Http };
    drop(survives(server, &[port]).await);
}

#[tokio::test]
async fn nor_do_they_over_tls_and_beside_a_redirect() {
    let (directory, certificate) = (tempfile::tempdir().unwrap(), Certificate::new());
    let tls = [&certificate.options()[..], &["--redirect-listen", "127.0.0.1:0"]].concat();
    let mut server = Running::start(directory.path(), &[&AMPLE_QUEUES[..], &tls].concat()).await;
    let redirect = Port { address: server.redirect().await, speaks: Speaks::Redirects };
    let port = Port { address: server.address, speaks: Speaks::Tls(certificate.client()) };
    let server = survives(server, &[port.clone(), redirect.clone()]).await;
    let failed = port.http().await.metric("rowcast_tls_handshakes_total{outcome=\"failed\"}").await;
    assert!(failed > 0, "no handshake of TLS was broken");
    assert_eq!(redirect.http().await.request("GET", "/", None).await.status, 308);
    drop(server);
}

/// Lets strangers in at all ports; the first is where the good are. Returns the server, which still runs.
async fn survives(mut server: Running, ports: &[Port]) -> Running {
    let extent = Extent::wanted();
    let seed = std::env::var("ROWCAST_HOSTILE_SEED").map_or_else(|_| new_seed(), |seed| seed.parse().unwrap());
    eprintln!("ROWCAST_HOSTILE_SEED={seed}");
    // This process has one end of every socket, of both tests.
    assert!(rowcast::open_files::raise() >= 4 * extent.good_sockets + 8 * extent.strangers);
    server.ignore_log();
    let port = &ports[0];
    let readers = open_readers(port, extent.good_sockets).await;
    let mut writer = Writer::new(port).await;

    // A first wave, of twice as many: the allocator keeps what it freed in pools as large as the worst that has been, and
    // pages of code that had not been called are in memory. What follows must not add to that.
    let fresh_kib = resident_kib(&server);
    let end = Instant::now() + extent.first_wave;
    let strangers = let_in(ports, 2 * extent.strangers, !seed, end);
    writer.write_until(end).await;
    count_visits(strangers).await;
    until_strangers_are_gone(port, extent.good_sockets).await;
    let before_kib = resident_kib(&server);

    let end = Instant::now() + extent.duration;
    let strangers = let_in(ports, extent.strangers, seed, end);
    let (peak_kib, ()) = tokio::join!(highest_kib_until(&server, end), writer.write_until(end));
    let visits_by_attack = count_visits(strangers).await;
    let attacks = ports.iter().map(|port| Attack::all(&port.speaks).len()).sum::<usize>();
    assert_eq!(visits_by_attack.len(), attacks, "every attack was made: {visits_by_attack:?}");
    let written = writer.finish().await;

    let (received, good_sockets) = check_readers(readers, &written).await;
    until_strangers_are_gone(port, extent.good_sockets).await;
    check_closed(port).await;
    let after_kib = until_memory_is_back(&server, before_kib).await;
    eprintln!(
        "{} changes, {received} deliveries to {} good sockets, none lost\n{visits_by_attack:?}\n\
         resident KiB: {fresh_kib} before any stranger, {before_kib} after the first wave, {peak_kib} at most, \
         {after_kib} in the end",
        written.values().map(Vec::len).sum::<usize>(),
        good_sockets.len(),
    );
    server
}

fn new_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right");
    u64::from(now.subsec_nanos())
}

/// Versions by product, as they were written or received.
type Versions = BTreeMap<u64, Vec<u64>>;

/// A good socket, and what it received, once all has come. The socket is kept, since it counts in the server's memory.
type Reader = (Versions, Socket);

/// Opens good sockets, each subscribed to two products.
async fn open_readers(port: &Port, count: u64) -> JoinSet<Reader> {
    let mut readers = JoinSet::new();
    for number in 0..count {
        let products = [number % PRODUCTS, (number + 1) % PRODUCTS];
        let mut socket = port.socket().await;
        socket.subscribe(products).await;
        readers.spawn(read_until_last(socket, products.len()));
    }
    readers
}

/// Reads until each of so many products has had its last change.
async fn read_until_last(mut socket: Socket, products: usize) -> Reader {
    let mut versions = Versions::new();
    let mut ended = 0;
    while ended < products {
        let message = socket.next().await;
        let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{message}"));
        let product = number(&message["product"]["productId"]);
        versions.entry(product).or_default().push(number(&message["version"]));
        ended += usize::from(message["product"]["unitsAvailable"] == LAST);
    }
    (versions, socket)
}

/// Checks that every good socket received every version of its products, in order; how many in all, and the sockets.
async fn check_readers(readers: JoinSet<Reader>, written: &Versions) -> (usize, Vec<Socket>) {
    let (mut received, mut sockets) = (0, Vec::new());
    for (versions, socket) in patiently(readers.join_all()).await {
        assert_eq!(versions.len(), 2);
        for (product, versions) in versions {
            assert!(versions == written[&product], "product {product}: {versions:?}, and written was {written:?}");
            received += versions.len();
        }
        sockets.push(socket);
    }
    (received, sockets)
}

/// Changes the products, through REST like everybody.
struct Writer {
    http: Http,
    versions: Versions,
    changes: u64,
}

impl Writer {
    async fn new(port: &Port) -> Self {
        Self { http: port.http().await, versions: Versions::new(), changes: 0 }
    }

    async fn write_until(&mut self, end: Instant) {
        let mut pace = interval(Duration::from_millis(10));
        while Instant::now() < end {
            pace.tick().await;
            self.changes += 1;
            self.write(self.changes % PRODUCTS, self.changes.cast_signed()).await;
        }
    }

    async fn write(&mut self, product: u64, units: i64) {
        let body = product_json(product, units);
        let reply = self.http.request("PUT", &format!("/products/{product}"), Some(&body)).await;
        self.versions.entry(product).or_default().push(reply.version());
    }

    /// Writes the last change of each product.
    async fn finish(mut self) -> Versions {
        for product in 0..PRODUCTS {
            self.write(product, LAST).await;
        }
        self.versions
    }
}

/// The count of each attack, at each kind of port.
type VisitsByAttack = BTreeMap<(&'static str, &'static str), u64>;

/// Strangers who come again and again until the end, each to one port and with dice of its own.
fn let_in(ports: &[Port], strangers: u64, seed: u64, end: Instant) -> JoinSet<VisitsByAttack> {
    (0..strangers)
        .map(|number| {
            let dice = Dice::new(seed.wrapping_add(number));
            let number = usize::try_from(number).expect("few");
            // Every attack is somebody's first.
            visit_until(ports[number % ports.len()].clone(), number / ports.len(), dice, end)
        })
        .collect()
}

async fn visit_until(port: Port, first: usize, mut dice: Dice, end: Instant) -> VisitsByAttack {
    let attacks = Attack::all(&port.speaks);
    let mut visits = VisitsByAttack::new();
    let mut attack = attacks[first % attacks.len()];
    loop {
        *visits.entry((port.speaks.name(), attack.name())).or_default() += 1;
        // An error is the server's defence.
        if timeout_at(end, attack.visit(&port, &mut dice)).await.is_err() {
            return visits;
        }
        attack = attacks[dice.below(attacks.len())];
    }
}

async fn count_visits(strangers: JoinSet<VisitsByAttack>) -> VisitsByAttack {
    let mut all = VisitsByAttack::new();
    for visits in strangers.join_all().await {
        for (attack, count) in visits {
            *all.entry(attack).or_default() += count;
        }
    }
    all
}

/// The memory of the server's process that is in RAM.
fn resident_kib(server: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("the server runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says so");
    line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
}

/// The most that it is, looking now and then.
async fn highest_kib_until(server: &Running, end: Instant) -> u64 {
    let mut looks = interval(Duration::from_millis(50));
    let mut highest = 0;
    while Instant::now() < end {
        looks.tick().await;
        highest = highest.max(resident_kib(server));
    }
    highest
}

/// Waits until the server has the good sockets and nobody else's.
async fn until_strangers_are_gone(port: &Port, good_sockets: u64) {
    let mut http = port.http().await;
    for (metric, wanted) in [("rowcast_connections", good_sockets), ("rowcast_subscriptions", 2 * good_sockets)] {
        patiently(async { while http.metric(metric).await != wanted {} }).await;
    }
}

/// Checks that strangers were closed for what they did.
async fn check_closed(port: &Port) {
    let mut http = port.http().await;
    for reason in ["protocol", "vanished"] {
        let closed = http.metric(&format!("rowcast_connections_closed_total{{reason=\"{reason}\"}}")).await;
        assert!(closed > 0, "nobody was closed for {reason}");
    }
}

/// Waits until the server has no more memory than before, within a tenth; how much it has then.
async fn until_memory_is_back(server: &Running, before_kib: u64) -> u64 {
    let mut looks = interval(Duration::from_millis(50));
    let mut now_kib = 0;
    let back = async {
        loop {
            looks.tick().await;
            now_kib = resident_kib(server);
            if now_kib <= before_kib + before_kib / 10 {
                return;
            }
        }
    };
    let is_back = timeout(Duration::from_mins(1), back).await.is_ok();
    assert!(is_back, "{before_kib} KiB resident before, {now_kib} KiB a minute after");
    now_kib
}
