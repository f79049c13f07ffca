use std::path::Path;

use clap::{CommandFactory, Parser, ValueEnum};

use super::*;
use crate::session::queue::SlowConsumerPolicy;
use crate::store::postgres::tables::BadSpec;

fn task(args: &[&str], database_url: Option<&str>) -> Result<Task, ConfigError> {
    let cli = Cli::try_parse_from([&["rowcast"], args].concat()).unwrap();
    cli.into_task(database_url.map(str::to_owned))
}

fn config(args: &[&str]) -> Config {
    match task(args, None) {
        Ok(Task::Serve(config)) => config,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_option_has_a_heading_a_variable_and_help() {
    let command = Cli::command();
    for command in std::iter::once(&command).chain(command.get_subcommands()) {
        for option in command.get_arguments().filter(|option| !["help", "version"].contains(&option.get_id().as_str()))
        {
            let name = option.get_id().as_str();
            let variable = option.get_env().unwrap_or_else(|| panic!("{name} has no variable"));
            assert_eq!(*variable, *format!("ROWCAST_{}", name.to_uppercase()));
            assert!(option.get_help().is_some(), "{name} has no help");
            assert!(option.get_help_heading().is_some(), "{name} has no heading");
        }
    }
    Cli::command().debug_assert();
}

#[test]
fn serving_is_the_default_and_takes_the_same_options() {
    for args in [&["--cores", "3"][..], &["serve", "--cores", "3"]] {
        let config = config(args);
        assert_eq!((config.cores, config.shards), (3, 3));
        assert_eq!(config.listen, "127.0.0.1:8080".parse().unwrap());
        assert!(matches!(config.store, StoreConfig::Embedded(store) if store.dir == Path::new("rowcast-data")));
        assert_eq!(config.limits.subscriptions_max, 100_000);
        assert_eq!(config.limits.queue.policy, SlowConsumerPolicy::Conflate);
    }
}

#[test]
fn a_public_address_must_be_meant() {
    let public = |args: &[&str]| task(args, None).map(|_| ());
    for address in ["0.0.0.0:80", "[::]:80", "192.0.2.1:80", "[::ffff:192.0.2.1]:80"] {
        assert!(matches!(public(&["--listen", address]), Err(ConfigError::Public(_))), "{address}");
        assert!(public(&["--listen", address, "--allow-anonymous"]).is_ok());
    }
    for address in ["127.0.0.1:80", "127.9.9.9:80", "[::1]:80", "[::ffff:127.0.0.1]:80", "localhost:80"] {
        assert!(public(&["--listen", address]).is_ok(), "{address}");
    }
    for wrong in ["", "8080", "127.0.0.1", "127.0.0.1:99999", ":80x"] {
        assert!(matches!(public(&["--listen", wrong]), Err(ConfigError::Listen(text)) if text == wrong), "{wrong}");
    }
}

#[test]
fn the_option_wins_over_database_url_and_an_empty_one_is_none() {
    let store = |args: &[&str], url| match task(args, url) {
        Ok(Task::Serve(Config { store: StoreConfig::Postgres(store), .. })) => store.database.to_string(),
        Ok(Task::Serve(Config { store: StoreConfig::Embedded(store), .. })) => store.dir.display().to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(store(&["--database-url", "postgres://u@a/d"], Some("postgres://u@b/d")), "a:5432/d");
    assert_eq!(store(&[], Some("postgres://u@a/d")), "a:5432/d");
    assert_eq!(store(&[], Some("")), "rowcast-data");
    assert!(matches!(task(&["migrate"], None), Err(ConfigError::NoDatabase(_))));
    assert!(matches!(task(&["migrate"], Some("postgres://u@a/d")), Ok(Task::Migrate(_))));
    assert!(matches!(task(&[], Some("mysql://u@a/d")), Err(ConfigError::Database(_))));
}

#[test]
fn tables_are_named_one_by_one_or_in_a_list() {
    let tables = |args: &[&str]| match task(args, Some("postgres://u@a/d")).unwrap() {
        Task::Migrate(config) | Task::Unmigrate(config) => {
            config.tables.specs.iter().map(ToString::to_string).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert!(tables(&["migrate"]).is_empty());
    let wanted = ["orders", "shop.customers:customer_no", "\"a,b\""];
    assert_eq!(tables(&["migrate", "--table", "orders", "--table", "shop.customers:customer_no,\"a,b\""]), wanted);
    assert_eq!(tables(&["unmigrate", "--table", "orders"]), ["orders"]);

    let refused = |args: &[&str]| task(args, Some("postgres://u@a/d")).unwrap_err();
    assert!(matches!(refused(&["unmigrate"]), ConfigError::NoTable));
    let wrong = refused(&["migrate", "--table", "orders", "--table", "a:b:c"]);
    assert!(matches!(wrong, ConfigError::Table(text, BadSpec::Colons) if text == "a:b:c"));
    assert!(matches!(task(&["unmigrate", "--table", "orders"], None), Err(ConfigError::NoDatabase("unmigrate"))));
}

#[test]
fn a_server_hides_columns_and_may_leave_out_products_and_migrations() {
    let database = |args: &[&str]| match task(args, Some("postgres://u@a/d")).unwrap() {
        Task::Serve(Config { store: StoreConfig::Postgres(store), .. }) => store,
        other => panic!("{other:?}"),
    };
    let plain = database(&[]);
    assert!(plain.migrates && plain.tables == WantedTables::default());
    let given = database(&["--hide", "users.pin", "--hide", "a.\"b,c\",d.e", "--no-migrate", "--no-products"]);
    let hidden: Vec<_> = given.tables.hidden.iter().map(|hidden| (&*hidden.table, &*hidden.column)).collect();
    assert_eq!(hidden, [("users", "pin"), ("a", "\"b,c\""), ("d", "e")]);
    assert!(!given.migrates && given.tables.without_products);

    let wrong = task(&["--hide", "pin"], Some("postgres://u@a/d"));
    assert!(matches!(wrong, Err(ConfigError::Hide(text, BadSpec::NoColumn)) if text == "pin"));
    for args in [&["--hide", "users.pin"][..], &["--no-migrate"], &["--no-products"]] {
        assert!(matches!(task(args, None), Err(ConfigError::NoDatabase(option)) if option == args[0]), "{args:?}");
    }
}

#[test]
fn https_needs_both_files_and_the_redirect_needs_https() {
    let tls = config(&["--tls-cert", "c", "--tls-key", "k", "--redirect-listen", "0.0.0.0:80"]).tls.unwrap();
    assert_eq!(tls.files, TlsFiles { certificate: "c".into(), key: "k".into() });
    assert_eq!(tls.redirect_listen, Some("0.0.0.0:80".parse().unwrap()));
    assert_eq!(tls.handshake_timeout, Duration::from_secs(10));
    assert!(config(&[]).tls.is_none());
    for args in [&["--tls-cert", "c"][..], &["--tls-key", "k"], &["--redirect-listen", "127.0.0.1:80"]] {
        assert!(Cli::try_parse_from([&["rowcast"], args].concat()).is_err(), "{args:?}");
    }
    let wrong = task(&["--tls-cert", "c", "--tls-key", "k", "--redirect-listen", "80"], None);
    assert!(matches!(wrong, Err(ConfigError::RedirectListen(text)) if text == "80"));
}

#[test]
fn a_certificate_is_for_this_machine_unless_hosts_are_named() {
    let certify = |args: &[&str]| match task(args, None) {
        Ok(Task::Certify(config)) => config,
        other => panic!("{other:?}"),
    };
    assert_eq!(certify(&["cert"]).hosts, ["localhost", "127.0.0.1", "::1"]);
    let named = certify(&["cert", "--host", "a.example", "--host", "b.example", "--out", "certs", "--force"]);
    let hosts = ["a.example", "b.example"].map(str::to_owned).to_vec();
    assert_eq!(named, CertConfig { hosts, dir: "certs".into(), force: true });
}

#[test]
fn what_makes_no_sense_is_refused() {
    for args in [
        &["--cores", "0"][..],
        &["--shards", "0"],
        &["--max-connections", "-1"],
        &["--slow-consumer", "wait"],
        &["--log-format", "xml"],
        &["--send-queue-frames", "0"],
        &["--drain-seconds", "-1"],
        &["--max-http-sockets", "0"],
        &["--header-timeout-seconds", "0"],
        &["--max-header-bytes", "1023"],
        &["--max-body-bytes", "1048577"],
        &["--max-message-bytes", "1"],
    ] {
        assert!(Cli::try_parse_from([&["rowcast"], args].concat()).is_err(), "{args:?}");
    }
    assert!(matches!(task(&["--send-queue-bytes", "1"], None), Err(ConfigError::QueueBytes(1))));
}

#[test]
fn every_policy_is_an_option_by_the_name_that_metrics_show() {
    for policy in SlowConsumerPolicy::value_variants() {
        assert_eq!(policy.to_possible_value().unwrap().get_name(), policy.label());
        assert_eq!(config(&["--slow-consumer", policy.label()]).limits.queue.policy, *policy);
    }
}

#[test]
fn help_goes_through_the_headings_in_one_order() {
    let help = Cli::command().render_long_help().to_string();
    let headings: Vec<_> = help.lines().filter(|line| !line.starts_with(' ') && line.ends_with(':')).collect();
    let expected = [
        "Commands:",
        "Options:",
        "Listening:",
        "Access:",
        "HTTPS:",
        "Products:",
        "Tables:",
        "Fan-out:",
        "Slow readers:",
        "Limits:",
        "Stopping:",
        "Log:",
        "Examples:",
    ];
    assert_eq!(headings, expected);
}
