//! Measurements as pictures: SVG that explains itself and needs nothing else. [`run`]: one run; [`comparison`]: many
//! servers beside each other.

pub(crate) mod comparison;
pub(crate) mod run;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// A part of a picture.
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const FAMILY: &str = "sans-serif";
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const FAINT: RGBColor = RGBColor(0x66, 0x66, 0x66);
const GRID: RGBColor = RGBColor(0xe4, 0xe4, 0xe4);
const AXIS: RGBColor = RGBColor(0x88, 0x88, 0x88);
const BLUE: RGBColor = RGBColor(0x1f, 0x6f, 0xeb);
const RED: RGBColor = RGBColor(0xd4, 0x57, 0x2a);
const GREY: RGBColor = RGBColor(0x8c, 0x95, 0x9f);
const YELLOW: RGBColor = RGBColor(0xd4, 0xa7, 0x2c);

/// Returns the SVG of what is drawn on a white sheet of this many pixels.
fn svg(size: (u32, u32), draw: impl FnOnce(&Area<'_>) -> anyhow::Result<()>) -> anyhow::Result<String> {
    let mut text = String::new();
    {
        let sheet = SVGBackend::with_string(&mut text, size).into_drawing_area();
        sheet.fill(&WHITE)?;
        draw(&sheet)?;
        sheet.present()?;
    }
    Ok(text)
}

/// Returns the style of text of so many pixels, centred in height at the place where it is put, and beginning there.
fn text(size: u32, colour: RGBColor) -> TextStyle<'static> {
    style((FAMILY, size).into_font(), colour)
}

/// Does likewise, in bold.
fn bold(size: u32) -> TextStyle<'static> {
    style((FAMILY, size).into_font().style(FontStyle::Bold), INK)
}

fn style(font: FontDesc<'static>, colour: RGBColor) -> TextStyle<'static> {
    TextStyle { font, color: colour.to_backend_color(), pos: Pos::new(HPos::Left, VPos::Center) }
}
