//! One task repeatedly creates a channel, sends and receives one message, and drops the channel.

use super::{Check, Copied, Job, Outcome, Source, Statistic};
use crate::contenders::{Contender, SendResult};
use std::time::Instant;

type Message = Copied<128>;

pub async fn run<C: Contender>(job: Job) -> Result<Outcome, String> {
    let task = tokio::spawn(async move {
        let mut check = Check::<Message>::exclusive(1);
        let mut message = Message::new(0);
        let mut start = Instant::now();
        for index in 0..job.warmup() + job.messages {
            if index == job.warmup() {
                start = Instant::now();
            }
            let (mut tx, mut rx) = C::open(job.capacity);
            message.send::<C>(&mut tx, index).await.check();
            C::recv(&mut rx, &mut |message| _ = check.verify(message)).await;
        }
        (start.elapsed(), check)
    });
    let (elapsed, check) = task.await.map_err(|error| format!("the task failed: {error}"))?;
    Check::finish(vec![check], job.warmup() + job.messages)?;
    Ok(Outcome::from([(Statistic::NsPerMessage, elapsed.as_nanos() as f64 / job.messages as f64)]))
}
