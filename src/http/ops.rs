//! The routes for operators: `/metrics`, `/healthz`, `/readyz`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use tokio::task::spawn_blocking;

use super::Answer;
use super::problem::Problem;
use super::routes::Call;
use crate::metrics;

/// Answers with all numbers. They are gathered on a thread that may wait, one answer at a time: to count open files may
/// take the kernel a while.
pub(super) async fn metrics(Call { services, .. }: Call<'_>) -> Result<Answer, Problem> {
    let _turn = services.shared.scrape.lock().await;
    let metrics = Arc::clone(&services.metrics);
    let encoded = spawn_blocking(move || metrics.encode()).await;
    let encoded = encoded.map_err(|_| Problem::unavailable("the numbers could not be gathered; see the log"))?;
    Ok(text(metrics::CONTENT_TYPE, encoded))
}

/// Answers that the process is alive.
pub(super) fn healthz() -> Answer {
    text("text/plain; charset=utf-8", "alive\n")
}

/// Answers that the process can do its work, if it can: the store answers, changes arrive, those that were missed
/// are made up for, and it does not stop.
pub(super) async fn readyz(Call { services, .. }: Call<'_>) -> Result<Answer, Problem> {
    if services.shutdown.draining.is_cancelled() {
        return Err(Problem::unavailable("not ready: the server stops"));
    }
    if !services.shared.readiness.of(&services.store).await {
        return Err(Problem::unavailable("not ready: the store does not answer"));
    }
    if let Some(obstacle) = services.health.obstacle() {
        return Err(Problem::unavailable(format!("not ready: {}", obstacle.advice())));
    }
    if !services.hearing.is_whole() {
        return Err(Problem::unavailable("not ready: changes do not arrive from the database"));
    }
    if !services.hub.is_live() {
        return Err(Problem::unavailable("not ready: what was missed is being read"));
    }
    Ok(text("text/plain; charset=utf-8", ready(&services.health.tables())))
}

/// Returns the word that the process is ready, with the tables that are not live. They are no reason to take all others
/// away from clients: every server would say the same.
fn ready(tables_lost: &BTreeMap<String, String>) -> String {
    let mut text = "ready\n".to_owned();
    for (name, reason) in tables_lost {
        let _ = writeln!(text, "not live: table {name}: {reason}");
    }
    text
}

fn text(content_type: &'static str, text: impl Into<Bytes>) -> Answer {
    let mut answer = Answer::new(text.into().into());
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
