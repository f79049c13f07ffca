//! Servers beside each other: one block of bars for each scenario ([`draw`]).

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde::Deserialize;

use super::{Area, BLUE, FAINT, GREY, INK, YELLOW, bold, svg, text};

const WIDTH: u32 = 800;
/// Above all blocks.
const TITLE: u32 = 44;
/// Above the bars of a block.
const HEAD: u32 = 48;
const BAR: u32 = 22;
const LEGEND: u32 = 40;
/// Left of the bars, for the servers' names.
const NAMES: u32 = 150;
/// The part of the bars' width that is left for the value behind the longest.
const VALUE_SHARE: f64 = 0.22;

/// The comparison that is drawn.
#[derive(Debug, Deserialize)]
pub(crate) struct Comparison {
    title: String,
    scenarios: Vec<Scenario>,
}

#[derive(Debug, Deserialize)]
struct Scenario {
    title: String,
    /// The unit, and which way is better.
    subtitle: String,
    bars: Vec<Bar>,
}

/// The runs of one server.
#[derive(Debug, Deserialize)]
struct Bar {
    name: String,
    kind: Kind,
    median: f64,
    least: f64,
    most: f64,
    /// The median with its unit.
    label: String,
}

/// The kind of server that is compared.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Own,
    Floor,
    Peer,
}

impl Kind {
    fn colour(self) -> RGBColor {
        match self {
            Self::Own => BLUE,
            Self::Floor => GREY,
            Self::Peer => YELLOW,
        }
    }
}

/// Draws the picture: bars of the medians, whiskers from least to most.
///
/// # Errors
///
/// A number that is not finite.
pub(crate) fn draw(comparison: &Comparison) -> anyhow::Result<String> {
    for bar in comparison.scenarios.iter().flat_map(|scenario| &scenario.bars) {
        let numbers = [bar.least, bar.median, bar.most];
        anyhow::ensure!(numbers.iter().all(|number| number.is_finite()), "the numbers of {} are {numbers:?}", bar.name);
    }
    let heights: Vec<u32> = comparison.scenarios.iter().map(Scenario::height).collect();
    svg((WIDTH, TITLE + heights.iter().sum::<u32>() + LEGEND), |sheet| {
        sheet.draw(&Text::new(comparison.title.as_str(), (16, 24), bold(16)))?;
        let (_, mut rest) = sheet.split_vertically(TITLE);
        for (scenario, height) in comparison.scenarios.iter().zip(heights) {
            let (block, below) = rest.split_vertically(height);
            scenario.draw(&block)?;
            rest = below;
        }
        legend(&rest)
    })
}

impl Scenario {
    fn height(&self) -> u32 {
        HEAD + BAR * u32::try_from(self.bars.len()).unwrap_or(u32::MAX / BAR - HEAD)
    }

    fn draw(&self, area: &Area<'_>) -> anyhow::Result<()> {
        area.draw(&Text::new(self.title.as_str(), (16, 18), bold(13)))?;
        area.draw(&Text::new(self.subtitle.as_str(), (16, 36), text(12, FAINT)))?;
        let (_, area) = area.split_vertically(HEAD);
        if self.bars.is_empty() {
            return Ok(());
        }
        let most = self.bars.iter().map(|bar| bar.most.max(bar.median)).fold(f64::MIN_POSITIVE, f64::max);
        let mut chart = ChartBuilder::on(&area)
            .margin_left(NAMES)
            .build_cartesian_2d(0.0..most / (1.0 - VALUE_SHARE), 0.0..self.bars.len() as f64)?;
        // Rows count from the bottom, as an axis does.
        for (bar, row) in self.bars.iter().zip((0..self.bars.len()).rev()) {
            let (below, middle, above) = (row as f64 + 0.12, row as f64 + 0.5, row as f64 + 0.88);
            let (median, least, most) = (bar.median.max(0.0), bar.least.max(0.0), bar.most.max(bar.median));
            chart.draw_series([Rectangle::new([(0.0, below), (median, above)], bar.kind.colour().filled())])?;
            chart.draw_series([PathElement::new([(least, middle), (most, middle)], INK.stroke_width(2))])?;
            let name = text(12, INK).pos(Pos::new(HPos::Right, VPos::Center));
            chart.draw_series([EmptyElement::at((0.0, middle)) + Text::new(bar.name.clone(), (-8, 0), name)])?;
            let value = Text::new(bar.label.clone(), (6, 0), text(12, INK));
            chart.draw_series([EmptyElement::at((most, middle)) + value])?;
        }
        Ok(())
    }
}

fn legend(area: &Area<'_>) -> anyhow::Result<()> {
    for (place, (kind, name)) in
        (0..).zip([(Kind::Own, "Rowcast"), (Kind::Floor, "floor: bare sends"), (Kind::Peer, "other servers")])
    {
        let x = NAMES.cast_signed() + place * 150;
        area.draw(&Rectangle::new([(x, 14), (x + 12, 26)], kind.colour().filled()))?;
        area.draw(&Text::new(name, (x + 18, 20), text(12, INK)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn drawn(bars: &Value) -> anyhow::Result<String> {
        let scenario = json!({"title": "steady <&>", "subtitle": "CPU, µs; lower is better", "bars": bars});
        draw(&serde_json::from_value(json!({"title": "Beside others", "scenarios": [scenario]}))?)
    }

    #[test]
    fn every_server_has_a_bar_of_its_kind_with_its_name_and_value() {
        let bar = |name: &str, kind: &str, median: f64| {
            json!({"name": name, "kind": kind, "median": median, "least": median - 1.0, "most": median + 1.0,
                "label": format!("{median} µs")})
        };
        let servers = [("rowcast", "own", 7.25), ("bare", "floor", 6.5), ("bun", "peer", 9.75)];
        for count in 1..=servers.len() {
            let bars = servers[..count].iter().map(|(name, kind, median)| bar(name, kind, *median)).collect();
            let svg = drawn(&Value::Array(bars)).unwrap();
            for (name, kind, median) in &servers[..count] {
                let kind: Kind = serde_json::from_value(json!(kind)).unwrap();
                let RGBColor(red, green, blue) = kind.colour();
                // One bar, and one in the legend.
                assert_eq!(
                    svg.matches(&format!("fill=\"#{red:02X}{green:02X}{blue:02X}\"")).count(),
                    2,
                    "{name}: {svg}"
                );
                assert!(svg.contains(&format!("\n{name}\n")) && svg.contains(&format!("\n{median} µs\n")), "{svg}");
            }
            assert!(svg.contains("steady &lt;&amp;&gt;"), "{svg}");
        }
    }

    #[test]
    fn a_scenario_that_nobody_ran_is_drawn_and_no_number_is_an_error() {
        assert!(drawn(&json!([])).unwrap().contains("Beside others"));
        let bar = json!({"name": "x", "kind": "own", "median": null, "least": 0, "most": 0, "label": ""});
        assert!(drawn(&json!([bar])).is_err());
    }
}
