//! `WakeFlag`: threads that signal the background task, and the task's checks.

use std::time::Duration;

use super::*;
use crate::sync::{AtomicBool, Ordering, fence};
use crate::wait::task_signal::{WakeFlag, watch};

/// Whether the task stays awake: its last check sees all `changes`.
fn stays_awake(flag: &WakeFlag, changes: &[AtomicBool]) -> bool {
    let check = || changes.iter().all(|change| change.load(Ordering::Relaxed)).then_some(Duration::ZERO);
    watch(flag, check).is_some()
}

#[test]
fn set_during_clear_notifies_or_is_seen() {
    explore_within(3, "set_during_clear_notifies_or_is_seen", || {
        let flag = Arc::new(WakeFlag::default());
        assert!(flag.set());
        let changes = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
        let signalling = [0, 1].map(|one| {
            let (flag, changes) = (Arc::clone(&flag), Arc::clone(&changes));
            thread::spawn(move || {
                changes[one].store(true, Ordering::Relaxed);
                flag.set()
            })
        });
        let stays_awake = stays_awake(&flag, &*changes);
        let notified = signalling.map(|thread| thread.join().unwrap()).contains(&true);
        assert!(stays_awake || notified, "the task sleeps and misses a change");
    });
}

#[test]
fn set_after_fence_during_clear_notifies_or_is_seen() {
    explore_within(3, "set_after_fence_during_clear_notifies_or_is_seen", || {
        let flag = Arc::new(WakeFlag::default());
        assert!(flag.set());
        let changes = Arc::new([AtomicBool::new(false)]);
        let signalling = thread::spawn({
            let (flag, changes) = (Arc::clone(&flag), Arc::clone(&changes));
            move || {
                changes[0].store(true, Ordering::Relaxed);
                fence(Ordering::SeqCst);
                flag.set_after_fence()
            }
        });
        let stays_awake = stays_awake(&flag, &*changes);
        let notified = signalling.join().unwrap();
        assert!(stays_awake || notified, "the task sleeps and misses a change");
    });
}

/// Runs the loop of the task while two threads signal changes. The task takes each change that it finds.
///
/// With `checks_flag` it runs a check only if the flag is set.
fn run_task_loop(checks_flag: bool) -> impl Fn() + Send + Sync + 'static {
    move || {
        let flag = Arc::new(WakeFlag::default());
        let changes = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
        let permit = Arc::new(AtomicBool::new(false));
        let signalling = [0, 1].map(|one| {
            let (flag, changes, permit) = (Arc::clone(&flag), Arc::clone(&changes), Arc::clone(&permit));
            thread::spawn(move || {
                changes[one].store(true, Ordering::Relaxed);
                if flag.set() {
                    permit.swap(true, Ordering::AcqRel);
                }
            })
        });
        let take =
            |change: &AtomicBool| change.load(Ordering::Relaxed) && change.swap(false, Ordering::Relaxed);
        let check = || changes.iter().map(take).fold(false, |a, b| a | b).then_some(Duration::ZERO);
        let mut asleep = false;
        for _ in 0..3 {
            permit.swap(false, Ordering::Acquire);
            asleep = if checks_flag {
                flag.is_set().then(|| watch(&flag, check)).flatten().is_none()
            } else {
                watch(&flag, check).is_none()
            };
        }
        signalling.into_iter().for_each(|thread| thread.join().unwrap());
        // An exchange: loom may let a load read a value that an exchange has replaced.
        let notified = permit.swap(false, Ordering::Relaxed);
        let left = changes.iter().any(|change| change.load(Ordering::Relaxed));
        assert!(!left || notified || !asleep, "the task sleeps and misses a change");
    }
}

#[test]
fn task_loop_misses_no_change() {
    explore_within(3, "task_loop_misses_no_change", run_task_loop(false));
}

#[test]
fn task_loop_with_is_set_check_misses_no_change() {
    explore_within(3, "task_loop_with_is_set_check_misses_no_change", run_task_loop(true));
}
