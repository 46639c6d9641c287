//! Two tasks and two channels: one task sends a message and waits for it to come back from the other. A tenth more
//! round trips than asked for go first, as a warm-up.

use super::{Check, Job, Outcome, Quantiles, Stamped};
use crate::contenders::Contender;
use std::time::Instant;

pub async fn run<C: Contender, const LEN: usize>(job: Job) -> Result<Outcome, String> {
    let warmup = job.messages / 10 + 1;
    let total = warmup + job.messages;
    let (mut ping_tx, mut ping_rx) = C::open(job.capacity);
    let (mut pong_tx, mut pong_rx) = C::open(job.capacity);

    let near = tokio::spawn(async move {
        let mut message = Stamped::<LEN>::new();
        let mut check = Check::<LEN>::new();
        let mut round_trips = Vec::with_capacity(job.messages as usize);
        for index in 0..total {
            let start = Instant::now();
            C::send(&mut ping_tx, message.stamp(index)).await;
            let answered = C::recv(&mut pong_rx, &mut |message| check.look(message)).await;
            if !answered || !check.wants(u64::MAX) {
                break;
            }
            if index >= warmup {
                round_trips.push(start.elapsed().as_nanos() as u64);
            }
        }
        drop(ping_tx);
        while check.wants(u64::MAX) && C::recv(&mut pong_rx, &mut |message| check.look(message)).await {}
        check.finish(total).map(|()| round_trips)
    });

    let far = tokio::spawn(async move {
        let mut check = Check::<LEN>::new();
        let mut answer = Stamped::<LEN>::new();
        while C::recv(&mut ping_rx, &mut |message| check.look(message)).await && check.wants(u64::MAX) {
            C::send(&mut pong_tx, answer.stamp(check.seen - 1)).await;
        }
        check.finish(total)
    });

    let near = near.await.unwrap_or_else(|error| Err(error.to_string()));
    let far = far.await.unwrap_or_else(|error| Err(error.to_string()));
    let round_trips = match (near, far) {
        (Ok(round_trips), Ok(())) => round_trips,
        (near, far) => return Err(format!("near: {:?}, far: {far:?}", near.map(|_| ()))),
    };
    let elapsed: u64 = round_trips.iter().sum();
    let ns_per_message = elapsed as f64 / (2 * round_trips.len()) as f64;
    Ok(Outcome { ns_per_message, round_trip: Some(Quantiles::of(round_trips)) })
}
