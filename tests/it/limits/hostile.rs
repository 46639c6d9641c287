//! Code of the user that panics, comes back in, or answers nonsense: it is contained, and the channel goes on.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use crate::common::{advance, ms, paused, plain, settle};
use futures::FutureExt;
use turbostream::{
    ActiveSegment, Builder, MessageCount, ReadMode, Receiver, Sender, SwitchLimits, SwitchStrategy, WhenFull,
};

type Hook = Box<dyn Fn(&Sender, &Receiver) + Send + Sync>;

/// Code that has both ends of the channel that runs it, and does what it likes with them.
struct Hostile {
    ends: Mutex<Option<(Sender, Receiver)>>,
    calls: AtomicUsize,
    hook: Hook,
}

impl Hostile {
    fn new(hook: impl Fn(&Sender, &Receiver) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { ends: Mutex::new(None), calls: AtomicUsize::new(0), hook: Box::new(hook) })
    }

    fn hold(&self, tx: &Sender, rx: &Receiver) {
        *self.ends.lock().unwrap() = Some((tx.clone(), rx.clone()));
    }

    fn act(&self) {
        let depth = self.calls.fetch_add(1, Relaxed);
        // Out of its own lock, and not for ever.
        let ends = self.ends.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        if let (Some((tx, rx)), true) = (ends, depth < 1000) {
            (self.hook)(&tx, &rx);
        }
    }

    fn let_go(&self) -> usize {
        self.ends.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        self.calls.load(Relaxed)
    }
}

impl Wake for Hostile {
    fn wake(self: Arc<Self>) {
        self.act();
    }
}

impl SwitchStrategy for Hostile {
    fn should_switch(&self, _: &ActiveSegment) -> bool {
        self.act();
        true
    }
}

/// A strategy behind a handle that the test keeps.
struct Shared(Arc<Hostile>);

impl SwitchStrategy for Shared {
    fn should_switch(&self, active: &ActiveSegment) -> bool {
        self.0.should_switch(active)
    }
    fn limits(&self, active: &ActiveSegment) -> SwitchLimits {
        self.0.act();
        SwitchStrategy::limits(&*self.0, active)
    }
    fn next_check(&self, active: &ActiveSegment) -> Option<Duration> {
        self.0.act();
        SwitchStrategy::next_check(&*self.0, active)
    }
}

/// A payload by reference whose drop is the user's code.
struct Payload(Arc<Hostile>, Vec<u8>);

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        &self.1
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        self.0.act();
    }
}

fn payload(hostile: &Arc<Hostile>) -> Bytes {
    Bytes::from_owner(Payload(Arc::clone(hostile), vec![7; 200]))
}

/// Four segments of two messages, in which 200 bytes travel by reference.
fn tiny() -> Builder {
    let one = 64 + 2 * 8 + 128;
    turbostream::builder().segment_bytes(64).segment_messages(2).max_bytes(4 * one).max_message_bytes(400)
}

/// Everything that can be done to a channel, from within. Nothing here waits.
fn everything(tx: &Sender, rx: &Receiver) {
    drop(tx.try_send("from within"));
    drop(tx.try_send(vec![1; 100]));
    tx.switch();
    tx.set_strategy(MessageCount(3));
    drop(rx.try_recv());
    drop(rx.recv_batch(2).now_or_never());
    let _ = tx.drained().now_or_never();
    drop(tx.send_many(["a", "b", "c"]).now_or_never());
    drop(rx.clone());
    drop(tx.clone());
    assert!(tx.monitor().stats().memory_bytes() <= tx.monitor().stats().max_bytes);
}

fn panics(_: &Sender, _: &Receiver) {
    std::panic::panic_any("on purpose");
}

/// Whatever happened before: a message goes in and comes out, and everybody who waits is served.
async fn still_works(tx: &Sender, rx: &Receiver) {
    while rx.try_recv().is_ok() {}
    tx.set_strategy(MessageCount(1));
    let other = rx.clone();
    let waiting = tokio::spawn(async move { other.recv().await });
    settle().await;
    tx.send("still").await.expect("open");
    settle().await;
    assert_eq!(waiting.await.expect("no panic").expect("open"), "still");
    while tx.try_send("full").is_ok() {}
    let other = tx.clone();
    let waiting = tokio::spawn(async move { other.send_timeout("waited", ms(1000)).await.is_ok() });
    settle().await;
    let mut last = Bytes::new();
    while let Ok(Some(message)) = tokio::time::timeout(ms(100), rx.recv()).await {
        last = message;
    }
    assert!(waiting.await.expect("no panic"));
    assert_eq!(last, "waited");
    let stats = tx.monitor().stats();
    assert_eq!((stats.queued_messages, stats.waiting_senders, stats.waiting_receivers), (0, 0, 0));
}

