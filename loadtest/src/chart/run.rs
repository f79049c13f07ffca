//! A run as a picture ([`draw`]): latency by percentile above, throughput and p99 over time below.

use plotters::chart::DualCoordChartContext;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::{AXIS, Area, BLUE, FAMILY, GRID, INK, RED, bold, svg, text};
use crate::latency::Point;
use crate::report::{Outcome, duration};

const SIZE: (u32, u32) = (860, 720);
/// Above both plots.
const TITLE: u32 = 64;
/// Beside the plots, for the values of their axes.
const VALUES: u32 = 80;
/// The longest curve: up to 99.999 %, which is five nines.
const NINES: f64 = 5.0;
/// Room above the lines, in which the legend stands.
const HEADROOM: f64 = 1.25;

/// Draws the picture.
pub(crate) fn draw(outcome: &Outcome) -> anyhow::Result<String> {
    svg(SIZE, |sheet| {
        sheet.draw(&Text::new(title(outcome), (20, 24), bold(16)))?;
        sheet.draw(&Text::new(subtitle(outcome), (20, 46), text(12, INK)))?;
        let (_, plots) = sheet.split_vertically(TITLE);
        let (above, below) = plots.split_vertically((SIZE.1 - TITLE) / 2);
        percentiles(&above, outcome)?;
        over_time(&below, outcome)
    })
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

fn percentiles(area: &Area<'_>, outcome: &Outcome) -> anyhow::Result<()> {
    let curve = &outcome.latencies.curve_us;
    let most = curve.iter().map(|(_, us)| *us).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption("Latency by percentile, from when a change was due to when a reader had it", bold(13))
        .margin(12)
        .margin_right(12 + VALUES)
        .x_label_area_size(44)
        .y_label_area_size(VALUES)
        .build_cartesian_2d(0.0..NINES, 0.0..most)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(AXIS)
        .label_style((FAMILY, 12, &INK))
        .x_desc("percentile of deliveries, %")
        .y_desc("latency")
        .x_labels(6)
        .y_labels(5)
        .x_label_formatter(&|nines| percentile(*nines))
        .y_label_formatter(&|us| duration(*us))
        .draw()?;
    let nines = |percentile: f64| -(1.0 - percentile / 100.0).log10();
    chart.draw_series(LineSeries::new(
        curve.iter().map(|(percentile, us)| (nines(*percentile).clamp(0.0, NINES), *us)),
        BLUE.stroke_width(2),
    ))?;
    Ok(())
}

/// Returns the percentile with so many nines.
fn percentile(nines: f64) -> String {
    let decimals = (nines - 2.0).max(0.0) as usize;
    format!("{:.decimals$}", 100.0 - 100.0 / 10f64.powf(nines))
}

fn over_time(area: &Area<'_>, outcome: &Outcome) -> anyhow::Result<()> {
    let points = &outcome.latencies.points;
    let seconds = points.last().map_or(1.0, |point| point.at_s);
    let rate_max = points.iter().map(|point| point.deliveries_per_s).fold(1.0, f64::max);
    let p99_max = points.iter().map(|point| point.p99_us).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption("Throughput and 99th percentile over time, in intervals of 0.25 s", bold(13))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(VALUES)
        .set_label_area_size(LabelAreaPosition::Right, VALUES)
        .build_cartesian_2d(0.0..seconds, 0.0..rate_max * HEADROOM)?
        .set_secondary_coord(0.0..seconds, 0.0..p99_max * HEADROOM);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(AXIS)
        .label_style((FAMILY, 12, &INK))
        .x_desc("seconds since measuring began")
        .y_desc("deliveries/s")
        .y_labels(5)
        .x_label_formatter(&|at| format!("{at:.1}"))
        .y_label_formatter(&|rate| short(*rate))
        .draw()?;
    chart
        .configure_secondary_axes()
        .axis_style(AXIS)
        .label_style((FAMILY, 12, &INK))
        .y_desc("p99 latency")
        .y_labels(5)
        .y_label_formatter(&|us| duration(*us))
        .draw()?;
    lines(&mut chart, points)
}

/// A plot with an axis on each side.
type TwoAxes<'a> = DualCoordChartContext<'a, SVGBackend<'a>, Plane, Plane>;
type Plane = Cartesian2d<RangedCoordf64, RangedCoordf64>;

/// Draws throughput by the left axis and latency by the right one, and says which is which.
fn lines(chart: &mut TwoAxes<'_>, points: &[Point]) -> anyhow::Result<()> {
    let rates = points.iter().map(|point| (point.at_s, point.deliveries_per_s));
    chart
        .draw_series(LineSeries::new(rates, BLUE.stroke_width(2)))?
        .label("deliveries/s (left)")
        .legend(|at| key(at, BLUE));
    let p99s = points.iter().map(|point| (point.at_s, point.p99_us));
    chart
        .draw_secondary_series(LineSeries::new(p99s, RED.stroke_width(2)))?
        .label("p99 latency (right)")
        .legend(|at| key(at, RED));
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .label_font((FAMILY, 12, &INK))
        .background_style(WHITE.mix(0.8))
        .draw()?;
    Ok(())
}

/// Returns the stroke that stands for a line in the legend.
fn key((x, y): (i32, i32), colour: RGBColor) -> PathElement<(i32, i32)> {
    PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2))
}

/// Writes a large number in few characters.
fn short(number: f64) -> String {
    match number {
        ..1e3 => format!("{number:.0}"),
        1e3..1e6 => format!("{:.1} k", number / 1e3),
        _ => format!("{:.2} M", number / 1e6),
    }
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
            let svg = draw(&outcome(latencies)).unwrap();
            check_well_formed(&svg);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            for said in ["Latency by percentile", "deliveries/s (left)", "p99 latency (right)", "seconds since"] {
                assert!(svg.contains(said), "{said}");
            }
        }
    }
}
