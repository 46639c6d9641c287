//! The targets of turbostream, and whether it reaches them.

use crate::contenders::{OURS, OURS_NO_IDS, OURS_PACKED, PIPELINED, PIPELINED_NO_IDS};
use crate::report::{Row, Statistic};

pub struct Verdict {
    pub workload: &'static str,
    pub target: String,
    pub measured: String,
    pub reached: bool,
}

/// The verdicts for all targets whose rows exist.
pub fn verdicts(rows: &[Row]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    verdicts.extend(against_best(rows, OURS, PIPELINED).into_iter().flatten());
    verdicts.extend(against_best(rows, OURS_NO_IDS, PIPELINED_NO_IDS).into_iter().flatten());
    verdicts.extend(packed(rows));
    verdicts.extend(delayed(rows));
    verdicts
}

/// Returns the fastest row of a contender.
pub fn fastest<'a>(rows: &'a [Row], workload: &str, contender: &str) -> Option<&'a Row> {
    let speed = |row: &Row| row.median(Statistic::Speed).unwrap_or(0.0);
    rows.iter()
        .filter(|row| row.workload.name == workload && row.entrant.contender.name == contender)
        .filter(|row| !row.entrant.is_other && row.median(Statistic::Speed).is_some())
        .max_by(|one, other| speed(one).total_cmp(&speed(other)))
}

fn against_best(rows: &[Row], ours: &str, theirs: &str) -> Option<[Verdict; 3]> {
    const WORKLOAD: &str = "forward_1k";
    let (own, best) = (fastest(rows, WORKLOAD, ours)?, fastest(rows, WORKLOAD, theirs)?);
    let ratio = |statistic| Some(own.median(statistic)? / best.median(statistic)?);
    let verdict = |words: &str, ratio: f64, reached| Verdict {
        workload: WORKLOAD,
        target: format!("{ours} {words} {theirs} at its best window"),
        measured: format!("{ratio:.2} times (window {})", best.entrant.window),
        reached,
    };
    let (speed, cpu, memory) =
        (ratio(Statistic::Speed)?, ratio(Statistic::Cpu)?, ratio(Statistic::PeakMemory)?);
    Some([
        verdict("not slower than", speed, speed >= 1.0),
        verdict("with at most 0.75 of the CPU time of", cpu, cpu <= 0.75),
        verdict("with at most half of the memory of", memory, memory <= 0.5),
    ])
}

fn packed(rows: &[Row]) -> Option<Verdict> {
    const WORKLOAD: &str = "forward_128";
    let speed = |contender| fastest(rows, WORKLOAD, contender)?.median(Statistic::Speed);
    let ratio = speed(OURS_PACKED)? / speed(OURS)?;
    Some(Verdict {
        workload: WORKLOAD,
        target: format!("{OURS_PACKED} at least 8 times as fast as {OURS}"),
        measured: format!("{ratio:.2} times"),
        reached: ratio >= 8.0,
    })
}

fn delayed(rows: &[Row]) -> Option<Verdict> {
    let speed = |workload| fastest(rows, workload, OURS)?.median(Statistic::Speed);
    let ratio = speed("delay_0")? / speed("delay_50")?;
    Some(Verdict {
        workload: "delay_50",
        target: format!("{OURS} takes at most 1.2 times as long as in delay_0"),
        measured: format!("{ratio:.2} times"),
        reached: ratio <= 1.2,
    })
}
