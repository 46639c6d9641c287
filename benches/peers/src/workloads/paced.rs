//! One task sends a message every 10 µs and yields to others until the next is due; another notes how long each took
//! from just before its send to its being looked at. A sender that is late sends at once, and the interval that was
//! kept is told. A tenth more messages than asked for go first, as a warm-up.

use super::figure::quantiles;
use super::{Check, Copied, Figure, Job, Outcome, Source};
use crate::contenders::Contender;
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
            C::send(&mut tx, message.stamped_at(index, now)).await;
        }
        start.elapsed()
    });
    let receiver = tokio::spawn(async move {
        let mut check = Check::<Message>::alone(1);
        let mut delays = Vec::with_capacity(job.messages as usize);
        let mut look = |message: &[u8]| {
            let now = epoch.elapsed().as_nanos() as u64;
            if check.look(message) >= warmup {
                delays.push(now.saturating_sub(Message::nanos(message)));
            }
        };
        while C::recv(&mut rx, &mut look).await {}
        (delays, check)
    });

    let (delays, check) = receiver.await.map_err(|error| format!("the receiver's task failed: {error}"))?;
    Check::finish(vec![check], total)?;
    let took = sender.await.map_err(|error| format!("the sender's task failed: {error}"))?;
    let interval = took.as_nanos() as f64 / total as f64;
    Ok(quantiles(delays).into_iter().chain([(Figure::IntervalNs, interval)]).collect())
}
