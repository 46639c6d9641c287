//! The overview: the workloads that most programs have, each with turbostream, the fastest other crate and tokio's mpsc.

use super::Row;
use crate::alloc::Allocator;
use crate::workloads::{Reads, TOKIO, TOKIO_MANY};
use std::fmt::Write;

/// Workload, our contender, and what both mean.
const LINES: &[(&str, &str, &str)] = &[
    ("copy_128_1p1c", "turbostream-zerocopy", "one task to another, `recv`"),
    ("copy_128_1p1c", "turbostream-lent", "one task to another, lent by `recv_ref`"),
    ("copy_128_4p1c", "turbostream-zerocopy", "4 tasks to one, `recv`"),
    ("copy_128_64p1c", "turbostream-zerocopy", "64 tasks to one, `recv`"),
    ("copy_128_4p4c", "turbostream-prefetch", "4 tasks to 4, `prefetch(16)`"),
    ("batch_128_1p1c", "turbostream-batch", "one task to another, `recv_batch`"),
    ("batch_128_4p1c", "turbostream-many", "4 tasks to one, `send_many`, `recv_batch`"),
    ("copy_1k_1p1c", "turbostream-zerocopy", "1 KiB, one task to another, `recv`"),
    ("pass_64k_1p1c", "turbostream-zerocopy", "64 KiB `Bytes`, one task to another, `recv`"),
    ("log_lines", "turbostream-many", "log lines, 4 tasks to one, `send_many`, `recv_batch`"),
    ("ping_pong_128", "turbostream-zerocopy", "a message there and back, half of it"),
    ("first_message", "turbostream-zerocopy", "a channel for one message"),
];

/// One line: what was measured, and nanoseconds a message.
pub struct Line {
    pub about: &'static str,
    pub ours: f64,
    pub peer: &'static str,
    pub peers: f64,
    pub tokio: Option<f64>,
}

/// Returns the lines whose workloads were measured with `allocator`. The fastest other crate is one that hands out messages
/// like ours, owned or lent.
pub fn lines(rows: &[Row], allocator: Allocator) -> Vec<Line> {
    let line = |&(workload, ours, about): &(&str, &str, &'static str)| {
        let mut table = rows.iter().filter(|row| row.workload.name == workload && row.allocator == allocator);
        let time = |row: &Row| row.median(row.workload.statistics[0]);
        let own = table.clone().find(|row| row.contender.name == ours)?;
        let peers =
            table.clone().filter(|row| row.contender.is_peer() && row.contender.lends == own.contender.lends);
        let (peers, peer) = peers
            .filter_map(|row| Some((time(row)?, row.contender.name)))
            .min_by(|one, other| one.0.total_cmp(&other.0))?;
        let tokio = if own.workload.is_read(Reads::Batches) { TOKIO_MANY } else { TOKIO };
        let tokio = table.find(|row| row.contender.name == tokio).and_then(time);
        Some(Line { about, ours: time(own)?, peer, peers, tokio })
    };
    LINES.iter().filter_map(line).collect()
}

/// The lines as a table.
pub fn markdown(lines: &[Line]) -> String {
    let mut text = String::from(
        "| ns/message | turbostream | fastest other | which | tokio mpsc |\n| --- | ---: | ---: | --- | ---: |\n",
    );
    for line in lines {
        let tokio = line.tokio.map_or("-".to_string(), |ns| format!("{ns:.0}"));
        let _ = writeln!(
            text,
            "| {} | {:.0} | {:.0} | {} | {tokio} |",
            line.about, line.ours, line.peers, line.peer
        );
    }
    text
}
