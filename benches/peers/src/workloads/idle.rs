//! Many channels that each transfer a few messages and then stay idle.
//!
//! Measures the memory per channel when it is new, used and at rest, and the CPU time of all channels in both idle periods.
//! Handles do not count.

use super::{Check, Copied, Job, Outcome, Source, Statistic};
use crate::alloc;
use crate::contenders::{Contender, SendResult};
use std::time::Duration;

type Message = Copied<128>;

const MESSAGES: u64 = 10;
/// The number of channels measured after use: the first must not reach rest before the last is used.
const SAMPLE: usize = 1000;
const REST: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_secs(1);

pub async fn run<C: Contender>(job: Job) -> Result<Outcome, String> {
    let count = job.messages as usize;
    let mut channels = Vec::with_capacity(count);
    let mut source = Message::new(0);
    let before = Memory::now()?;

    channels.extend((0..count).map(|_| C::open(job.capacity)));
    let new = Memory::now()?;
    let sample = count.min(SAMPLE);
    use_each::<C>(&mut channels[..sample], &mut source).await?;
    let used = Memory::now()?;
    use_each::<C>(&mut channels[sample..], &mut source).await?;
    let cpu_used = cpu_ms()?;
    tokio::time::sleep(REST).await;
    let (rest, cpu_rest) = (Memory::now()?, cpu_ms()?);
    tokio::time::sleep(IDLE).await;
    let cpu_idle = cpu_ms()?;

    let each = |bytes: i64| bytes as f64 / count as f64;
    let of_sample = |bytes: i64| bytes as f64 / sample as f64;
    Ok(Outcome::from([
        (Statistic::HeapNewBytes, each(new.heap - before.heap)),
        (Statistic::HeapUsedBytes, each(new.heap - before.heap) + of_sample(used.heap - new.heap)),
        (Statistic::HeapRestBytes, each(rest.heap - before.heap)),
        (Statistic::ResidentNewBytes, each(new.resident - before.resident)),
        (
            Statistic::ResidentUsedBytes,
            each(new.resident - before.resident) + of_sample(used.resident - new.resident),
        ),
        (Statistic::ResidentRestBytes, each(rest.resident - before.resident)),
        (Statistic::CpuRestMs, cpu_rest - cpu_used),
        (Statistic::CpuIdleMs, cpu_idle - cpu_rest),
    ]))
}

/// Sends and receives the messages through each channel, in this task.
async fn use_each<C: Contender>(channels: &mut [(C::Tx, C::Rx)], source: &mut Message) -> Result<(), String> {
    for (tx, rx) in channels {
        let mut check = Check::<Message>::exclusive(1);
        for index in 0..MESSAGES {
            source.send::<C>(tx, index).await.check();
        }
        for _ in 0..MESSAGES {
            C::recv(rx, &mut |message| _ = check.verify(message)).await;
        }
        Check::finish(vec![check], MESSAGES)?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Memory {
    /// Bytes allocated and not freed.
    heap: i64,
    /// The resident memory of the process; zero if unknown.
    resident: i64,
}

impl Memory {
    fn now() -> Result<Self, String> {
        let heap = alloc::bytes_in_use().ok_or("the heap is not counted")?;
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
        // SAFETY: returns a number and accesses no memory.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        Ok(Self { heap, resident: pages * page })
    }
}

/// The CPU time of this process.
fn cpu_ms() -> Result<f64, String> {
    // SAFETY: `rusage` is plain numbers, for which zeros are valid, and lives through the call that fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) == 0).then_some(usage)
    };
    let usage = usage.ok_or("the CPU time is unknown")?;
    let ms = |time: libc::timeval| time.tv_sec as f64 * 1e3 + time.tv_usec as f64 / 1e3;
    Ok(ms(usage.ru_utime) + ms(usage.ru_stime))
}
