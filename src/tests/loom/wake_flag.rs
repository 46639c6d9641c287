//! Between those who give the channel's task a reason to look and the task, without a channel around them.

use std::time::Duration;

use super::*;
use crate::sync::{AtomicBool, Ordering, fence};
use crate::wait::task_signal::{BackoffFlag, WakeFlag, watch};
use crate::wait::wait_list::PollWaiter;

/// Whether the task goes on to look after what may be `there`.
fn looks_on(reason: &WakeFlag, there: &[AtomicBool]) -> bool {
    let look = || there.iter().all(|one| one.load(Ordering::Relaxed)).then_some(Duration::ZERO);
    watch(reason, look).is_some()
}

#[test]
fn set_during_clear_notifies_or_is_seen() {
    explore_within(3, "set_during_clear_notifies_or_is_seen", || {
        let reason = Arc::new(WakeFlag::default());
        assert!(reason.set());
        let there = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
        let raising = [0, 1].map(|one| {
            let (reason, there) = (Arc::clone(&reason), Arc::clone(&there));
            thread::spawn(move || {
                there[one].store(true, Ordering::Relaxed);
                reason.set()
            })
        });
        let looks_on = looks_on(&reason, &*there);
        let notified = raising.map(|thread| thread.join().unwrap()).contains(&true);
        assert!(looks_on || notified, "nobody looks after what is there");
    });
}

#[test]
fn set_after_fence_during_clear_notifies_or_is_seen() {
    explore_within(3, "set_after_fence_during_clear_notifies_or_is_seen", || {
        let reason = Arc::new(WakeFlag::default());
        assert!(reason.set());
        let there = Arc::new([AtomicBool::new(false)]);
        let raising = thread::spawn({
            let (reason, there) = (Arc::clone(&reason), Arc::clone(&there));
            move || {
                there[0].store(true, Ordering::Relaxed);
                fence(Ordering::SeqCst);
                reason.set_after_fence()
            }
        });
        let looks_on = looks_on(&reason, &*there);
        let notified = raising.join().unwrap();
        assert!(looks_on || notified, "nobody looks after what is there");
    });
}

/// The task's loop, around a reason that two others raise. What it finds it takes, so that it looks on as long as there is
/// something.
fn nobody_is_missed(is_raised_first: bool) -> impl Fn() + Send + Sync + 'static {
    move || {
        let reason = Arc::new(WakeFlag::default());
        let there = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
        let permit = Arc::new(AtomicBool::new(false));
        let raising = [0, 1].map(|one| {
            let (reason, there, permit) = (Arc::clone(&reason), Arc::clone(&there), Arc::clone(&permit));
            thread::spawn(move || {
                there[one].store(true, Ordering::Relaxed);
                if reason.set() {
                    permit.swap(true, Ordering::AcqRel);
                }
            })
        });
        let take = |one: &AtomicBool| one.load(Ordering::Relaxed) && one.swap(false, Ordering::Relaxed);
        let look = || there.iter().map(take).fold(false, |a, b| a | b).then_some(Duration::ZERO);
        let mut asleep = false;
        for _ in 0..3 {
            permit.swap(false, Ordering::Acquire);
            asleep = if is_raised_first {
                reason.is_set().then(|| watch(&reason, look)).flatten().is_none()
            } else {
                watch(&reason, look).is_none()
            };
        }
        raising.into_iter().for_each(|thread| thread.join().unwrap());
        // An exchange: loom lets a load find what an exchange has read over.
        let notified = permit.swap(false, Ordering::Relaxed);
        let left = there.iter().any(|one| one.load(Ordering::Relaxed));
        assert!(!left || notified || !asleep, "something is there, and the task sleeps");
    }
}

#[test]
fn task_loop_misses_no_change() {
    explore_within(3, "task_loop_misses_no_change", nobody_is_missed(false));
}

#[test]
fn task_loop_with_is_set_check_misses_no_change() {
    explore_within(3, "task_loop_with_is_set_check_misses_no_change", nobody_is_missed(true));
}

/// What the task does once it has found somebody passed over, while one leaves, so that nobody is, and another comes.
#[test]
fn new_waiter_during_backoff_is_woken_or_notifies() {
    explore_within(3, "new_waiter_during_backoff_is_woken_or_notifies", || {
        let (tx, _rx) = open(small(2));
        let resigned = Arc::new(BackoffFlag::default());
        let space = |tx: &Sender, waiter: &mut PollWaiter| {
            let waker = noop_waker();
            let mut cx = Context::from_waker(&waker);
            tx.core().queue.pool.room_waiters.poll_wait(waiter, &mut cx, |_| None::<()>).is_ready()
        };
        let (mut first, mut second) = (PollWaiter::default(), PollWaiter::default());
        space(&tx, &mut first);
        space(&tx, &mut second);
        assert!(tx.core().has_stuck_waiters());
        let coming = thread::spawn({
            let (tx, resigned) = (tx.clone(), Arc::clone(&resigned));
            move || {
                second.deregister(&tx.core().queue.pool.room_waiters);
                let (woken, waker) = counting_waker();
                let mut third = PollWaiter::default();
                let mut cx = Context::from_waker(&waker);
                let refused = |_| None::<()>;
                let _ = tx.core().queue.pool.room_waiters.poll_wait(&mut third, &mut cx, refused);
                // As `TaskSignal::waiters`, where `waiters` is raised already.
                let notified = resigned.reset();
                (third, woken, notified)
            }
        });
        resigned.set(true);
        tx.core().wake_stuck_waiters();
        let (mut third, woken, notified) = coming.join().unwrap();
        let woken = woken.0.load(Relaxed) > 0;
        third.deregister(&tx.core().queue.pool.room_waiters);
        first.deregister(&tx.core().queue.pool.room_waiters);
        assert!(woken || notified, "whoever came waits as long as those whose wakes were in vain");
    });
}

struct Wakes(AtomicUsize);

impl std::task::Wake for Wakes {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

fn counting_waker() -> (std::sync::Arc<Wakes>, std::task::Waker) {
    let wakes = std::sync::Arc::new(Wakes(AtomicUsize::new(0)));
    (std::sync::Arc::clone(&wakes), std::task::Waker::from(wakes))
}
