//! Memory over time.

use turbostream::Monitor;

use crate::heap;
use crate::phase::{Findings, bytes};

/// Resident memory allowed on top of `max_bytes`: messages in creation or checking, the allocator's cache, stacks.
const RESIDENT_OVERHEAD: usize = 32 << 20;
/// Heap in use allowed on top of `max_bytes`.
const HEAP_OVERHEAD: usize = 4 << 20;
/// Allowed growth from the first quarter to the last. The channel's memory varies with the load and is subtracted.
const RESIDENT_DRIFT: usize = 4 << 20;
const HEAP_DRIFT: usize = 256 << 10;
/// The allocator's cache grows until its free blocks fit all lengths, which takes minutes. A quarter with fewer samples than
/// five minutes' worth says nothing about growth.
const SETTLED_AFTER: usize = 5 * 60 * 4;

#[derive(Clone, Copy)]
struct Sample {
    resident: usize,
    resident_overhead: usize,
    heap_overhead: usize,
}

/// Samples of memory, relative to the state before the run.
pub struct Samples {
    resident_before: usize,
    heap_before: usize,
    channel_peak: usize,
    samples: Vec<Sample>,
}

pub fn resident() -> usize {
    memory_stats::memory_stats().map_or(0, |stats| stats.physical_mem)
}

impl Samples {
    pub fn begin() -> Self {
        let samples = Vec::with_capacity(1 << 16);
        heap::take_peak();
        Self { resident_before: resident(), heap_before: heap::in_use(), channel_peak: 0, samples }
    }

    pub fn take(&mut self, monitor: &Monitor) {
        let channel = monitor.stats().memory_bytes();
        self.channel_peak = self.channel_peak.max(channel);
        let resident = resident();
        self.samples.push(Sample {
            resident,
            resident_overhead: resident.saturating_sub(self.resident_before + channel),
            heap_overhead: heap::in_use().saturating_sub(self.heap_before + channel),
        });
    }

    /// Reports the peaks and checks the growth.
    pub fn check(&self, max_bytes: usize, findings: &mut Findings) {
        let peak = self.channel_peak;
        findings.check(peak <= max_bytes, format!("channel at most {} of {}", bytes(peak), bytes(max_bytes)));
        let heap = heap::take_peak().saturating_sub(self.heap_before);
        let bound = max_bytes + HEAP_OVERHEAD;
        findings.check(heap <= bound, format!("heap at most {} more, bound {}", bytes(heap), bytes(bound)));
        let resident = self.samples.iter().map(|sample| sample.resident).max().unwrap_or(0);
        let resident = resident.saturating_sub(self.resident_before);
        let bound = max_bytes + RESIDENT_OVERHEAD;
        findings.check(
            resident <= bound,
            format!("resident at most {} more, bound {}", bytes(resident), bytes(bound)),
        );
        self.check_drift(findings);
    }

    fn check_drift(&self, findings: &mut Findings) {
        let size = self.samples.len() / 4;
        if size == 0 {
            return findings.check(false, "too few samples");
        }
        let mut compare = |what: &str, of: fn(&Sample) -> usize, drift: usize| {
            let quarters: Vec<_> =
                self.samples.chunks_exact(size).take(4).map(|quarter| median(quarter, of)).collect();
            let listed = quarters.iter().map(|&quarter| bytes(quarter)).collect::<Vec<_>>().join(", ");
            findings.check(quarters[3] <= quarters[0] + drift, format!("{what}, by quarters: {listed}"));
        };
        let drift = if size < SETTLED_AFTER { usize::MAX / 2 } else { RESIDENT_DRIFT };
        compare("resident without the channel", |sample| sample.resident_overhead, drift);
        compare("heap without the channel", |sample| sample.heap_overhead, HEAP_DRIFT);
    }
}

fn median(samples: &[Sample], of: fn(&Sample) -> usize) -> usize {
    let mut values: Vec<_> = samples.iter().map(of).collect();
    values.sort_unstable();
    values[values.len() / 2]
}
