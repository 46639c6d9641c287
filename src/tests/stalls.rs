//! Waits for a message that is reserved and not committed: the stall watcher ends them.
//!
//! These tests commit by hand, as the sender of a copy does: by a store that wakes no thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use futures::executor::block_on;

use crate::queue::segment::slot_state::EntrySlot;
use crate::{Receiver, Sender, builder};

/// Runs `body` on a thread of its own; panics if it hangs.
fn bounded(body: impl FnOnce() + Send + 'static) {
    let (alive, ended) = mpsc::channel::<()>();
    let worker = thread::spawn(move || {
        let _alive = alive;
        body();
    });
    assert_eq!(ended.recv_timeout(Duration::from_secs(60)), Err(RecvTimeoutError::Disconnected), "stuck");
    worker.join().expect("the body passes");
}

/// A channel whose runtime has shut down.
fn without_runtime() -> (Sender, Receiver) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    builder().runtime(runtime.handle().clone()).build().expect("a valid configuration")
}

fn reserve(tx: &Sender) -> EntrySlot {
    tx.try_send("first").expect("room");
    let queue = &tx.core().queue;
    queue.ring.slot(queue.ring.active()).reserve(1, queue.capacities()).expect("room")
}

fn commit(tx: &Sender, entry: &EntrySlot) {
    tx.core().queue.segment(entry.segment()).write(entry, b"2");
}

/// Receives the first message, and then the second one on another thread; returns once that sleeps.
fn receive_second(tx: &Sender, mut rx: Receiver) -> thread::JoinHandle<Receiver> {
    assert_eq!(rx.try_recv().expect("a message"), "first");
    let receiver = thread::spawn(move || {
        assert_eq!(rx.blocking_recv().expect("open"), "2");
        rx
    });
    while tx.core().receivers_waiting().waiting() == 0 {
        thread::yield_now();
    }
    receiver
}

#[test]
fn receiver_of_a_copied_message_is_woken() {
    bounded(|| {
        let (tx, rx) = without_runtime();
        let entry = reserve(&tx);
        let receiver = receive_second(&tx, rx);
        commit(&tx, &entry);
        receiver.join().expect("it is woken");
    });
}

/// A second stall begins while the watcher may still have the channel.
#[test]
fn receiver_of_each_stalled_message_is_woken() {
    bounded(|| {
        let (tx, mut rx) = without_runtime();
        for _ in 0..50 {
            let entry = reserve(&tx);
            let receiver = receive_second(&tx, rx);
            commit(&tx, &entry);
            rx = receiver.join().expect("it is woken");
        }
    });
}

#[test]
fn drainer_is_woken_after_a_copied_message() {
    bounded(|| {
        let (tx, rx) = without_runtime();
        let entry = reserve(&tx);
        let receiver = receive_second(&tx, rx);
        let drainer = thread::spawn({
            let tx = tx.clone();
            move || block_on(tx.drained()).expect("the message was received")
        });
        commit(&tx, &entry);
        drainer.join().expect("it is woken");
        receiver.join().expect("it is woken");
    });
}

#[test]
fn copied_message_is_discarded_after_the_last_receiver() {
    bounded(|| {
        let (tx, rx) = without_runtime();
        let entry = reserve(&tx);
        drop(rx);
        assert_eq!(tx.len(), 1, "not committed");
        let drainer = thread::spawn({
            let tx = tx.clone();
            move || block_on(tx.drained()).expect_err("the message was discarded")
        });
        commit(&tx, &entry);
        drainer.join().expect("it is woken");
        let stats = tx.monitor().stats();
        assert_eq!((stats.dropped_messages, stats.memory_bytes()), (2, 0));
    });
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// The sender itself wakes the receiver: the watcher would come later than the check.
#[test]
fn closure_wakes_receiver_at_its_commit() {
    bounded(|| {
        let (tx, mut rx) = without_runtime();
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut cx = Context::from_waker(&waker);
        let mut recv = Box::pin(rx.recv());
        block_on(tx.send_with(1, |buffer| {
            assert!(recv.as_mut().poll(&mut cx).is_pending());
            assert_eq!(wakes.0.load(Ordering::SeqCst), 0);
            buffer[0] = b'1';
            1
        }))
        .map_err(drop)
        .expect("open");
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
        assert!(recv.as_mut().poll(&mut cx).is_ready());
    });
}
