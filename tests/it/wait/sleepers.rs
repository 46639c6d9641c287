//! Random sends, receives, drops and wakes on one thread: no sender sleeps while it could send.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};

use crate::common::{current_runtime, effort, plain};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use turbostream::{MessageCount, ReadMode, Receiver, Sender};

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

/// A sender that is polled when it was woken, or never again.
struct Task {
    send: Pin<Box<dyn Future<Output = ()>>>,
    flag: Arc<Flag>,
    is_polled: bool,
    what: (usize, usize),
    number: usize,
}

impl Task {
    fn new(tx: &Sender, way: usize, len: usize, number: usize) -> Self {
        let tx = tx.clone();
        let send = Box::pin(async move {
            match way {
                0 => tx.send(vec![0; len]).await.expect("open"),
                1 => tx.send(&vec![0; len][..]).await.expect("open"),
                2 => drop(tx.send_many([vec![0; len], vec![0; 3], vec![0; len]]).await.expect("open")),
                _ => tx.send_with(len, |to| to.len()).await.map_err(drop).expect("open"),
            }
        });
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        Self { send, flag, is_polled: true, what: (way, len), number }
    }

    /// Polls once; returns whether it is done.
    fn poll(&mut self) -> bool {
        self.flag.0.store(false, Relaxed);
        let waker = Waker::from(Arc::clone(&self.flag));
        self.send.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
    }

    fn is_woken(&self) -> bool {
        self.is_polled && self.flag.0.load(Relaxed)
    }
}

struct Run {
    tx: Sender,
    rx: Receiver,
    tasks: Vec<Task>,
    kept: Vec<Bytes>,
    segment_bytes: usize,
    most: usize,
    /// The most messages that may overtake the first sender.
    lap: u64,
    /// The number of the sender that has waited for longest, and the messages accepted since it came first.
    first: (usize, u64),
    created: usize,
    trace: Vec<String>,
}

impl Run {
    /// A channel in which `spare` segments are more than the longest message needs.
    fn new(rng: &mut StdRng, spare: usize) -> Self {
        let segment_bytes = [64, 200][rng.random_range(0..2)];
        let messages = [1, 2, 4][rng.random_range(0..3)];
        let one = segment_bytes + 8 * messages + 128;
        let segments = rng.random_range(2..5);
        let max = segments * one + [0, 100][rng.random_range(0..2)];
        let most = rng.random_range(3..=segment_bytes.max(max - (1 + spare) * one));
        let mode = if rng.random_bool(0.8) { ReadMode::ZeroCopy } else { ReadMode::Safe };
        let (tx, rx) = turbostream::builder()
            .segment_bytes(segment_bytes)
            .segment_messages(messages)
            .max_bytes(max)
            .max_message_bytes(most)
            .strategy(MessageCount(1 << 20))
            .on_demand(rng.random_bool(0.7))
            .read_mode(mode)
            .build()
            .expect("valid");
        let trace =
            vec![format!("{segment_bytes} B x {messages}, {segments} segments, max {max}, most {most}")];
        // Later senders take segments until these have `max_bytes`, and the room that was left in the open one.
        let lap = (max.div_ceil(one) * messages + messages - 1) as u64;
        Self {
            tx,
            rx,
            tasks: vec![],
            kept: vec![],
            segment_bytes,
            most,
            lap,
            first: (0, 0),
            created: 0,
            trace,
        }
    }

    fn note(&mut self, what: impl Into<String>) {
        self.trace.push(what.into());
    }

    /// Polls every task that was woken, until none is.
    fn settle(&mut self) {
        let mut polls = 0;
        while let Some(at) = self.tasks.iter().position(Task::is_woken) {
            polls += 1;
            assert!(polls < 200 + 40 * self.tasks.len(), "a busy loop: {:#?}", self.trace);
            if self.tasks[at].poll() {
                let what = self.tasks.remove(at).what;
                self.note(format!("  done {what:?}"));
            } else {
                let what = self.tasks[at].what;
                self.note(format!("  pending {what:?}"));
            }
        }
        let stats = self.tx.monitor().stats();
        assert!(stats.memory_bytes() <= stats.max_bytes, "{:#?}", self.trace);
        // `send_many` waits anew for each part.
        let first = self
            .tasks
            .first()
            .filter(|first| first.is_polled && first.what.0 != 2)
            .map_or(0, |first| first.number);
        if first == 0 || first != self.first.0 {
            self.first = (first, stats.sent_messages);
        }
        let overtook = stats.sent_messages - self.first.1;
        assert!(overtook <= self.lap, "{overtook} messages overtook the first sender: {:#?}", self.trace);
    }

