//! The arguments of `healing`: [`HealingArgs`].

use anyhow::{Context, ensure};
use clap::Args;
use serde::Serialize;

use super::{PublisherKind, StormArgs, publishers_for};

/// The arguments of `healing`, whose server cannot have a store of its own.
#[derive(Clone, Debug, Args, Serialize)]
#[command(mut_arg("database_url", |url| url.help("A Postgres on this machine as the server's store. It gets the tables of a \
    server, products 1 to P are written, over whatever they are, and the connection by which the server listens is ended; \
    the role has to be allowed to end it, as the same role is")))]
pub(crate) struct HealingArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) storm: StormArgs,

    /// The number of times that the server's listening connection is ended
    #[arg(long, env = "ROWCAST_LOAD_KILLS", value_name = "N", default_value = "3",
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) kills: u32,

    /// Seconds before each end, from when all readers are live
    #[arg(long, env = "ROWCAST_LOAD_PAUSE", value_name = "SECONDS", default_value = "1")]
    pub(crate) pause: f64,

    /// Changes per second meanwhile, of products chosen at random; 0: none
    #[arg(long, env = "ROWCAST_LOAD_RATE", value_name = "R", default_value = "0")]
    pub(crate) rate: f64,

    /// How these are made: rest, or sql, whose cost is not the server's
    #[arg(long, env = "ROWCAST_LOAD_PUBLISHER", value_name = "WAY", default_value = "rest")]
    pub(crate) publisher: PublisherKind,

    /// Changes that are made in one transaction, with --publisher sql
    #[arg(long, env = "ROWCAST_LOAD_BATCH", value_name = "N", default_value = "1",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) batch: u32,

    /// Percentage of the products that are written anew by the transaction that ends the connection: nobody hears of them
    #[arg(long, env = "ROWCAST_LOAD_CHANGED", value_name = "PERCENT", default_value = "0",
          value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) changed: u32,

    /// Have the readers ask for their products as they are when they subscribe; else they hear of changes alone
    #[arg(long, env = "ROWCAST_LOAD_SNAPSHOT")]
    pub(crate) snapshot: bool,
}

impl HealingArgs {
    /// Refuses what cannot be run.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        self.database_url()?;
        self.storm.check()?;
        ensure!((0.0..=600.0).contains(&self.pause), "--pause is from 0 to 600 seconds");
        ensure!((0.0..=100_000.0).contains(&self.rate), "--rate is from 0 to 100000 changes per second");
        ensure!(
            self.publisher != PublisherKind::Notify,
            "--publisher notify writes no rows, which readers could be compared with; give rest or sql"
        );
        ensure!(
            self.batch == 1 || self.publisher == PublisherKind::Sql,
            "--batch goes with --publisher sql: a request has one change"
        );
        Ok(())
    }

    /// Returns the database of the server.
    pub(crate) fn database_url(&self) -> anyhow::Result<&str> {
        self.storm.own.database_url.as_deref().context(
            "healing ends the connection by which a server listens to its Postgres: give --database-url, a database that \
             nobody needs, and --overwrite-products",
        )
    }

    /// Returns the number of connections that publish.
    pub(crate) fn publishers(&self) -> u32 {
        if self.rate > 0.0 { publishers_for(self.rate, self.batch) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::{Cli, Command};

    #[test]
    fn it_needs_a_database_that_nobody_needs() {
        let check = |args: &[&str]| {
            let cli = Cli::try_parse_from([&["rowcast-load", "healing"], args].concat()).unwrap();
            let Command::Healing(args) = cli.command else { panic!("{cli:?}") };
            args.check().map(|()| args.publishers()).map_err(|error| error.to_string())
        };
        assert!(check(&["--overwrite-products"]).unwrap_err().contains("--database-url"));
        let database = ["--database-url", "postgres://localhost"];
        assert!(check(&database).unwrap_err().contains("--overwrite-products"));
        let good = [&database[..], &["--overwrite-products"]].concat();
        let with = |more: &[&str]| check(&[&good[..], more].concat());
        assert_eq!((with(&[]), with(&["--rate=3000"])), (Ok(0), Ok(60)));
        assert_eq!(with(&["--rate=3000", "--batch=10", "--publisher=sql"]), Ok(6));
        for (more, why) in [
            ("--publisher=notify", "rest or sql"),
            ("--pause=-1", "--pause"),
            ("--rate=-1", "--rate"),
            ("--batch=10", "--publisher sql"),
        ] {
            assert!(with(&[more]).unwrap_err().contains(why), "{more}");
        }
    }
}
