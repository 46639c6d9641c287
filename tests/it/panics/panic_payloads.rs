//! A panic whose payload panics when it is dropped is contained like any other panic of user code.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use super::{contain_nested, drop_while_unwinding, panic_nested};
use crate::common::{paused, settle};
use turbostream::{ActiveSegment, StatsDelta, SwitchLimits, SwitchStrategy};

struct PanickingWaker;

impl Wake for PanickingWaker {
    fn wake(self: Arc<Self>) {
        panic_nested();
    }
}

/// Polls a future once, with a waker that panics.
fn register<F: Future>(future: Pin<&mut F>) {
    let waker = Waker::from(Arc::new(PanickingWaker));
    assert!(future.poll(&mut Context::from_waker(&waker)).is_pending());
}

#[test]
fn nested_panic_of_receiver_waker_does_not_reach_sender() {
    paused(contain_nested(async {
        let (tx, mut rx) = turbostream::channel();
        let mut recv = Box::pin(rx.recv());
        register(recv.as_mut());
        assert!(tx.try_send("wakes").is_ok());
        drop(recv);
        assert_eq!(tx.monitor().stats().panics, 1);
        assert_eq!(rx.try_recv().expect("a queued message"), "wakes");
    }));
}

#[test]
fn nested_panic_of_next_waker_does_not_reach_dropped_waiter() {
    paused(contain_nested(async {
        let (tx, mut rx) = turbostream::channel();
        let mut other = rx.clone();
        let (mut first, mut second) = (Box::pin(rx.recv()), Box::pin(other.recv()));
        assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        register(second.as_mut());
        tx.try_send("wakes the first receiver").expect("room");
        assert!(drop_while_unwinding(first), "the drop passes the wake on to the second receiver");
        drop(second);
        assert_eq!(rx.try_recv().expect("a queued message"), "wakes the first receiver");
    }));
}

#[test]
fn nested_panic_of_recorder_leaves_flush_working() {
    paused(contain_nested(async {
        let recorder = |_: &StatsDelta<'_>| panic_nested();
        let builder = turbostream::builder().recorder(recorder).report_interval(Duration::from_secs(3600));
        let (tx, _rx) = builder.build().expect("valid");
        let monitor = tx.monitor();
        monitor.flush();
        tx.try_send("changes the statistics").expect("room");
        let other = monitor.clone();
        thread::spawn(move || other.flush()).join().expect("a flush by another thread ends");
        assert_eq!(monitor.stats().panics, 2);
    }));
}

#[test]
fn nested_panic_of_strategy_does_not_reach_sender() {
    struct Panics;
    impl SwitchStrategy for Panics {
        fn should_switch(&self, _: &ActiveSegment) -> bool {
            panic_nested();
        }
        fn limits(&self, _: &ActiveSegment) -> SwitchLimits {
            SwitchLimits::EVERY_MESSAGE
        }
    }
    paused(contain_nested(async {
        let (tx, mut rx) = turbostream::builder().strategy(Panics).build().expect("valid");
        assert!(tx.try_send("calls the strategy").is_ok());
        assert!(tx.monitor().stats().panics > 0);
        assert_eq!(rx.recv().await.expect("open"), "calls the strategy");
    }));
}

#[test]
fn nested_panic_of_callback_leaves_it_registered() {
    paused(contain_nested(async {
        let (tx, rx) = turbostream::channel();
        let callback = rx.on_message(|_| panic_nested());
        for _ in 0..2 {
            tx.send("calls").await.expect("open");
            settle().await;
        }
        assert_eq!(tx.monitor().stats().callback_panics, 2);
        let mut rx = callback.unregister().await;
        tx.send("received").await.expect("open");
        assert_eq!(rx.recv().await.expect("open"), "received");
    }));
}