    fn step(&mut self, rng: &mut StdRng, unpolled: bool) {
        let short = self.segment_bytes.min(self.most);
        match rng.random_range(0..14) {
            0..=4 if self.tasks.len() < 12 => {
                let len = match rng.random_range(0..4) {
                    0 => rng.random_range(0..10.min(short)),
                    1 | 2 => rng.random_range(0..=short),
                    _ => rng.random_range(0..=self.most),
                };
                let way = rng.random_range(0..4);
                self.note(format!("send {way} {len}"));
                self.created += 1;
                self.tasks.push(Task::new(&self.tx, way, len, self.created));
            }
            5..=8 => {
                if let Some(message) = self.receive(rng) {
                    self.note(format!("received {}", message.len()));
                    if rng.random_bool(0.3) && self.kept.len() < 3 {
                        self.note("  kept");
                        self.kept.push(message);
                    }
                }
            }
            9 | 10 if !self.kept.is_empty() => {
                let at = rng.random_range(0..self.kept.len());
                self.note(format!("drop kept {at}"));
                self.kept.remove(at);
            }
            11 if !self.tasks.is_empty() => self.give_up_one(rng, unpolled),
            12 => {
                let len = rng.random_range(0..=short);
                let sent = self.tx.try_send(vec![0; len]).is_ok();
                self.note(format!("try_send {len}: {sent}"));
            }
            13 => {
                self.note("switch");
                self.tx.switch();
            }
            _ => {}
        }
        if rng.random_bool(0.8) {
            self.settle();
        }
    }

    /// Receives a message, if there is one, without a wait or by a receive that is polled once.
    fn receive(&mut self, rng: &mut StdRng) -> Option<Bytes> {
        if rng.random_bool(0.5) {
            return self.rx.try_recv().ok();
        }
        match pin!(self.rx.recv()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(received) => received,
            Poll::Pending => None,
        }
    }

    /// Drops a send, or does not poll it again.
    fn give_up_one(&mut self, rng: &mut StdRng, unpolled: bool) {
        let at = rng.random_range(0..self.tasks.len());
        let what = self.tasks[at].what;
        if rng.random_bool(0.4) {
            drop(self.tasks.remove(at));
            self.note(format!("cancel {what:?}"));
        } else if unpolled && what.1 <= self.segment_bytes && self.tasks.iter().all(|task| task.is_polled) {
            self.tasks[at].is_polled = false;
            self.note(format!("unpolled {what:?}"));
        }
    }

    /// A poll without a wake finds nothing new.
    fn assert_asleep(&mut self, rng: &mut StdRng) {
        self.settle();
        if self.tasks.is_empty() {
            return;
        }
        let at = rng.random_range(0..self.tasks.len());
        let task = &mut self.tasks[at];
        if task.is_polled {
            let is_done = task.poll();
            let what = task.what;
            self.note(format!("poll without a wake {what:?}"));
            assert!(
                !is_done,
                "slept although it could send: {:#?}\n{:?}",
                self.trace,
                self.tx.monitor().stats()
            );
            self.settle();
        }
    }

    /// Once all memory is free, every sender that is polled has sent.
    fn assert_all_sent(&mut self) {
        self.kept.clear();
        self.tx.switch();
        self.settle();
        self.note("drain");
        let mut idle = 0;
        while idle < 3 {
            idle += 1;
            while self.rx.try_recv().is_ok() {
                idle = 0;
                self.settle();
            }
            self.tx.switch();
            self.settle();
        }
        let left: Vec<_> = self.tasks.iter().filter(|task| task.is_polled).map(|task| task.what).collect();
        let stats = self.tx.monitor().stats();
        assert!(left.is_empty(), "{left:?} sleep beside an empty channel: {:#?}\n{stats:?}", self.trace);
    }
}

#[test]
fn no_sender_sleeps_while_it_could_send() {
    plain(|| {
        // The test never drives this runtime, so the background task never runs.
        let runtime = current_runtime(false);
        let _context = runtime.enter();
        for seed in 0..300 * effort() as u64 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut run = Run::new(&mut rng, 0);
            run.trace.push(format!("seed {seed}"));
            for _ in 0..200 {
                run.step(&mut rng, false);
                if rng.random_bool(0.2) {
                    run.assert_asleep(&mut rng);
                }
            }
            run.assert_all_sent();
        }
    });
}

/// One sender that is not polled keeps at most a segment.
#[test]
fn unpolled_sender_keeps_no_other_asleep() {
    plain(|| {
        let runtime = current_runtime(false);
        let _context = runtime.enter();
        for seed in 0..300 * effort() as u64 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut run = Run::new(&mut rng, 1);
            run.trace.push(format!("seed {seed}"));
            for _ in 0..100 {
                run.step(&mut rng, true);
            }
            run.assert_all_sent();
        }
    });
}
