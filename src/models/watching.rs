//! Between those who give the channel's task a reason to look and the task, without a channel around them.

use std::time::Duration;

use super::*;
use crate::reason::{Reason, Resignation, watch};
use crate::sync::{AtomicBool, Ordering, fence};

/// Whether the task goes on to look after what may be `there`.
fn looks_on(reason: &Reason, there: &[AtomicBool]) -> bool {
    let look = || there.iter().all(|one| one.load(Ordering::Relaxed)).then_some(Duration::ZERO);
    watch(reason, look).is_some()
}

#[test]
fn a_reason_is_raised_as_the_task_goes_to_sleep() {
    explore_within(3, "a_reason_is_raised_as_the_task_goes_to_sleep", || {
        let reason = Arc::new(Reason::default());
        assert!(reason.raise());
        let there = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
        let raising = [0, 1].map(|one| {
            let (reason, there) = (Arc::clone(&reason), Arc::clone(&there));
            thread::spawn(move || {
                there[one].store(true, Ordering::Relaxed);
                reason.raise()
            })
        });
        let looks_on = looks_on(&reason, &*there);
        let notified = raising.map(|thread| thread.join().unwrap()).contains(&true);
        assert!(looks_on || notified, "nobody looks after what is there");
    });
}

#[test]
fn a_reason_is_raised_behind_a_fence_as_the_task_goes_to_sleep() {
    explore_within(3, "a_reason_is_raised_behind_a_fence_as_the_task_goes_to_sleep", || {
        let reason = Arc::new(Reason::default());
        assert!(reason.raise());
        let there = Arc::new([AtomicBool::new(false)]);
        let raising = thread::spawn({
            let (reason, there) = (Arc::clone(&reason), Arc::clone(&there));
            move || {
                there[0].store(true, Ordering::Relaxed);
                fence(Ordering::SeqCst);
                reason.raise_behind_fence()
            }
        });
        let looks_on = looks_on(&reason, &*there);
        let notified = raising.join().unwrap();
        assert!(looks_on || notified, "nobody looks after what is there");
    });
}

#[test]
fn somebody_comes_as_the_task_resigns() {
    explore_within(3, "somebody_comes_as_the_task_resigns", || {
        let resigned = Arc::new(Resignation::default());
        let waits = Arc::new(AtomicBool::new(false));
        let coming = thread::spawn({
            let (resigned, waits) = (Arc::clone(&resigned), Arc::clone(&waits));
            move || {
                waits.store(true, Ordering::Relaxed);
                fence(Ordering::SeqCst);
                resigned.take_back()
            }
        });
        resigned.set(true);
        // As a wake of all who wait.
        fence(Ordering::SeqCst);
        let seen = waits.load(Ordering::Relaxed);
        let notified = coming.join().unwrap();
        assert!(seen || notified, "it waits as long as those whose wakes were in vain");
        assert!(!notified || !resigned.is_set());
    });
}
