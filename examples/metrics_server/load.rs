//! The load of the example: one channel of many small messages, one of bulky messages that accumulate, and one that is
//! forwarded to another machine.

#[path = "distant.rs"]
mod distant;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use turbostream::forward::{ForwardHandle, Forwarder};
use turbostream::{Batch, Builder, ByteCount, Monitor, PrometheusRecorder, ReadMode, Receiver, Sender};

use self::distant::Distant;

/// How often the senders send the messages that are due.
const TICK: Duration = Duration::from_millis(10);
const SMALL_BYTES: usize = 128;
const BULKY_BYTES: usize = 1024;
const FORWARDED_BYTES: usize = 256;
/// How many batches the receiver keeps, as if it had yet to write them.
const KEPT_BATCHES: usize = 16;

/// Messages per second.
#[derive(Clone, Copy)]
pub(crate) struct Rates {
    pub(crate) small: u32,
    pub(crate) bulky: u32,
    pub(crate) forwarded: u32,
}

impl Default for Rates {
    fn default() -> Self {
        Self { small: 100_000, bulky: 1_500, forwarded: 4_000 }
    }
}

/// What was sent to a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) channel: &'static str,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

pub(crate) struct Load {
    stop: CancellationToken,
    send_tasks: Vec<JoinHandle<Result<Sent>>>,
    monitors: Vec<Monitor>,
    forwarder: Option<ForwardHandle>,
    /// Keep the channels open, so that their metrics stay after the load has ended.
    _senders: Vec<Sender>,
}

impl Load {
    pub(crate) fn start(recorder: &Arc<PrometheusRecorder>, rates: Rates) -> Result<Self> {
        let named = |name: &str| {
            let builder = turbostream::builder().name(name).read_mode(ReadMode::ZeroCopy);
            builder.recorder(Arc::clone(recorder)).report_interval(Duration::from_millis(100))
        };
        let mut load = Self {
            stop: CancellationToken::new(),
            send_tasks: Vec::new(),
            monitors: Vec::new(),
            forwarder: None,
            _senders: Vec::new(),
        };
        let rx = load.add("small", named("small"), rates.small, SMALL_BYTES)?;
        tokio::spawn(receive(rx));
        let accumulating = named("bulky").segment_bytes(4 << 20).segment_messages(8192).max_bytes(32 << 20);
        let accumulating = accumulating.on_demand(false).strategy(ByteCount(3 << 20));
        let rx = load.add("bulky", accumulating, rates.bulky, BULKY_BYTES)?;
        tokio::spawn(receive(rx));
        let rx =
            load.add("forwarded", named("forwarded").max_bytes(8 << 20), rates.forwarded, FORWARDED_BYTES)?;
        load.forwarder = Some(Forwarder::new(rx, Distant::new()).spawn());
        Ok(load)
    }

    /// Opens a channel and starts its sender.
    fn add(&mut self, channel: &'static str, builder: Builder, rate: u32, len: usize) -> Result<Receiver> {
        let (tx, rx) = builder.build()?;
        self.monitors.push(tx.monitor());
        self._senders.push(tx.clone());
        self.send_tasks.push(tokio::spawn(send(channel, tx, rate, len, self.stop.clone())));
        Ok(rx)
    }

    /// Stops the load, waits until all that is forwarded is confirmed, flushes the statistics to the recorder, and returns what was sent.
    pub(crate) async fn stop(&mut self) -> Result<Vec<Sent>> {
        self.stop.cancel();
        let mut sent = Vec::new();
        for task in self.send_tasks.drain(..) {
            sent.push(task.await??);
        }
        if let Some(forwarder) = &self.forwarder {
            forwarder.flush().await?;
        }
        self.monitors.iter().for_each(Monitor::flush);
        Ok(sent)
    }
}

/// Sends `rate` messages of `len` bytes per second.
async fn send(
    channel: &'static str,
    tx: Sender,
    rate: u32,
    len: usize,
    stop: CancellationToken,
) -> Result<Sent> {
    let message = vec![b'.'; len];
    let mut sent = Sent { channel, messages: 0, bytes: 0 };
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut due, each) = (0.0, f64::from(rate) * TICK.as_secs_f64());
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        due += each;
        while due >= 1.0 {
            tx.send(&message[..]).await.map_err(|error| anyhow!("{channel}: {error}"))?;
            due -= 1.0;
            sent.messages += 1;
            sent.bytes += len as u64;
        }
    }
    Ok(sent)
}

/// Receives batches, and keeps the latest few.
async fn receive(mut rx: Receiver) {
    let mut kept = VecDeque::<Batch>::new();
    while let Some(batch) = rx.recv_batch(256).await {
        kept.push_back(batch);
        if kept.len() > KEPT_BATCHES {
            kept.pop_front();
        }
    }
}
