//! The charts. They have an opaque background, as a page may be light or dark.

use super::overview::Line;
use super::{Row, machine, measured, table};
use crate::alloc::Allocator;
use crate::workloads::{Payload, Reads, Shape, Workload};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

const BACKGROUND: RGBColor = RGBColor(250, 250, 252);
const INK: RGBColor = RGBColor(36, 41, 47);
const FAINT: RGBColor = RGBColor(208, 213, 220);
const OURS: RGBColor = RGBColor(196, 84, 18);
const PEERS: RGBColor = RGBColor(74, 116, 168);
const LIMITS: RGBColor = RGBColor(140, 140, 140);
const LINES: [RGBColor; 11] = [
    OURS,
    RGBColor(31, 119, 180),
    RGBColor(44, 140, 44),
    RGBColor(148, 103, 189),
    RGBColor(140, 86, 75),
    RGBColor(202, 80, 160),
    RGBColor(110, 110, 110),
    RGBColor(0, 140, 150),
    RGBColor(180, 150, 0),
    RGBColor(60, 60, 160),
    RGBColor(200, 40, 60),
];

const WIDTH: u32 = 900;
const LINE: u32 = 22;
/// The start of all bars and the end of the longest.
const BARS: (i32, i32) = (260, 800);

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

/// Draws a bar per row, grouped by allocator.
pub fn bars(table: &[&Row], workload: &Workload, path: &Path) -> Result<(), String> {
    draw_bars(table, workload, path).map_err(|error| format!("{}: {error}", path.display()))
}

fn draw_bars(table: &[&Row], workload: &Workload, path: &Path) -> Result<(), String> {
    let statistic = workload.rank();
    let groups: Vec<_> = table.chunk_by(|one, next| one.allocator == next.allocator).collect();
    let lines = table.len() + 2 * groups.len() + 2;
    let canvas = canvas(path, lines as u32 * LINE)?;
    let most = table.iter().filter_map(|row| row.median(statistic)).fold(0.0, f64::max);
    let length = |value: f64| (value / most * f64::from(BARS.1 - BARS.0)) as i32;
    let text = |text: &str, at: (i32, i32), style: TextStyle| {
        canvas.draw(&Text::new(text.to_string(), at, style)).map_err(|error| error.to_string())
    };

    let title = format!("{}: {}, less is better", table::title(table, workload), statistic.head());
    text(&title, (16, 24), font(16, HPos::Left))?;
    let mut y = 2 * LINE as i32;
    for group in groups {
        y += LINE as i32;
        let heading = format!("{} allocator", group[0].allocator.name());
        text(&heading, (16, y), font(14, HPos::Left))?;
        for row in group {
            y += LINE as i32;
            text(row.contender.name, (BARS.0 - 8, y), font(13, HPos::Right))?;
            let Some(value) = row.median(statistic) else {
                text("failed", (BARS.0 + 6, y), font(13, HPos::Left))?;
                continue;
            };
            let end = BARS.0 + length(value).max(1);
            let bar = Rectangle::new([(BARS.0, y - 8), (end, y + 8)], colour(row).filled());
            canvas.draw(&bar).map_err(|error| error.to_string())?;
            text(&statistic.show(value), (end + 6, y), font(13, HPos::Left))?;
        }
        y += LINE as i32;
    }
    canvas.present().map_err(|error| error.to_string())
}

/// Draws three bars for each line of the overview, each line to its own scale.
pub fn overview(lines: &[Line], allocator: Allocator, path: &Path) -> Result<(), String> {
    draw_overview(lines, allocator, path).map_err(|error| format!("{}: {error}", path.display()))
}

fn draw_overview(lines: &[Line], allocator: Allocator, path: &Path) -> Result<(), String> {
    const BAR: i32 = 15;
    const BLOCK: i32 = 4 * BAR + 22;
    let canvas = canvas(path, (lines.len() as i32 * BLOCK + 84) as u32)?;
    let text = |text: &str, at: (i32, i32), style: TextStyle| {
        canvas.draw(&Text::new(text.to_string(), at, style)).map_err(|error| error.to_string())
    };
    text(
        "Nanoseconds a message, less is better; each group to its own scale",
        (16, 24),
        font(16, HPos::Left),
    )?;
    text(&format!("{}, {} allocator", machine(), allocator.name()), (16, 46), font(13, HPos::Left))?;
    for (at, line) in lines.iter().enumerate() {
        let mut y = 84 + at as i32 * BLOCK;
        text(&line.about.replace('`', ""), (16, y), font(14, HPos::Left))?;
        let bars = [
            ("turbostream", Some(line.ours), OURS),
            (line.peer, Some(line.peers), PEERS),
            ("tokio mpsc", line.tokio.filter(|&ns| ns != line.peers), LIMITS),
        ];
        let most = bars.iter().filter_map(|bar| bar.1).fold(0.0, f64::max);
        for (name, ns, colour) in bars {
            let Some(ns) = ns else { continue };
            y += BAR + 3;
            text(name, (BARS.0 - 8, y), font(13, HPos::Right))?;
            let end = BARS.0 + ((ns / most * f64::from(BARS.1 - BARS.0)) as i32).max(1);
            let bar = Rectangle::new([(BARS.0, y - BAR / 2), (end, y + BAR / 2)], colour.filled());
            canvas.draw(&bar).map_err(|error| error.to_string())?;
            text(&format!("{ns:.0}"), (end + 6, y), font(13, HPos::Left))?;
        }
    }
    canvas.present().map_err(|error| error.to_string())
}

