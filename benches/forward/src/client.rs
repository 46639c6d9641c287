//! One run of one contender: the client process.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::stream::{Config, StorageType};
use serde::{Deserialize, Serialize};

use crate::cli::RunArgs;
use crate::contenders::{Job, SUBJECT};
use crate::usage;

/// The part of the messages that are forwarded before the clock starts.
const WARM_UP: u64 = 10;
const STREAM: &str = "bench";

/// What a run has measured.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Outcome {
    pub messages_per_second: f64,
    /// CPU seconds of the client process for a million messages.
    pub user: f64,
    pub system: f64,
    /// The highest resident memory of the client process, without what it had when it was connected.
    pub peak_bytes: u64,
}

/// Runs in this process, the client, and prints the outcome as JSON.
pub fn run(args: &RunArgs) -> Result<(), String> {
    let timeout = Duration::from_secs(args.timeout);
    // A separate thread detects even a hang that keeps every worker busy. It ends with the process.
    let (done, watched) = channel::<()>();
    thread::spawn(move || {
        if watched.recv_timeout(timeout) == Err(RecvTimeoutError::Timeout) {
            eprintln!("hang: not done after {timeout:?}");
            std::process::exit(3);
        }
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let outcome = runtime.block_on(async { tokio::spawn(measure(job(args), args.url.clone())).await });
    let outcome = outcome.map_err(|error| error.to_string())??;
    drop(done);
    println!("{}", serde_json::to_string(&outcome).map_err(|error| error.to_string())?);
    Ok(())
}

fn job(args: &RunArgs) -> Job {
    Job {
        contender: args.contender,
        size: args.size,
        messages: args.messages,
        window: args.window,
        capacity: args.capacity,
    }
}

async fn measure(job: Job, url: String) -> Result<Outcome, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let client = async_nats::connect(url).await.map_err(|error| text(&error))?;
    // Permits for twice the window: the window alone limits what is in flight.
    let context = ContextBuilder::new().max_ack_inflight(2 * job.window).build(client);
    let config = Config {
        name: STREAM.into(),
        subjects: vec![SUBJECT.into()],
        storage: StorageType::File,
        ..Config::default()
    };
    let mut stream = context.create_stream(config).await.map_err(|error| text(&error))?;
    let idle = usage::memory("VmRSS")?;

    let warm_up = (job.messages / WARM_UP).max(1);
    job.forward(&context, warm_up).await?;
    let (cpu, clock) = (usage::cpu()?, Instant::now());
    job.forward(&context, job.messages).await?;
    let (elapsed, now) = (clock.elapsed().as_secs_f64(), usage::cpu()?);
    let peak = usage::memory("VmHWM")?;

    let state = &stream.info().await.map_err(|error| text(&error))?.state;
    let sent = warm_up + job.messages;
    let has_all =
        if job.contender.packs() { state.bytes >= sent * job.size as u64 } else { state.messages == sent };
    if !has_all {
        return Err(format!("{} messages of {} bytes for {sent} sent", state.messages, state.bytes));
    }
    let millions = job.messages as f64 / 1e6;
    Ok(Outcome {
        messages_per_second: job.messages as f64 / elapsed,
        user: (now.user - cpu.user) / millions,
        system: (now.system - cpu.system) / millions,
        peak_bytes: peak.saturating_sub(idle),
    })
}
