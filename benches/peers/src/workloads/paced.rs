//! A sender task sends a message every 10 µs and yields in between.
//!
//! The receiver measures the delay of each message from just before its send to its receipt. A late sender sends at once;
//! the run reports the mean interval. A tenth more messages precede as a warm-up.

use super::statistic::quantiles;
use super::{Check, Copied, Job, Outcome, Source, Statistic};
use crate::contenders::{Contender, SendResult};
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_micros(10);

type Message = Copied<128>;

pub async fn run<C: Contender>(job: Job) -> Result<Outcome, String> {
    let warmup = job.warmup();
    let total = warmup + job.messages;
    let (mut tx, mut rx) = C::open(job.capacity);
    let epoch = Instant::now();

    let sender = tokio::spawn(async move {
        let mut message = Message::new(0);
        let start = Instant::now();
        for index in 0..total {
            let due = start + INTERVAL * index as u32;
            while Instant::now() < due {
                tokio::task::yield_now().await;
            }
            let now = epoch.elapsed().as_nanos() as u64;
            C::send(&mut tx, message.stamped_at(index, now)).await.check();
        }
        start.elapsed()
    });
    let receiver = tokio::spawn(async move {
        let mut check = Check::<Message>::exclusive(1);
        let mut delays = Vec::with_capacity(job.messages as usize);
        let mut visit = |message: &[u8]| {
            let now = epoch.elapsed().as_nanos() as u64;
            if check.verify(message) >= warmup {
                delays.push(now.saturating_sub(Message::nanos(message)));
            }
        };
        while C::recv(&mut rx, &mut visit).await {}
        (delays, check)
    });

    let (delays, check) = receiver.await.map_err(|error| format!("the receiver's task failed: {error}"))?;
    Check::finish(vec![check], total)?;
    let elapsed = sender.await.map_err(|error| format!("the sender's task failed: {error}"))?;
    let interval = elapsed.as_nanos() as f64 / total as f64;
    Ok(quantiles(delays).into_iter().chain([(Statistic::IntervalNs, interval)]).collect())
}