fn colour(row: &Row) -> RGBColor {
    match (row.contender.limit, row.contender.is_peer()) {
        (true, _) => LIMITS,
        (false, true) => PEERS,
        (false, false) => OURS,
    }
}

/// Draws the cost per message by number of senders, with the system's allocator.
///
/// Returns `false` if there is nothing to compare.
pub fn growth(rows: &[Row], path: &Path) -> Result<bool, String> {
    let steps: Vec<_> = measured(rows).into_iter().filter_map(senders_of_step).collect();
    let mut lines = Vec::new();
    let first = steps.first().map_or("", |&(_, workload)| workload);
    for row in rows.iter().filter(|row| row.workload.name == first) {
        let name = row.contender.name;
        let points: Vec<_> = steps.iter().filter_map(|step| cost(rows, name, step)).collect();
        if row.allocator == Allocator::System && points.len() == steps.len() {
            lines.push((name, points));
        }
    }
    if steps.len() < 2 || lines.is_empty() {
        return Ok(false);
    }
    draw_lines(&lines, path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(true)
}

/// The number of senders of a workload that differs from the others only in that number.
fn senders_of_step(workload: &'static Workload) -> Option<(u32, &'static str)> {
    let all = workload.only.is_empty() && workload.has_workers();
    match workload.shape {
        Shape::Stream { senders, receivers: 1, payload: Payload::Copy128, reads: Reads::OneByOne } if all => {
            Some((senders as u32, workload.name))
        }
        _ => None,
    }
}

fn cost(rows: &[Row], contender: &str, &(senders, workload): &(u32, &str)) -> Option<(u32, f64)> {
    let mut rows = rows.iter().filter(|row| row.allocator == Allocator::System);
    let row = rows.find(|row| row.workload.name == workload && row.contender.name == contender)?;
    Some((senders, row.median(row.workload.rank())?))
}

fn draw_lines(lines: &[(&str, Vec<(u32, f64)>)], path: &Path) -> Result<(), String> {
    let canvas = canvas(path, 480)?;
    let (left, right) = canvas.split_horizontally(700);
    let points = || lines.iter().flat_map(|(_, points)| points);
    let most = points().map(|&(_, ns)| ns).fold(0.0, f64::max) * 1.05;
    let mut senders: Vec<_> = points().map(|&(senders, _)| senders).collect();
    senders.sort_unstable();
    senders.dedup();
    let (fewest, many) = (senders[0], senders[senders.len() - 1]);
    let mut chart = ChartBuilder::on(&left)
        .caption("128 B by number of senders: ns/message, less is better", font(16, HPos::Left))
        .margin(16)
        .x_label_area_size(36)
        .y_label_area_size(40)
        .build_cartesian_2d((fewest..many).log_scale().with_key_points(senders), 0.0..most)
        .map_err(|error| error.to_string())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(FAINT)
        .axis_style(INK)
        .label_style(font(13, HPos::Left))
        .x_desc("senders")
        .y_label_formatter(&|ns| format!("{ns:.0}"))
        .draw()
        .map_err(|error| error.to_string())?;
    let mut y = 60;
    for ((name, points), colour) in lines.iter().zip(LINES.iter().cycle()) {
        let style = colour.stroke_width(if name.starts_with("turbostream") { 4 } else { 2 });
        let line = LineSeries::new(points.iter().copied(), style).point_size(3);
        chart.draw_series(line).map_err(|error| error.to_string())?;
        let sample = PathElement::new([(0, y), (24, y)], style);
        right.draw(&sample).map_err(|error| error.to_string())?;
        let label = Text::new(*name, (32, y), font(13, HPos::Left));
        right.draw(&label).map_err(|error| error.to_string())?;
        y += LINE as i32;
    }
    canvas.present().map_err(|error| error.to_string())
}
