//! The server's own numbers: [`metric`].

use anyhow::{Context, ensure};

use crate::publish::Http;

/// Returns a number of `/metrics`, summed over its labels; 0 if none of them is there yet.
pub(crate) async fn metric(http: &mut Http, name: &str) -> anyhow::Result<u64> {
    let request = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\n{}\r\n", http.token.line());
    let answer = http.request(request.as_bytes()).await.context("read the server's metrics")?;
    sum_of(name, &String::from_utf8_lossy(&answer.body))
}

fn sum_of(name: &str, text: &str) -> anyhow::Result<u64> {
    // Where it is described, the suffix of a counter is left out.
    let described = format!("# TYPE {} ", name.strip_suffix("_total").unwrap_or(name));
    ensure!(text.lines().any(|line| line.starts_with(&described)), "/metrics has no {name}");
    let is_value = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    text.lines().filter(is_value).try_fold(0, |sum, line| {
        let value = line.rsplit(' ').next().unwrap_or_default();
        Ok(sum + value.parse::<u64>().with_context(|| format!("a number in {line:?}"))?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels() {
        let text = "# TYPE rowcast_subscriptions gauge\nrowcast_subscriptions{core=\"0\"} 3\nrowcast_subscriptions{core=\"1\"} 4\n\
                    # TYPE rowcast_changes counter\nrowcast_changes_total 9\n# TYPE rowcast_refused counter\n";
        for (name, sum) in [("rowcast_subscriptions", 7), ("rowcast_changes_total", 9), ("rowcast_refused_total", 0)] {
            assert_eq!(sum_of(name, text).unwrap(), sum, "{name}");
        }
        for name in ["rowcast_connections", "rowcast_sub"] {
            assert!(sum_of(name, text).is_err(), "{name}");
        }
    }
}
