//! The workloads, and with which settings each contender runs in them.

use crate::cli::PlanArgs;
use crate::contenders::{self, Contender, Kind};

pub struct Workload {
    pub name: &'static str,
    pub about: &'static str,
    /// Bytes of a message.
    pub size: usize,
    /// Milliseconds by which a proxy delays each direction. `None`: no proxy.
    pub delay: Option<u32>,
    /// Messages per run: quick, and complete.
    messages: [u64; 2],
}

const DELAYED: &str = "1 KiB messages through a proxy that delays each direction.";

pub static ALL: [Workload; 7] = [
    direct("forward_128", "128-byte messages.", 128, [100_000, 300_000]),
    direct("forward_1k", "1 KiB messages.", 1 << 10, [60_000, 200_000]),
    direct("forward_16k", "16 KiB messages.", 16 << 10, [10_000, 30_000]),
    delayed("delay_0", 0),
    delayed("delay_1", 1),
    delayed("delay_10", 10),
    delayed("delay_50", 50),
];

const fn direct(name: &'static str, about: &'static str, size: usize, messages: [u64; 2]) -> Workload {
    Workload { name, about, size, delay: None, messages }
}

const fn delayed(name: &'static str, delay: u32) -> Workload {
    Workload { name, about: DELAYED, size: 1 << 10, delay: Some(delay), messages: [60_000, 200_000] }
}

/// Finds a workload by its name.
pub fn find(name: &str) -> Result<&'static Workload, String> {
    ALL.iter().find(|workload| workload.name == name).ok_or_else(|| {
        let known: Vec<_> = ALL.iter().map(|workload| workload.name).collect();
        format!("no workload {name}; there are {}", known.join(", "))
    })
}

/// A contender with its settings.
#[derive(Clone, Copy)]
pub struct Entrant {
    pub contender: &'static Contender,
    pub messages: u64,
    /// The most messages in flight.
    pub window: usize,
    /// Of the channel: messages of Tokio's, bytes (`max_bytes`) of turbostream's.
    pub capacity: usize,
    /// Whether another build of the program runs it.
    pub is_other: bool,
}

/// The windows of the loops written by hand. The fastest counts.
const WINDOWS: [usize; 3] = [1024, 4096, 16_384];
const QUICK_WINDOWS: [usize; 1] = [4096];
/// More capacity makes the loops no faster.
const MPSC_CAPACITY: usize = 1024;
/// The default window in messages; in bytes it is three quarters of the channel's capacity.
const OUR_WINDOW: usize = 8192;
/// The window of all contenders with delays: 100 ms at 300,000 messages a second.
const DELAYED_WINDOW: usize = 32_768;

/// The contenders of a workload.
pub fn entrants(workload: &Workload, plan: &PlanArgs) -> Vec<Entrant> {
    let chosen = |contender: &&Contender| {
        let named = plan.contender.iter().any(|one| one.name == contender.name);
        let competes = match contender.name {
            contenders::OURS | contenders::PIPELINED | contenders::AWAITED => true,
            contenders::OURS_PACKED => workload.delay.is_none() && workload.size <= 1 << 10,
            _ => workload.delay.is_none(),
        };
        if plan.contender.is_empty() { competes } else { named }
    };
    let mut entrants = Vec::new();
    for contender in contenders::ALL.iter().filter(chosen) {
        for window in windows(contender, workload, plan) {
            let capacity = plan.capacity.unwrap_or_else(|| capacity(contender, workload));
            let messages = plan.messages.unwrap_or_else(|| messages(contender, workload, plan.quick));
            entrants.push(Entrant { contender, messages, window, capacity, is_other: false });
            if plan.other.is_some() && contender.is_ours() {
                entrants.push(Entrant { contender, messages, window, capacity, is_other: true });
            }
        }
    }
    entrants
}

fn windows(contender: &Contender, workload: &Workload, plan: &PlanArgs) -> Vec<usize> {
    let usual: &[usize] = match contender.kind {
        Kind::Awaited => return vec![1],
        _ if workload.delay.is_some() => &[DELAYED_WINDOW],
        Kind::Turbostream(_) => &[OUR_WINDOW],
        Kind::Pipelined { .. } if plan.quick => &QUICK_WINDOWS,
        Kind::Pipelined { .. } => &WINDOWS,
    };
    plan.window.map_or(usual.to_vec(), |window| vec![window])
}

fn capacity(contender: &Contender, workload: &Workload) -> usize {
    match contender.kind {
        Kind::Turbostream(_) if workload.delay.is_some() => 48 << 20,
        Kind::Turbostream(_) => match workload.size {
            ..1024 => 3 << 19,
            ..16_384 => 1 << 20,
            _ => 16 << 20,
        },
        Kind::Awaited | Kind::Pipelined { .. } => MPSC_CAPACITY,
    }
}

fn messages(contender: &Contender, workload: &Workload, quick: bool) -> u64 {
    let usual = workload.messages[usize::from(!quick)];
    match (contender.kind, workload.delay) {
        // The tenth of them that warms up takes its time, too.
        (Kind::Awaited, Some(delay @ 1..)) => u64::from(2000 / (2 * delay)).max(20),
        (Kind::Awaited, _) => usual / 20,
        _ if contender.packs() => 5 * usual,
        _ => usual,
    }
}
