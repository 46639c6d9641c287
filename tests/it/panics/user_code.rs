//! User code that panics, reenters the channel or returns nonsense is contained; the channel keeps working.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use crate::common::{advance, ms, paused, plain, settle};
use bytes::Bytes;
use futures::FutureExt;
use turbostream::{
    ActiveSegment, Builder, MessageCount, ReadMode, Receiver, Sender, SwitchLimits, SwitchStrategy, WhenFull,
};

type Hook = Box<dyn Fn(&Sender, &Receiver) + Send + Sync>;

/// User code that holds both ends of its own channel and runs a hook on every call.
struct HookedCode {
    ends: Mutex<Option<(Sender, Receiver)>>,
    calls: AtomicUsize,
    hook: Hook,
}

impl HookedCode {
    fn new(hook: impl Fn(&Sender, &Receiver) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { ends: Mutex::new(None), calls: AtomicUsize::new(0), hook: Box::new(hook) })
    }

    fn attach(&self, tx: &Sender, rx: &Receiver) {
        *self.ends.lock().unwrap() = Some((tx.clone(), rx.clone()));
    }

    fn call(&self) {
        let depth = self.calls.fetch_add(1, Relaxed);
        // Runs the hook without holding this lock, and bounds the recursion.
        let ends = self.ends.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        if let (Some((tx, rx)), true) = (ends, depth < 1000) {
            (self.hook)(&tx, &rx);
        }
    }

    fn detach(&self) -> usize {
        self.ends.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        self.calls.load(Relaxed)
    }
}

impl Wake for HookedCode {
    fn wake(self: Arc<Self>) {
        self.call();
    }
}

impl SwitchStrategy for HookedCode {
    fn should_switch(&self, _: &ActiveSegment) -> bool {
        self.call();
        true
    }
}

/// A strategy that shares its hook with the test.
struct HookStrategy(Arc<HookedCode>);

impl SwitchStrategy for HookStrategy {
    fn should_switch(&self, active: &ActiveSegment) -> bool {
        self.0.should_switch(active)
    }
    fn limits(&self, active: &ActiveSegment) -> SwitchLimits {
        self.0.call();
        SwitchStrategy::limits(&*self.0, active)
    }
    fn next_check(&self, active: &ActiveSegment) -> Option<Duration> {
        self.0.call();
        SwitchStrategy::next_check(&*self.0, active)
    }
}

/// An external payload whose drop runs the hook.
struct Payload(Arc<HookedCode>, Vec<u8>);

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        &self.1
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        self.0.call();
    }
}

fn payload(code: &Arc<HookedCode>) -> Bytes {
    Bytes::from_owner(Payload(Arc::clone(code), vec![7; 200]))
}

/// Four segments of two messages and 64 bytes; a payload of 200 bytes is external.
fn tiny() -> Builder {
    let one = 64 + 2 * 8 + 128;
    turbostream::builder().segment_bytes(64).segment_messages(2).max_bytes(4 * one).max_message_bytes(400)
}

