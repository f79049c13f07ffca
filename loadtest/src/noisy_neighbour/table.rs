//! The results of the trials, as a table and as JSON: [`Row`], [`Outcome`]. Pure.

use std::fmt::Write;
use std::fs;

use clap::ValueEnum;
use serde::Serialize;

use super::probe::Round;
use super::trials::{AttackName, Trial};
use super::watch::Most;
use super::{Measured, Rounds};
use crate::cli::NoisyNeighbourArgs;
use crate::percentiles::Percentiles;

/// The head of the table, in Markdown.
pub(super) const HEAD: &str = "\
| attack | cores | delivery without: p50 / p95 / p99 / max, ms | with the attack on another server \
| with the attack | write with: p50 / p99 (without) \
| RSS before → most → after, MiB | threads | done/s, server CPU and time of each | cut | load |
|---|---|---|---|---|---|---|---|---|---|---|
";

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(super) parameters: NoisyNeighbourArgs,
    pub(super) rows: Vec<Row>,
    /// Trials that could not be finished, and why.
    pub(super) failures: Vec<String>,
}

impl Outcome {
    /// Returns true if every trial was finished.
    pub(crate) fn is_complete(&self) -> bool {
        self.failures.is_empty()
    }
}

/// Returns the name, the clients and the unit that is counted.
pub(super) fn title(trial: &Trial) -> String {
    title_of(trial.name, trial.clients, trial.what)
}

fn title_of(attack: AttackName, clients: usize, what: &str) -> String {
    let name = attack.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned());
    format!("{name}, {clients} × {what}")
}

/// The server's resident memory, and the most threads that it had.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub(super) before_kib: u64,
    pub(super) most: Most,
    pub(super) after_kib: u64,
}

/// Medians over rounds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Others {
    delivery: Percentiles,
    write: Percentiles,
    /// As a share of one processor.
    server_cpu_share: f64,
    /// Over all rounds: changes that had not come after ten seconds, and those that gave way to newer ones.
    missing: u64,
    skipped: u64,
}

/// One trial.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    attack: AttackName,
    what: &'static str,
    clients: usize,
    cores: u16,
    /// The server had its data in Postgres, 10 ms away.
    is_on_postgres: bool,
    without: Others,
    /// With the attack on another server of the same kind: the part that the processors cost.
    beside: Option<Others>,
    with: Others,
    rss_before_kib: u64,
    rss_most_kib: u64,
    rss_after_kib: u64,
    threads_most: usize,
    /// Since the attacks began, also before and after the rounds.
    done: u64,
    done_per_s: f64,
    /// The server's additional use with the attack, against that without, for each that was done.
    server_cpu_us_each: f64,
    /// The time from one to the next of a client.
    us_each: f64,
    /// The number of times that the server ended or refused the attackers' connections or streams.
    cut: u64,
    /// The first of the other failures, and their number.
    failures: usize,
    first_failure: Option<String>,
    /// The machine's, at the end (`/proc/loadavg`): whatever else ran raises latencies.
    load_average: String,
}

impl Row {
    pub(super) fn new(
        trial: &Trial,
        cores: u16,
        is_on_postgres: bool,
        Measured { without, beside, with }: &Measured,
        memory: Memory,
    ) -> Self {
        let cpu_without_us = without.cpu_us / without.seconds * with.seconds;
        let each = |us: f64| us / with.done.max(1) as f64;
        let all = || [without, with].into_iter().chain(beside);
        let failures = || all().flat_map(|rounds| &rounds.each).flat_map(|round| &round.failures);
        let load_average = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            attack: trial.name,
            what: trial.what,
            clients: trial.clients,
            cores,
            is_on_postgres,
            without: Others::of(without),
            beside: beside.as_ref().map(Others::of),
            with: Others::of(with),
            rss_before_kib: memory.before_kib,
            rss_most_kib: memory.most.rss_kib,
            rss_after_kib: memory.after_kib,
            threads_most: memory.most.threads,
            done: with.done_in_all,
            done_per_s: with.done as f64 / with.seconds,
            server_cpu_us_each: each((with.cpu_us - cpu_without_us).max(0.0)),
            us_each: each(with.seconds * 1e6 * trial.clients as f64),
            cut: with.cut,
            failures: failures().count(),
            first_failure: failures().next().cloned(),
            load_average: load_average.split(' ').next().unwrap_or_default().to_owned(),
        }
    }

    /// Returns the row as a line of Markdown.
    pub(super) fn line(&self) -> String {
        let (title, cores) = (title_of(self.attack, self.clients, self.what), self.cores);
        let postgres = if self.is_on_postgres { ", Postgres" } else { "" };
        let mib = |kib: u64| kib as f64 / 1024.0;
        let mut line = format!("| {title}{postgres} | {cores} ");
        let beside = self.beside.as_ref().map_or_else(|| "–".to_owned(), |beside| beside.delivery.text());
        let _ = write!(line, "| {} | {beside} | {} ", self.without.delivery.text(), self.with.delivery.text());
        let (with, without) = (&self.with.write, &self.without.write);
        let ms = |us: f64| format!("{:.1}", us / 1000.0);
        let _ = write!(line, "| {} / {} ", ms(with.p50_us), ms(with.p99_us));
        let _ = write!(line, "({} / {}) ", ms(without.p50_us), ms(without.p99_us));
        let (before, most, after) = (mib(self.rss_before_kib), mib(self.rss_most_kib), mib(self.rss_after_kib));
        let _ = write!(line, "| {before:.0} → {most:.0} → {after:.0} | {} ", self.threads_most);
        let _ = write!(line, "| {:.0}, {:.2} µs, {:.1} µs ", self.done_per_s, self.server_cpu_us_each, self.us_each);
        let _ = writeln!(line, "| {} | {} |", self.cut, self.load_average);
        self.faults(&mut line);
        line
    }

    fn faults(&self, text: &mut String) {
        let sum =
            |of: fn(&Others) -> u64| [&self.without, &self.with].into_iter().chain(&self.beside).map(of).sum::<u64>();
        let (missing, skipped) = (sum(|others| others.missing), sum(|others| others.skipped));
        if missing > 0 {
            let _ = writeln!(text, "\n{missing} deliveries had not come after 10 s, and count as 10 s\n");
        }
        if skipped > 0 {
            let _ = writeln!(text, "\n{skipped} deliveries gave way to newer ones, and do not count\n");
        }
        if let Some(first) = &self.first_failure {
            let _ = writeln!(text, "\nFAILED: {} times, the first: {first}\n", self.failures);
        }
    }
}

impl Others {
    fn of(rounds: &Rounds) -> Self {
        let sum = |of: fn(&Round) -> u64| rounds.each.iter().map(of).sum();
        Self {
            delivery: Percentiles::medians(rounds.each.iter().map(|round| &round.delivery)),
            write: Percentiles::medians(rounds.each.iter().map(|round| &round.write)),
            server_cpu_share: rounds.cpu_us / (rounds.seconds * 1e6),
            missing: sum(|round| round.missing),
            skipped: sum(|round| round.skipped),
        }
    }
}

impl Percentiles {
    fn text(&self) -> String {
        let ms = [self.p50_us, self.p95_us, self.p99_us, self.max_us].map(|us| format!("{:.1}", us / 1000.0));
        ms.join(" / ")
    }
}
