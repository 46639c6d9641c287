//! Many channels, each of which carries 100 messages, is read, and then rests: what one costs in memory new, used and
//! rested, and what they all cost in CPU time, while they come to rest and while they do nothing. Handles are on
//! nobody's account.

use super::{Check, Copied, Figure, Job, Outcome, Source};
use crate::alloc;
use crate::contenders::Contender;
use std::time::Duration;

type Message = Copied<128>;

const MESSAGES: u64 = 100;
/// So many are measured when they have been used: the first must not come to rest before the last was.
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
        (Figure::HeapNewBytes, each(new.heap - before.heap)),
        (Figure::HeapUsedBytes, each(new.heap - before.heap) + of_sample(used.heap - new.heap)),
        (Figure::HeapRestBytes, each(rest.heap - before.heap)),
        (Figure::ResidentNewBytes, each(new.resident - before.resident)),
        (
            Figure::ResidentUsedBytes,
            each(new.resident - before.resident) + of_sample(used.resident - new.resident),
        ),
        (Figure::ResidentRestBytes, each(rest.resident - before.resident)),
        (Figure::CpuRestMs, cpu_rest - cpu_used),
        (Figure::CpuIdleMs, cpu_idle - cpu_rest),
    ]))
}

/// Sends the messages through each channel and reads them, all by this task.
async fn use_each<C: Contender>(channels: &mut [(C::Tx, C::Rx)], source: &mut Message) -> Result<(), String> {
    for (tx, rx) in channels {
        let mut check = Check::<Message>::alone(1);
        for index in 0..MESSAGES {
            source.send::<C>(tx, index).await;
        }
        for _ in 0..MESSAGES {
            C::recv(rx, &mut |message| _ = check.look(message)).await;
        }
        Check::finish(vec![check], MESSAGES)?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Memory {
    /// What was asked of the allocator.
    heap: i64,
    /// What the process has in memory, zero where the system does not tell.
    resident: i64,
}

impl Memory {
    fn now() -> Result<Self, String> {
        let heap = alloc::bytes_in_use().ok_or("the heap is not counted")?;
        let told = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = told.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
        // SAFETY: asks for a number and touches no memory.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        Ok(Self { heap, resident: pages * page })
    }
}

/// The CPU time this process has used.
fn cpu_ms() -> Result<f64, String> {
    // SAFETY: `rusage` is plain numbers, for which zeros are valid, and lives through the call that fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) == 0).then_some(usage)
    };
    let usage = usage.ok_or("the system does not tell the CPU time")?;
    let ms = |time: libc::timeval| time.tv_sec as f64 * 1e3 + time.tv_usec as f64 / 1e3;
    Ok(ms(usage.ru_utime) + ms(usage.ru_stime))
}