/// Polls once with a hostile waker.
fn poll_hostile<F: Future>(future: Pin<&mut F>, hostile: &Arc<Hostile>) -> bool {
    let waker = Waker::from(Arc::clone(hostile));
    future.poll(&mut Context::from_waker(&waker)).is_ready()
}

#[test]
fn wakers_of_receivers() {
    for hook in [panics, everything] {
        paused(async move {
            let (tx, rx) = tiny().build().expect("valid");
            let hostile = Hostile::new(hook);
            hostile.hold(&tx, &rx);
            for round in 0..20 {
                let mut waiting = (Box::pin(rx.recv()), Box::pin(rx.recv_batch(3)));
                assert!(!poll_hostile(waiting.0.as_mut(), &hostile));
                assert!(!poll_hostile(waiting.1.as_mut(), &hostile));
                match round % 3 {
                    0 => tx.try_send("wakes").expect("room"),
                    1 => tx.try_send(vec![1; 100]).expect("room"),
                    _ => assert_eq!(tx.send_many(["1", "2"]).await.expect("open"), 2),
                }
                drop(waiting);
                while rx.try_recv().is_ok() {}
            }
            assert!(hostile.let_go() >= 20);
            still_works(&tx, &rx).await;
        });
    }
}

#[test]
fn wakers_of_senders() {
    for hook in [panics, everything] {
        paused(async move {
            let (tx, rx) = tiny().read_mode(ReadMode::ZeroCopy).build().expect("valid");
            let hostile = Hostile::new(hook);
            hostile.hold(&tx, &rx);
            for _ in 0..20 {
                while tx.try_send("before").is_ok() {}
                let mut waiting =
                    (Box::pin(tx.send("1")), Box::pin(tx.send(vec![1; 300])), Box::pin(tx.drained()));
                assert!(!poll_hostile(waiting.0.as_mut(), &hostile));
                assert!(!poll_hostile(waiting.1.as_mut(), &hostile));
                assert!(!poll_hostile(waiting.2.as_mut(), &hostile));
                while rx.try_recv().is_ok() {}
                drop(waiting);
                while rx.try_recv().is_ok() {}
            }
            assert!(hostile.let_go() >= 20);
            still_works(&tx, &rx).await;
        });
    }
}

#[test]
fn wakers_at_the_close() {
    for hook in [panics, everything] {
        paused(async move {
            let (tx, rx) = tiny().build().expect("valid");
            let hostile = Hostile::new(hook);
            hostile.hold(&tx, &rx);
            let (mut closed, mut recv) = (Box::pin(tx.closed()), Box::pin(rx.recv()));
            assert!(!poll_hostile(closed.as_mut(), &hostile) && !poll_hostile(recv.as_mut(), &hostile));
            let other = rx.clone();
            let waiting = tokio::spawn(async move { other.recv().await });
            settle().await;
            rx.close();
            assert_eq!(waiting.await.expect("no panic"), None);
            assert!(hostile.let_go() >= 2);
            assert!(tx.try_send("closed").is_err() && closed.now_or_never().is_some());
        });
    }
}

#[test]
fn strategies() {
    for hook in [panics, everything] {
        for on_demand in [true, false] {
            paused(async move {
                let hostile = Hostile::new(hook);
                let strategy = Shared(Arc::clone(&hostile));
                let (tx, rx) = tiny().on_demand(on_demand).strategy(strategy).build().expect("valid");
                hostile.hold(&tx, &rx);
                for _ in 0..50 {
                    drop(tx.try_send("asks"));
                    drop(tx.try_send(vec![1; 100]));
                    advance(ms(2)).await;
                    while rx.try_recv().is_ok() {}
                }
                assert!(hostile.let_go() > 0);
                still_works(&tx, &rx).await;
            });
        }
    }
}

/// A payload's last reference is dropped by the channel: at a drop policy, with a batch, or with the last receiver.
#[test]
fn drops_of_payloads() {
    for hook in [panics, everything] {
        for when_full in [WhenFull::DropNewest, WhenFull::DropOldest, WhenFull::Reject] {
            paused(async move {
                let (tx, rx) = tiny().when_full(when_full).build().expect("valid");
                let hostile = Hostile::new(hook);
                hostile.hold(&tx, &rx);
                for _ in 0..20 {
                    // Where it is the caller who drops it, the panic is the caller's.
                    let _ = catch_unwind(AssertUnwindSafe(|| drop(tx.try_send(payload(&hostile)))));
                    let _ = catch_unwind(AssertUnwindSafe(|| {
                        drop(tx.send_many([payload(&hostile)]).now_or_never())
                    }));
                }
                let batch = rx.recv_batch(5).now_or_never().flatten();
                let _ = catch_unwind(AssertUnwindSafe(|| drop(batch)));
                while let Ok(message) = rx.try_recv() {
                    let _ = catch_unwind(AssertUnwindSafe(|| drop(message)));
                }
                assert!(hostile.let_go() >= 20, "{when_full:?}");
                let (tx, rx) = works_as_before(tx, rx).await;
                drop(tx.try_send(payload(&hostile)));
                let monitor = tx.monitor();
                drop(rx);
                let stats = monitor.stats();
                assert_eq!((stats.queued_messages, stats.memory_bytes()), (0, 0), "{stats:?}");
            });
        }
    }
}

