//! A run as a picture: [`draw`] makes an SVG that explains itself and needs nothing else.

use std::fmt::Write;

use crate::report::{Outcome, duration};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 720.0;
const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#222}.title{font-size:16px;font-weight:600}\
    .head{font-size:13px;font-weight:600}.grid{stroke:#e4e4e4}.axis{stroke:#888}.end{text-anchor:end}.mid{text-anchor:middle}\
    .a{stroke:#1f6feb;fill:none;stroke-width:2}.b{stroke:#d4572a;fill:none;stroke-width:2}";

/// The picture: latency by percentile above, throughput and p99 over time below.
pub(crate) fn draw(outcome: &Outcome) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         role=\"img\">\n<title>{title}</title>\n<style>{STYLE}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"90\" y=\"28\" class=\"title\">{title}</text>\n<text x=\"90\" y=\"48\">{subtitle}</text>\n",
        title = escape(&title(outcome)),
        subtitle = escape(&subtitle(outcome)),
    );
    percentiles(&mut svg, outcome);
    over_time(&mut svg, outcome);
    svg.push_str("</svg>\n");
    svg
}

fn title(outcome: &Outcome) -> String {
    let asked = &outcome.parameters;
    let pace = asked
        .rate
        .map_or_else(|| format!("{} publishers at once", outcome.publishers), |rate| format!("{rate} changes/s"));
    let readers = &asked.readers;
    format!(
        "{:?}: {} readers, each of {} of {} products, {pace}",
        asked.target.peer, readers.connections, readers.ids_per_connection, readers.products
    )
}

fn subtitle(outcome: &Outcome) -> String {
    let cpu = outcome
        .server
        .map_or(String::new(), |server| format!(", {:.2} µs of server CPU each", server.cpu_us_per_delivery));
    format!(
        "{} deliveries in {:.1} s: {:.0}/s{cpu}; frames of {} bytes",
        outcome.deliveries, outcome.seconds, outcome.deliveries_per_s, outcome.parameters.payload_bytes
    )
}

fn percentiles(svg: &mut String, outcome: &Outcome) {
    let curve = &outcome.latencies.curve_us;
    let most = curve.iter().map(|(_, us)| *us).fold(1.0, f64::max);
    let plot = Plot { left: 90.0, top: 100.0, width: 680.0, height: 220.0 };
    plot.frame(svg, "Latency by percentile, from when a change was due to when a reader had it");
    plot.left_axis(svg, most, "latency", duration);
    let x = |percentile: f64| -(1.0 - percentile / 100.0).log10() / 5.0;
    for (percentile, name) in
        [(0.0, "0"), (90.0, "90"), (99.0, "99"), (99.9, "99.9"), (99.99, "99.99"), (99.999, "99.999")]
    {
        plot.tick(svg, x(percentile), name);
    }
    plot.below(svg, "percentile of deliveries, %");
    plot.line(svg, "a", curve.iter().map(|(percentile, us)| (x(*percentile), us / most)));
}

fn over_time(svg: &mut String, outcome: &Outcome) {
    let points = &outcome.latencies.points;
    let seconds = points.last().map_or(1.0, |point| point.at_s);
    let rate_max = points.iter().map(|point| point.deliveries_per_s).fold(1.0, f64::max);
    let p99_max = points.iter().map(|point| point.p99_us).fold(1.0, f64::max);
    let plot = Plot { left: 90.0, top: 420.0, width: 680.0, height: 220.0 };
    plot.frame(svg, "Throughput and 99th percentile over time, in intervals of 0.25 s");
    plot.left_axis(svg, rate_max, "deliveries/s", short);
    plot.right_axis(svg, p99_max, "p99 latency");
    for fifth in 0..=5 {
        let part = f64::from(fifth) / 5.0;
        plot.tick(svg, part, &format!("{:.1}", part * seconds));
    }
    plot.below(svg, "seconds since measuring began");
    plot.line(svg, "a", points.iter().map(|point| (point.at_s / seconds, point.deliveries_per_s / rate_max)));
    plot.line(svg, "b", points.iter().map(|point| (point.at_s / seconds, point.p99_us / p99_max)));
    for (x, class, name) in [(90.0, "a", "deliveries/s (left)"), (270.0, "b", "p99 latency (right)")] {
        let _ = writeln!(
            svg,
            "<line x1=\"{x}\" x2=\"{}\" y1=\"700\" y2=\"700\" class=\"{class}\"/><text x=\"{}\" y=\"704\">{name}</text>",
            x + 24.0,
            x + 30.0
        );
    }
}

