//! The best capacity of each contender, as found by `--tune`.

use crate::alloc::Allocator;
use crate::contenders::Entry;
use crate::report::Row;
use crate::workloads::Workload;
use std::collections::BTreeMap;

const HEAD: &str = "workload,allocator,contender,capacity\n";
const RECORDED: &str = include_str!("../capacities.csv");

/// The recorded capacity, or the contender's default.
pub fn best(workload: &Workload, allocator: Allocator, contender: &Entry) -> usize {
    let candidates = (contender.capacities)(workload);
    let key = key(workload, allocator, contender);
    let recorded = recorded().get(&key).copied().filter(|capacity| candidates.contains(capacity));
    recorded.unwrap_or(candidates[0])
}

/// The record, updated with the measured rows.
pub fn record(rows: &[Row]) -> String {
    let mut fastest = BTreeMap::<String, (f64, usize)>::new();
    for row in rows {
        if let Some(time) = row.median(row.workload.rank()) {
            let best = fastest
                .entry(key(row.workload, row.allocator, row.contender))
                .or_insert((f64::INFINITY, row.capacity));
            if time < best.0 {
                *best = (time, row.capacity);
            }
        }
    }
    let mut record = recorded();
    record.extend(fastest.into_iter().map(|(key, (_, capacity))| (key, capacity)));
    let lines = record.into_iter().map(|(key, capacity)| format!("{key},{capacity}\n"));
    HEAD.to_string() + &lines.collect::<String>()
}

fn recorded() -> BTreeMap<String, usize> {
    let entry = |line: &str| {
        let (key, capacity) = line.rsplit_once(',')?;
        Some((key.to_string(), capacity.parse().ok()?))
    };
    RECORDED.lines().filter_map(entry).collect()
}

fn key(workload: &Workload, allocator: Allocator, contender: &Entry) -> String {
    format!("{},{},{}", workload.name, allocator.name(), contender.name)
}
