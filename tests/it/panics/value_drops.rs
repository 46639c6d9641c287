//! Strategies and recorders whose drops panic do not disturb the thread that drops the last reference.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::{PanicsOnDrop, drop_while_unwinding};
use crate::common::paused;
use turbostream::{ActiveSegment, MessageCount, Recorder, Sender, StatsDelta, SwitchLimits, SwitchStrategy};

struct PanickingStrategy(#[expect(dead_code, reason = "dropped")] PanicsOnDrop);

impl SwitchStrategy for PanickingStrategy {
    fn should_switch(&self, _: &ActiveSegment) -> bool {
        false
    }
}

struct PanickingRecorder(#[expect(dead_code, reason = "dropped")] PanicsOnDrop);

impl Recorder for PanickingRecorder {
    fn record(&self, _: &StatsDelta<'_>) {}
}

#[test]
fn last_handle_dropped_while_unwinding_drops_panicking_strategy_and_recorder() {
    paused(async {
        let drops = Arc::<AtomicUsize>::default();
        let value = || PanicsOnDrop(Arc::clone(&drops));
        let builder =
            turbostream::builder().strategy(PanickingStrategy(value())).recorder(PanickingRecorder(value()));
        let ends = builder.build().expect("valid");
        assert!(drop_while_unwinding(ends));
        assert_eq!(drops.load(Relaxed), 2);
    });
}

#[test]
fn swapped_strategy_that_panics_when_dropped_is_counted() {
    paused(async {
        let drops = Arc::<AtomicUsize>::default();
        let strategy = PanickingStrategy(PanicsOnDrop(Arc::clone(&drops)));
        let (tx, _rx) = turbostream::builder().strategy(strategy).build().expect("valid");
        tx.set_strategy(MessageCount(2));
        assert_eq!((drops.load(Relaxed), tx.monitor().stats().panics), (1, 1));
    });
}

/// Replaces itself while the channel asks it for limits: the asking thread then holds the last reference.
struct ReplacesItself {
    tx: Arc<Mutex<Option<Sender>>>,
    _panics: PanicsOnDrop,
}

impl SwitchStrategy for ReplacesItself {
    fn should_switch(&self, _: &ActiveSegment) -> bool {
        false
    }
    fn limits(&self, _: &ActiveSegment) -> SwitchLimits {
        let tx = self.tx.lock().expect("no panic").take();
        if let Some(tx) = tx {
            tx.set_strategy(MessageCount(2));
        }
        SwitchLimits::EVERY_MESSAGE
    }
}

#[test]
fn strategy_that_replaces_itself_and_panics_when_dropped_does_not_reach_sender() {
    paused(async {
        let (drops, slot) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Option<Sender>>>::default());
        let strategy = ReplacesItself { tx: Arc::clone(&slot), _panics: PanicsOnDrop(Arc::clone(&drops)) };
        let (tx, mut rx) = turbostream::builder().strategy(strategy).build().expect("valid");
        *slot.lock().expect("no panic") = Some(tx.clone());
        assert!(tx.try_send("asks the strategy").is_ok());
        assert_eq!((drops.load(Relaxed), tx.monitor().stats().panics), (1, 1));
        assert_eq!(rx.recv().await.expect("open"), "asks the strategy");
    });
}
