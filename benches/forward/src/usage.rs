//! What this process has used.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// CPU time in seconds.
#[derive(Clone, Copy)]
pub struct Cpu {
    pub user: f64,
    pub system: f64,
}

/// Returns the CPU time of this process so far.
pub fn cpu() -> Result<Cpu, String> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).map_err(|error| format!("getrusage: {error}"))?;
    let seconds = |micros: i64| micros as f64 / 1e6;
    Ok(Cpu {
        user: seconds(usage.user_time().num_microseconds()),
        system: seconds(usage.system_time().num_microseconds()),
    })
}

/// Returns the resident memory of this process in bytes, now (`VmRSS`) or at its highest (`VmHWM`).
pub fn memory(field: &str) -> Result<u64, String> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| format!("/proc/self/status has no {field}"))
}
