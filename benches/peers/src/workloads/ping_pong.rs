//! Two tasks and two channels: one task sends a message and waits for it to come back from the other. A tenth more
//! round trips than asked for go first, as a warm-up.

use super::figure::quantiles;
use super::{Check, Copied, Figure, Job, Outcome, Source};
use crate::contenders::Contender;
use std::time::Instant;

type Message = Copied<128>;

pub async fn run<C: Contender>(job: Job) -> Result<Outcome, String> {
    let warmup = job.warmup();
    let total = warmup + job.messages;
    let (ping_tx, mut ping_rx) = C::open(job.capacity);
    let (mut pong_tx, pong_rx) = C::open(job.capacity);

    let near = tokio::spawn(ask::<C>(ping_tx, pong_rx, warmup, total));
    let far = tokio::spawn(async move {
        let mut check = Check::<Message>::alone(1);
        let mut answer = Message::new(0);
        let mut index = 0;
        while C::recv(&mut ping_rx, &mut |message| index = check.look(message)).await && check.is_right() {
            answer.send::<C>(&mut pong_tx, index).await;
        }
        check
    });

    let (round_trips, near) = near.await.map_err(|error| format!("the asking task failed: {error}"))?;
    Check::finish(vec![near], total)?;
    let far = far.await.map_err(|error| format!("the answering task failed: {error}"))?;
    Check::finish(vec![far], total)?;
    let elapsed: u64 = round_trips.iter().sum();
    let half = elapsed as f64 / (2 * round_trips.len()) as f64;
    Ok(quantiles(round_trips).into_iter().chain([(Figure::NsPerMessage, half)]).collect())
}

/// The round trips that it took, and what came back.
async fn ask<C: Contender>(
    mut tx: C::Tx,
    mut rx: C::Rx,
    warmup: u64,
    total: u64,
) -> (Vec<u64>, Check<Message>) {
    let mut question = Message::new(0);
    let mut check = Check::alone(1);
    let mut round_trips = Vec::with_capacity((total - warmup) as usize);
    for index in 0..total {
        let start = Instant::now();
        question.send::<C>(&mut tx, index).await;
        let answered = C::recv(&mut rx, &mut |message| _ = check.look(message)).await;
        if !(answered && check.is_right()) {
            break;
        }
        if index >= warmup {
            round_trips.push(start.elapsed().as_nanos() as u64);
        }
    }
    drop(tx);
    // Until the other side's end closes the channel: nothing may come twice.
    while check.is_right() && C::recv(&mut rx, &mut |message| _ = check.look(message)).await {}
    (round_trips, check)
}