/// Where nobody waits for room.
async fn works_as_before(tx: Sender, rx: Receiver) -> (Sender, Receiver) {
    while rx.try_recv().is_ok() {}
    for number in 0..100_u32 {
        tx.send(&number.to_le_bytes()).await.expect("open");
        assert_eq!(rx.recv().await.expect("open"), number.to_le_bytes().as_slice());
    }
    (tx, rx)
}

/// Of wakers, callbacks and strategies.
#[test]
fn panics_of_all_kinds_are_counted_together() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("of a waker");
        }
    }
    impl SwitchStrategy for Panics {
        fn should_switch(&self, _: &ActiveSegment) -> bool {
            panic!("of a strategy");
        }
    }
    paused(async {
        let (tx, rx) = turbostream::channel();
        let waker = Waker::from(Arc::new(Panics));
        assert!(rx.poll_recv(&mut Context::from_waker(&waker)).is_pending());
        tx.try_send("wakes").expect("room");
        assert_eq!(rx.try_recv().expect("it is there"), "wakes");
        let callback = rx.on_message(|_| panic!("of a callback"));
        for _ in 0..2 {
            tx.try_send("calls").expect("room");
            settle().await;
        }
        let rx = callback.unregister().await;
        let stats = tx.monitor().stats();
        assert_eq!((stats.panics, stats.callback_panics), (3, 2));
        tx.set_strategy(Panics);
        tx.try_send("asks").expect("room");
        advance(ms(100)).await;
        assert!(tx.monitor().stats().panics > 3);
        drop(rx);
    });
}

#[test]
fn callbacks_that_panic_or_come_back_in() {
    for hook in [panics, everything] {
        paused(async move {
            let (tx, rx) = tiny().build().expect("valid");
            let hostile = Hostile::new(hook);
            hostile.hold(&tx, &rx);
            let called = Arc::clone(&hostile);
            let callback = rx.clone().on_message(move |_| called.act());
            for _ in 0..50 {
                tx.send("called").await.expect("open");
            }
            settle().await;
            let rx2 = callback.unregister().await;
            assert!(hostile.let_go() > 0);
            drop(rx2);
            still_works(&tx, &rx).await;
        });
    }
}

#[test]
fn closures_that_write() {
    plain(|| {
        let runtime = crate::common::multi_runtime();
        runtime.block_on(async {
            let (tx, rx) = tiny().build().expect("valid");
            let hostile = Hostile::new(everything);
            hostile.hold(&tx, &rx);
            for number in 0..200_usize {
                // Nothing behind it can be received before it returns, but all else can be done.
                let write = |buf: &mut [u8]| {
                    buf.fill(1);
                    hostile.act();
                    if number % 3 == 0 { buf.len() + 1 } else { buf.len() }
                };
                let sent = AssertUnwindSafe(tx.send_with(number % 300, write)).catch_unwind();
                let sent = tokio::time::timeout(ms(1), sent).await;
                assert!(sent.is_err() || sent.is_ok_and(|sent| sent.is_err() == (number % 3 == 0)));
                while rx.try_recv().is_ok() {}
            }
            assert!(hostile.let_go() > 0);
            works_as_before(tx, rx).await;
        });
    });
}

/// Always yes, never, never asked again, at once, and in a thousand years.
#[test]
fn strategies_that_know_only_one_answer() {
    struct Only(bool, SwitchLimits, Option<Duration>);
    impl SwitchStrategy for Only {
        fn should_switch(&self, _: &ActiveSegment) -> bool {
            self.0
        }
        fn limits(&self, _: &ActiveSegment) -> SwitchLimits {
            self.1
        }
        fn next_check(&self, _: &ActiveSegment) -> Option<Duration> {
            self.2
        }
    }
    let zero = SwitchLimits { messages: 0, bytes: 0 };
    for answer in [true, false] {
        for limits in [SwitchLimits::EVERY_MESSAGE, SwitchLimits::NEVER, zero] {
            for check in [None, Some(Duration::ZERO), Some(Duration::MAX)] {
                paused(async move {
                    let (tx, rx) = tiny().strategy(Only(answer, limits, check)).build().expect("valid");
                    for _ in 0..5 {
                        while tx.try_send("full").is_ok() {}
                        advance(ms(3)).await;
                    }
                    still_works(&tx, &rx).await;
                });
            }
        }
    }
}