/// Calls every operation of the channel without waiting.
fn use_every_operation(tx: &Sender, rx: &Receiver) {
    let mut rx = rx.clone();
    drop(tx.try_send("reentrant"));
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

fn panic_on_purpose(_: &Sender, _: &Receiver) {
    std::panic::panic_any("on purpose");
}

/// Asserts that the channel works: messages pass, and waiting receivers and senders are woken.
async fn assert_works_with_waiters(tx: &Sender, rx: &mut Receiver) {
    while rx.try_recv().is_ok() {}
    tx.set_strategy(MessageCount(1));
    let mut other = rx.clone();
    let waiting = tokio::spawn(async move { other.recv().await });
    settle().await;
    tx.send("to a waiting receiver").await.expect("open");
    settle().await;
    assert_eq!(waiting.await.expect("no panic").expect("open"), "to a waiting receiver");
    while tx.try_send("full").is_ok() {}
    let other = tx.clone();
    let waiting =
        tokio::spawn(async move { other.send_timeout("from a waiting sender", ms(1000)).await.is_ok() });
    settle().await;
    let mut last = Bytes::new();
    while let Ok(Some(message)) = tokio::time::timeout(ms(100), rx.recv()).await {
        last = message;
    }
    assert!(waiting.await.expect("no panic"));
    assert_eq!(last, "from a waiting sender");
    let stats = tx.monitor().stats();
    assert_eq!((stats.queued_messages, stats.waiting_senders, stats.waiting_receivers), (0, 0, 0));
}

/// Polls once with a waker that runs the hook.
fn poll_with_hook<F: Future>(future: Pin<&mut F>, code: &Arc<HookedCode>) -> bool {
    let waker = Waker::from(Arc::clone(code));
    future.poll(&mut Context::from_waker(&waker)).is_ready()
}

#[test]
fn receiver_wakers_may_panic_or_reenter() {
    for hook in [panic_on_purpose, use_every_operation] {
        paused(async move {
            // Room for what the hook of each woken receiver sends.
            let (tx, mut rx) = tiny().max_bytes(1 << 14).build().expect("valid");
            let code = HookedCode::new(hook);
            code.attach(&tx, &rx);
            let mut other = rx.clone();
            for round in 0..20 {
                let mut waiting = (Box::pin(rx.recv()), Box::pin(other.recv_batch(3)));
                assert!(!poll_with_hook(waiting.0.as_mut(), &code));
                assert!(!poll_with_hook(waiting.1.as_mut(), &code));
                match round % 3 {
                    0 => tx.try_send("wakes").expect("room"),
                    1 => tx.try_send(vec![1; 100]).expect("room"),
                    _ => assert_eq!(tx.send_many(["1", "2"]).await.expect("open"), 2),
                }
                drop(waiting);
                while rx.try_recv().is_ok() {}
            }
            assert!(code.detach() >= 20);
            assert_works_with_waiters(&tx, &mut rx).await;
        });
    }
}

#[test]
fn sender_wakers_may_panic_or_reenter() {
    for hook in [panic_on_purpose, use_every_operation] {
        paused(async move {
            let (tx, mut rx) = tiny().read_mode(ReadMode::ZeroCopy).build().expect("valid");
            let code = HookedCode::new(hook);
            code.attach(&tx, &rx);
            for _ in 0..20 {
                while tx.try_send("before").is_ok() {}
                let mut waiting =
                    (Box::pin(tx.send("1")), Box::pin(tx.send(vec![1; 300])), Box::pin(tx.drained()));
                assert!(!poll_with_hook(waiting.0.as_mut(), &code));
                assert!(!poll_with_hook(waiting.1.as_mut(), &code));
                assert!(!poll_with_hook(waiting.2.as_mut(), &code));
                while rx.try_recv().is_ok() {}
                drop(waiting);
                while rx.try_recv().is_ok() {}
            }
            assert!(code.detach() >= 20);
            assert_works_with_waiters(&tx, &mut rx).await;
        });
    }
}

#[test]
fn wakers_may_panic_or_reenter_during_close() {
    for hook in [panic_on_purpose, use_every_operation] {
        paused(async move {
            let (tx, rx) = tiny().build().expect("valid");
            let code = HookedCode::new(hook);
            code.attach(&tx, &rx);
            let mut first = rx.clone();
            let (mut closed, mut recv) = (Box::pin(tx.closed()), Box::pin(first.recv()));
            assert!(!poll_with_hook(closed.as_mut(), &code) && !poll_with_hook(recv.as_mut(), &code));
            let mut other = rx.clone();
            let waiting = tokio::spawn(async move { other.recv().await });
            settle().await;
            rx.close();
            assert_eq!(waiting.await.expect("no panic"), None);
            assert!(code.detach() >= 2);
            assert!(tx.try_send("closed").is_err() && closed.now_or_never().is_some());
        });
    }
}

#[test]
fn strategies_may_panic_or_reenter() {
    for hook in [panic_on_purpose, use_every_operation] {
        for on_demand in [true, false] {
            paused(async move {
                let code = HookedCode::new(hook);
                let strategy = HookStrategy(Arc::clone(&code));
                let (tx, mut rx) = tiny().on_demand(on_demand).strategy(strategy).build().expect("valid");
                code.attach(&tx, &rx);
                for _ in 0..50 {
                    drop(tx.try_send("calls the strategy"));
                    drop(tx.try_send(vec![1; 100]));
                    advance(ms(2)).await;
                    while rx.try_recv().is_ok() {}
                }
                assert!(code.detach() > 0);
                assert_works_with_waiters(&tx, &mut rx).await;
            });
        }
    }
}

/// The channel drops the last reference to a payload: by drop policy, with a batch, or with the last receiver.
#[test]
fn payload_drops_may_panic_or_reenter() {
    for hook in [panic_on_purpose, use_every_operation] {
        for when_full in [WhenFull::DropNewest, WhenFull::DropOldest, WhenFull::Reject] {
            paused(async move {
                let (tx, mut rx) = tiny().when_full(when_full).build().expect("valid");
                let code = HookedCode::new(hook);
                code.attach(&tx, &rx);
                for _ in 0..20 {
                    // If the caller drops the payload, the panic reaches the caller.
                    let _ = catch_unwind(AssertUnwindSafe(|| drop(tx.try_send(payload(&code)))));
                    let _ = catch_unwind(AssertUnwindSafe(|| {
                        drop(tx.send_many([payload(&code)]).now_or_never())
                    }));
                }
                let batch = rx.recv_batch(5).now_or_never().flatten();
                let _ = catch_unwind(AssertUnwindSafe(|| drop(batch)));
                while let Ok(message) = rx.try_recv() {
                    let _ = catch_unwind(AssertUnwindSafe(|| drop(message)));
                }
                assert!(code.detach() >= 20, "{when_full:?}");
                let (tx, rx) = assert_works(tx, rx).await;
                drop(tx.try_send(payload(&code)));
                let monitor = tx.monitor();
                drop(rx);
                let stats = monitor.stats();
                assert_eq!((stats.queued_messages, stats.memory_bytes()), (0, 0), "{stats:?}");
            });
        }
    }
}

/// Asserts that messages pass while no sender waits for room.
async fn assert_works(tx: Sender, mut rx: Receiver) -> (Sender, Receiver) {
    while rx.try_recv().is_ok() {}
    for number in 0..100_u32 {
        tx.send(&number.to_le_bytes()).await.expect("open");
        assert_eq!(rx.recv().await.expect("open"), number.to_le_bytes().as_slice());
    }
    (tx, rx)
}

#[test]
fn panics_of_wakers_callbacks_and_strategies_are_counted_together() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("in a waker");
        }
    }
    impl SwitchStrategy for Panics {
        fn should_switch(&self, _: &ActiveSegment) -> bool {
            panic!("in a strategy");
        }
    }
    paused(async {
        let (tx, mut rx) = turbostream::channel();
        let waker = Waker::from(Arc::new(Panics));
        assert!(rx.poll_recv(&mut Context::from_waker(&waker)).is_pending());
        tx.try_send("wakes").expect("room");
        assert_eq!(rx.try_recv().expect("a queued message"), "wakes");
        let callback = rx.on_message(|_| panic!("in a callback"));
        for _ in 0..2 {
            tx.try_send("calls").expect("room");
            settle().await;
        }
        let rx = callback.unregister().await;
        let stats = tx.monitor().stats();
        assert_eq!((stats.panics, stats.callback_panics), (3, 2));
        tx.set_strategy(Panics);
        tx.try_send("calls the strategy").expect("room");
        advance(ms(100)).await;
        assert!(tx.monitor().stats().panics > 3);
        drop(rx);
    });
}

