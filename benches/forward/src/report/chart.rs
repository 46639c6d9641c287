//! The charts. They have an opaque background, as a page may be light or dark.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Row, Statistic, table};
use crate::contenders;
use crate::plan::Workload;
use crate::targets::fastest;

const BACKGROUND: RGBColor = RGBColor(250, 250, 252);
const INK: RGBColor = RGBColor(36, 41, 47);
const FAINT: RGBColor = RGBColor(208, 213, 220);
const OURS: RGBColor = RGBColor(196, 84, 18);
const BY_HAND: RGBColor = RGBColor(74, 116, 168);
const LINES: [RGBColor; 3] = [OURS, BY_HAND, RGBColor(110, 110, 110)];

const WIDTH: u32 = 900;
const LINE: u32 = 22;
/// The start of all bars and the end of the longest, for speed and for CPU time.
const PANELS: [(i32, i32); 2] = [(250, 480), (580, 810)];

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn canvas(path: &Path, height: u32) -> Result<Canvas<'_>, String> {
    let canvas = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    canvas.fill(&BACKGROUND).map_err(|error| error.to_string())?;
    Ok(canvas)
}

fn font(size: u32, anchor: HPos) -> TextStyle<'static> {
    let style = TextStyle::from(("sans-serif", size).into_font()).color(&INK);
    style.pos(Pos::new(anchor, VPos::Center))
}

/// Draws two bars per contender, its fastest row: speed and CPU time.
pub(super) fn bars(rows: &[Row], workload: &Workload, path: &Path) -> Result<(), String> {
    draw_bars(rows, workload, path).map_err(|error| format!("{}: {error}", path.display()))
}

fn draw_bars(rows: &[Row], workload: &Workload, path: &Path) -> Result<(), String> {
    let is_fastest = |row: &&Row| {
        fastest(rows, workload.name, row.entrant.contender.name).is_some_and(|best| std::ptr::eq(best, *row))
    };
    let table: Vec<_> = table::ranked(rows, workload).into_iter().filter(is_fastest).collect();
    let canvas = canvas(path, (table.len() as u32 + 4) * LINE)?;
    let text = |text: &str, at: (i32, i32), style: TextStyle| {
        canvas.draw(&Text::new(text.to_string(), at, style)).map_err(|error| error.to_string())
    };
    text(&table::title(rows, workload), (16, 24), font(16, HPos::Left))?;
    let panels = [
        (Statistic::Speed, "messages/s, more is better"),
        (Statistic::Cpu, "CPU s/million messages, less is better"),
    ];
    for ((statistic, heading), (start, end)) in panels.into_iter().zip(PANELS) {
        let most = table.iter().filter_map(|row| row.median(statistic)).fold(0.0, f64::max);
        let mut y = 2 * LINE as i32 + 8;
        text(heading, (start, y), font(13, HPos::Left))?;
        for row in &table {
            y += LINE as i32;
            if statistic == Statistic::Speed {
                text(row.entrant.contender.name, (start - 8, y), font(13, HPos::Right))?;
            }
            let Some(value) = row.median(statistic) else { continue };
            let length = (value / most * f64::from(end - start)) as i32;
            let colour = if row.entrant.contender.is_ours() { OURS } else { BY_HAND };
            let bar = Rectangle::new([(start, y - 8), (start + length.max(1), y + 8)], colour.filled());
            canvas.draw(&bar).map_err(|error| error.to_string())?;
            let label = match statistic {
                Statistic::Speed => table::whole(value),
                _ => format!("{value:.2}"),
            };
            text(&label, (start + length.max(1) + 6, y), font(13, HPos::Left))?;
        }
    }
    canvas.present().map_err(|error| error.to_string())
}

/// Draws messages a second by delay.
///
/// Returns `false` if there is nothing to compare.
pub(super) fn delays(rows: &[Row], path: &Path) -> Result<bool, String> {
    let names = [contenders::OURS, contenders::PIPELINED, contenders::AWAITED];
    let lines: Vec<_> = names.map(|name| (name, points(rows, name))).into_iter().collect();
    if lines.iter().all(|(_, points)| points.len() < 2) {
        return Ok(false);
    }
    draw_lines(&lines, path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(true)
}

/// The delay in milliseconds and the messages a second of each workload with a delay.
fn points(rows: &[Row], contender: &str) -> Vec<(f64, f64)> {
    let of_contender =
        rows.iter().filter(|row| row.entrant.contender.name == contender && !row.entrant.is_other);
    of_contender
        .filter_map(|row| Some((f64::from(row.workload.delay?), row.median(Statistic::Speed)?)))
        .collect()
}

fn draw_lines(lines: &[(&str, Vec<(f64, f64)>)], path: &Path) -> Result<(), String> {
    let canvas = canvas(path, 440)?;
    let (left, right) = canvas.split_horizontally(730);
    let points = || lines.iter().flat_map(|(_, points)| points);
    let longest = points().map(|&(delay, _)| delay).fold(0.0, f64::max);
    let most = points().map(|&(_, speed)| speed).fold(1.0, f64::max) * 2.0;
    let mut chart = ChartBuilder::on(&left)
        .caption("1 KiB: messages/s by delay each way, more is better", font(16, HPos::Left))
        .margin(16)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..longest, (1.0..most).log_scale())
        .map_err(|error| error.to_string())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(FAINT)
        .axis_style(INK)
        .label_style(font(13, HPos::Left))
        .x_desc("ms each way")
        .x_label_formatter(&|delay| format!("{delay:.0}"))
        .y_label_formatter(&|speed| table::whole(*speed))
        .draw()
        .map_err(|error| error.to_string())?;
    let mut y = 60;
    for ((name, points), colour) in lines.iter().zip(LINES) {
        let style = colour.stroke_width(if *name == contenders::OURS { 4 } else { 2 });
        let line = LineSeries::new(points.iter().copied(), style).point_size(3);
        chart.draw_series(line).map_err(|error| error.to_string())?;
        let sample = PathElement::new([(0, y), (24, y)], style);
        right.draw(&sample).map_err(|error| error.to_string())?;
        right.draw(&Text::new(*name, (32, y), font(13, HPos::Left))).map_err(|error| error.to_string())?;
        y += LINE as i32;
    }
    canvas.present().map_err(|error| error.to_string())
}
