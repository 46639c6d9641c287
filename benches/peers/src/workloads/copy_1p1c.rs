//! One sender task, one receiver task: messages per time. A tenth more messages than asked for go first, through the
//! same channel, as a warm-up; the clock starts once they have all been read, so that nothing is queued.

use super::{Check, Job, Outcome, Stamped};
use crate::contenders::Contender;
use std::time::Instant;
use tokio::sync::oneshot;

pub async fn run<C: Contender, const LEN: usize>(job: Job) -> Result<Outcome, String> {
    let warmup = job.messages / 10 + 1;
    let total = warmup + job.messages;
    let (mut tx, mut rx) = C::open(job.capacity);
    let (warm, warmed) = oneshot::channel();

    let sender = tokio::spawn(async move {
        let mut message = Stamped::<LEN>::new();
        for index in 0..warmup {
            C::send(&mut tx, message.stamp(index)).await;
        }
        C::flush(&mut tx).await;
        warmed.await.expect("the receiver is there");
        let start = Instant::now();
        for index in warmup..total {
            C::send(&mut tx, message.stamp(index)).await;
        }
        C::flush(&mut tx).await;
        start
    });

    let receiver = tokio::spawn(async move {
        let mut check = Check::<LEN>::new();
        while check.wants(warmup) && C::recv(&mut rx, &mut |message| check.look(message)).await {}
        let _ = warm.send(());
        while check.wants(total) && C::recv(&mut rx, &mut |message| check.look(message)).await {}
        let end = Instant::now();
        // Until the sender's drop closes the channel: nothing may come twice.
        while check.wants(u64::MAX) && C::recv(&mut rx, &mut |message| check.look(message)).await {}
        (end, check.finish(total))
    });

    let (end, checked) = receiver.await.map_err(|error| format!("the receiver's task failed: {error}"))?;
    checked?;
    let start = sender.await.map_err(|error| format!("the sender's task failed: {error}"))?;
    let elapsed = end.duration_since(start).as_nanos() as f64;
    Ok(Outcome { ns_per_message: elapsed / job.messages as f64, round_trip: None })
}