#[test]
fn callbacks_may_panic_or_reenter() {
    for hook in [panic_on_purpose, use_every_operation] {
        paused(async move {
            let (tx, mut rx) = tiny().build().expect("valid");
            let code = HookedCode::new(hook);
            code.attach(&tx, &rx);
            let called = Arc::clone(&code);
            let callback = rx.clone().on_message(move |_| called.call());
            for _ in 0..50 {
                tx.send("called").await.expect("open");
            }
            settle().await;
            let rx2 = callback.unregister().await;
            assert!(code.detach() > 0);
            drop(rx2);
            assert_works_with_waiters(&tx, &mut rx).await;
        });
    }
}

#[test]
fn write_closures_may_reenter_and_overstate_their_length() {
    plain(|| {
        let runtime = crate::common::multi_runtime();
        runtime.block_on(async {
            let (tx, mut rx) = tiny().build().expect("valid");
            let code = HookedCode::new(use_every_operation);
            code.attach(&tx, &rx);
            for number in 0..200_usize {
                // Later messages cannot be received before the closure returns; everything else works.
                let write = |buf: &mut [u8]| {
                    buf.fill(1);
                    code.call();
                    if number % 3 == 0 { buf.len() + 1 } else { buf.len() }
                };
                let sent = AssertUnwindSafe(tx.send_with(number % 300, write)).catch_unwind();
                let sent = tokio::time::timeout(ms(1), sent).await;
                assert!(sent.is_err() || sent.is_ok_and(|sent| sent.is_err() == (number % 3 == 0)));
                while rx.try_recv().is_ok() {}
            }
            assert!(code.detach() > 0);
            assert_works(tx, rx).await;
        });
    });
}

/// Always or never switches; next check never, immediately, or in the far future.
#[test]
fn strategies_with_constant_answers_keep_the_channel_working() {
    struct Constant(bool, SwitchLimits, Option<Duration>);
    impl SwitchStrategy for Constant {
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
                    let (tx, mut rx) =
                        tiny().strategy(Constant(answer, limits, check)).build().expect("valid");
                    for _ in 0..5 {
                        while tx.try_send("full").is_ok() {}
                        advance(ms(3)).await;
                    }
                    assert_works_with_waiters(&tx, &mut rx).await;
                });
            }
        }
    }
}
