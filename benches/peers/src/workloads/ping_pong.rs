//! Two tasks and two channels: one task sends a message and waits for the reply of the other. A tenth more round trips
//! precede as a warm-up.

use super::statistic::quantiles;
use super::{Check, Copied, Job, Outcome, Source, Statistic};
use crate::contenders::{Contender, SendResult};
use std::time::Instant;

type Message = Copied<128>;

pub async fn run<C: Contender>(job: Job) -> Result<Outcome, String> {
    let warmup = job.warmup();
    let total = warmup + job.messages;
    let (ping_tx, mut ping_rx) = C::open(job.capacity);
    let (mut pong_tx, pong_rx) = C::open(job.capacity);

    let near = tokio::spawn(request::<C>(ping_tx, pong_rx, warmup, total));
    let far = tokio::spawn(async move {
        let mut check = Check::<Message>::exclusive(1);
        let mut reply = Message::new(0);
        let mut index = 0;
        while C::recv(&mut ping_rx, &mut |received| index = check.verify(received)).await && check.is_ok() {
            reply.send::<C>(&mut pong_tx, index).await.check();
        }
        check
    });

    let (round_trips, near) = near.await.map_err(|error| format!("the requesting task failed: {error}"))?;
    Check::finish(vec![near], total)?;
    let far = far.await.map_err(|error| format!("the replying task failed: {error}"))?;
    Check::finish(vec![far], total)?;
    let elapsed: u64 = round_trips.iter().sum();
    let half = elapsed as f64 / (2 * round_trips.len()) as f64;
    Ok(quantiles(round_trips).into_iter().chain([(Statistic::NsPerMessage, half)]).collect())
}

/// Returns the duration of each round trip, and the check of the replies.
async fn request<C: Contender>(
    mut tx: C::Tx,
    mut rx: C::Rx,
    warmup: u64,
    total: u64,
) -> (Vec<u64>, Check<Message>) {
    let mut message = Message::new(0);
    let mut check = Check::exclusive(1);
    let mut round_trips = Vec::with_capacity((total - warmup) as usize);
    for index in 0..total {
        let start = Instant::now();
        message.send::<C>(&mut tx, index).await.check();
        let replied = C::recv(&mut rx, &mut |received| _ = check.verify(received)).await;
        if !(replied && check.is_ok()) {
            break;
        }
        if index >= warmup {
            round_trips.push(start.elapsed().as_nanos() as u64);
        }
    }
    drop(tx);
    // Receives until the other task closes the channel, to detect duplicates.
    while check.is_ok() && C::recv(&mut rx, &mut |received| _ = check.verify(received)).await {}
    (round_trips, check)
}
