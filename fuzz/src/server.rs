//! What a server answers with, without a server: its store is away.

use std::sync::Arc;

use clap::Parser;
use rowcast::config::{Cli, Config, Task};
use rowcast::fanout::Hub;
use rowcast::http::{Services, Shared};
use rowcast::ingest::Hearing;
use rowcast::metrics::Metrics;
use rowcast::model::table::Tables;
use rowcast::shutdown::Shutdown;
use rowcast::source::Health;
use rowcast::store::Store;
use rowcast::store::postgres::PostgresStore;
use rowcast::store::postgres::config::PostgresConfig;
use rowcast::transport::admission::Admission;

/// What these options say.
pub fn config(options: &[&str]) -> Config {
    let task = Cli::try_parse_from([&["rowcast"], options].concat()).expect("the options are right").into_task(None);
    let Ok(Task::Serve(config)) = task else { panic!("{task:?}") };
    config
}

/// The services of a server whose control core has ended, so that the store answers at once that it is away.
pub fn services(config: &Config) -> Services {
    let ended = tokio::runtime::Builder::new_current_thread().build().expect("a runtime is built");
    let database = PostgresConfig::parse("postgres://nobody@127.0.0.1/none?sslmode=disable").expect("a database URL");
    let store = Store::Postgres(PostgresStore::new(&database), ended.handle().clone());
    drop(ended);
    let metrics = Arc::new(Metrics::new());
    Services {
        shared: Shared::new(&config.http),
        store,
        hub: Hub::new(1, 1, Tables::new()).0,
        hearing: Hearing::default(),
        health: Health::new(Arc::clone(&metrics)),
        metrics,
        admission: Arc::new(Admission::new(config.admission)),
        limits: config.http,
        shutdown: Shutdown::new(),
        keys: config.keys.clone(),
        allowed_origins: Arc::clone(&config.allowed_origins),
        slow_consumer: config.limits.queue.policy,
    }
}
