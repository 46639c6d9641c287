//! Memory over time.

use turbostream::Monitor;

use crate::heap;
use crate::phase::{Findings, bytes};

/// What the process may have beside the channel's `max_bytes`: messages being made and looked at, what the system's
/// allocator keeps for later, stacks.
const RESIDENT_BESIDE: usize = 32 << 20;
/// What of it was asked for and is in use.
const HEAP_BESIDE: usize = 4 << 20;
/// By how much these may have grown from the first quarter to the last. What the channel has goes up and down with the
/// load, and is taken off.
const RESIDENT_DRIFT: usize = 4 << 20;
const HEAP_DRIFT: usize = 256 << 10;
/// What the system's allocator keeps for later grows until the gaps between blocks of all lengths fit those that come. That
/// takes some minutes: a first quarter of less than five, by the number of samples, says nothing about it.
const SETTLED_AFTER: usize = 5 * 60 * 4;

#[derive(Clone, Copy)]
struct Sample {
    resident: usize,
    resident_beside: usize,
    heap_beside: usize,
}

/// Looks at memory again and again, from what it was before on.
pub struct Samples {
    resident_before: usize,
    heap_before: usize,
    most_of_channel: usize,
    samples: Vec<Sample>,
}

pub fn resident() -> usize {
    memory_stats::memory_stats().map_or(0, |stats| stats.physical_mem)
}

impl Samples {
    pub fn begin() -> Self {
        let samples = Vec::with_capacity(1 << 16);
        heap::take_peak();
        Self { resident_before: resident(), heap_before: heap::in_use(), most_of_channel: 0, samples }
    }

    pub fn take(&mut self, monitor: &Monitor) {
        let of_channel = monitor.stats().memory_bytes();
        self.most_of_channel = self.most_of_channel.max(of_channel);
        let resident = resident();
        self.samples.push(Sample {
            resident,
            resident_beside: resident.saturating_sub(self.resident_before + of_channel),
            heap_beside: heap::in_use().saturating_sub(self.heap_before + of_channel),
        });
    }

    /// Says how much there was, and whether it became more.
    pub fn judge(&self, max_bytes: usize, findings: &mut Findings) {
        let most = self.most_of_channel;
        findings
            .demand(most <= max_bytes, format!("channel at most {} of {}", bytes(most), bytes(max_bytes)));
        let heap = heap::take_peak().saturating_sub(self.heap_before);
        let bound = max_bytes + HEAP_BESIDE;
        findings.demand(heap <= bound, format!("heap at most {} more, bound {}", bytes(heap), bytes(bound)));
        let resident = self.samples.iter().map(|sample| sample.resident).max().unwrap_or(0);
        let resident = resident.saturating_sub(self.resident_before);
        let bound = max_bytes + RESIDENT_BESIDE;
        findings.demand(
            resident <= bound,
            format!("resident at most {} more, bound {}", bytes(resident), bytes(bound)),
        );
        self.judge_drift(findings);
    }

    fn judge_drift(&self, findings: &mut Findings) {
        let size = self.samples.len() / 4;
        if size == 0 {
            return findings.demand(false, "too few samples");
        }
        let mut compare = |what: &str, of: fn(&Sample) -> usize, drift: usize| {
            let quarters: Vec<_> =
                self.samples.chunks_exact(size).take(4).map(|quarter| median(quarter, of)).collect();
            let said = quarters.iter().map(|&quarter| bytes(quarter)).collect::<Vec<_>>().join(", ");
            findings.demand(quarters[3] <= quarters[0] + drift, format!("{what}, by quarters: {said}"));
        };
        let drift = if size < SETTLED_AFTER { usize::MAX / 2 } else { RESIDENT_DRIFT };
        compare("resident beside the channel", |sample| sample.resident_beside, drift);
        compare("heap beside the channel", |sample| sample.heap_beside, HEAP_DRIFT);
    }
}

fn median(samples: &[Sample], of: fn(&Sample) -> usize) -> usize {
    let mut values: Vec<_> = samples.iter().map(of).collect();
    values.sort_unstable();
    values[values.len() / 2]
}