/// A rectangle in which (0, 0) is at the lower left and (1, 1) at the upper right.
struct Plot {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

impl Plot {
    fn x(&self, part: f64) -> f64 {
        self.left + part.clamp(0.0, 1.0) * self.width
    }

    fn y(&self, part: f64) -> f64 {
        self.top + (1.0 - part.clamp(0.0, 1.0)) * self.height
    }

    fn frame(&self, svg: &mut String, head: &str) {
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{}\" class=\"head\">{head}</text>", self.left, self.top - 28.0);
        for quarter in 0..=4 {
            let y = self.y(f64::from(quarter) / 4.0);
            let class = if quarter == 0 { "axis" } else { "grid" };
            let (left, right) = (self.left, self.x(1.0));
            let _ = writeln!(svg, "<line x1=\"{left}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" class=\"{class}\"/>");
        }
    }

    fn left_axis(&self, svg: &mut String, most: f64, name: &str, show: impl Fn(f64) -> String) {
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{}\" class=\"end\">{name}</text>", self.left - 6.0, self.top - 10.0);
        self.values(svg, most, self.left - 6.0, "end", show);
    }

    fn right_axis(&self, svg: &mut String, most: f64, name: &str) {
        let x = self.x(1.0) + 6.0;
        let _ = writeln!(svg, "<text x=\"{x}\" y=\"{}\">{name}</text>", self.top - 10.0);
        self.values(svg, most, x, "", duration);
    }

    fn values(&self, svg: &mut String, most: f64, x: f64, class: &str, show: impl Fn(f64) -> String) {
        for quarter in 0..=4 {
            let part = f64::from(quarter) / 4.0;
            let (y, value) = (self.y(part) + 4.0, show(part * most));
            let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y:.1}\" class=\"{class}\">{value}</text>");
        }
    }

    fn tick(&self, svg: &mut String, part: f64, name: &str) {
        let (x, y) = (self.x(part), self.y(0.0));
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{y}\" y2=\"{}\" class=\"axis\"/><text x=\"{x:.1}\" y=\"{}\" class=\"mid\">{name}</text>",
            y + 4.0,
            y + 18.0
        );
    }

    fn below(&self, svg: &mut String, name: &str) {
        let (x, y) = (self.x(0.5), self.y(0.0) + 36.0);
        let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\" class=\"mid\">{name}</text>");
    }

    fn line(&self, svg: &mut String, class: &str, points: impl Iterator<Item = (f64, f64)>) {
        let points: Vec<String> = points.map(|(x, y)| format!("{:.1},{:.1}", self.x(x), self.y(y))).collect();
        let _ = writeln!(svg, "<polyline points=\"{}\" class=\"{class}\"/>", points.join(" "));
    }
}

/// A large number in few characters.
fn short(number: f64) -> String {
    match number {
        ..1e3 => format!("{number:.0}"),
        1e3..1e6 => format!("{:.1} k", number / 1e3),
        _ => format!("{:.2} M", number / 1e6),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::latency::Recorder;

    fn outcome(latencies_us: &[u64]) -> Outcome {
        let Command::Fanout(args) = Cli::try_parse_from(["rowcast-load", "fanout"]).unwrap().command else { panic!() };
        let mut recorder = Recorder::new();
        for us in latencies_us {
            recorder.record(us * 1000);
        }
        recorder.end_interval(0.5);
        recorder.end_interval(1.0);
        let mut outcome = Outcome::new(&args, 0.0, None);
        outcome.latencies = recorder.summary();
        outcome
    }

    /// Every element is closed by its own name, and no text holds a bare `<` or `&`.
    fn check_well_formed(svg: &str) {
        let mut open = Vec::new();
        for piece in svg.split('<').skip(1) {
            let (tag, text) = piece.split_once('>').expect("a tag ends");
            assert!(!text.contains('>'), "{text}");
            let entities = ["&amp;", "&lt;", "&gt;"];
            let bare = entities.iter().fold(text.to_owned(), |text, entity| text.replace(entity, ""));
            assert!(!bare.contains('&'), "{text}");
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap().to_owned();
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name));
            } else if !tag.ends_with('/') {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }

    #[test]
    fn the_picture_is_well_formed_and_has_no_impossible_numbers() {
        for latencies in [&[][..], &[100], &[100, 200, 90_000]] {
            let svg = draw(&outcome(latencies));
            check_well_formed(&svg);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            for said in ["Latency by percentile", "deliveries/s (left)", "p99 latency (right)", "seconds since"] {
                assert!(svg.contains(said), "{said}");
            }
        }
    }
}
