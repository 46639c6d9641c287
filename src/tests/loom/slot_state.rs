//! What words and entries hand over by themselves, without a channel around them.

use super::*;
use crate::queue::ring::SegmentRing;
use crate::queue::segment::slot_state::EntrySlot;
use crate::queue::segment::slot_state::{AtomicSlotState, Capacity, Phase, SlotState};
use crate::queue::segment::{ReadRange, Segment};
use crate::sync::{AtomicBool, Ordering};

const CAPACITY: Capacity = Capacity { messages: 2, bytes: 2 };
const FIRST: u64 = u64::MAX - 1;

/// The order of three segments, which has four slots.
fn ring() -> SegmentRing {
    let pending = SegmentRing::new(3, FIRST);
    pending.slot(FIRST);
    pending
}

/// The slot at `sequence` is opened with that segment, filled, and sealed.
fn go_through(pending: &SegmentRing, sequence: u64, segment: usize) {
    let slot = pending.slot(sequence);
    assert!(slot.open(sequence, segment));
    slot.reserve(1, CAPACITY).unwrap();
    assert!(slot.seal(|_| true).is_some());
}

#[test]
fn active_slot_was_retired_from_previous_lap() {
    explore_within(3, "active_slot_was_retired_from_previous_lap", || {
        let pending = Arc::new(ring());
        for segment in 0..3 {
            let sequence = FIRST.wrapping_add(segment as u64);
            go_through(&pending, sequence, segment);
            pending.advance(sequence);
        }
        let last = FIRST.wrapping_add(3);
        // As whoever reads the first segment and writes the fourth; both threads may move on from there.
        let going_round = thread::spawn({
            let pending = Arc::clone(&pending);
            move || {
                pending.retire(FIRST);
                go_through(&pending, last, 0);
                pending.advance(last);
            }
        });
        let touching = thread::spawn({
            let pending = Arc::clone(&pending);
            move || {
                if pending.slot(last).fence_rmw().phase() == Phase::Sealed {
                    pending.advance(last);
                }
            }
        });
        let next_lap = FIRST.wrapping_add(4);
        if pending.active() == next_lap {
            let state = pending.slot(next_lap).load();
            assert!(state.is_ready_for(next_lap), "{state:?} is of the last lap");
        }
        going_round.join().unwrap();
        touching.join().unwrap();
    });
}

#[test]
fn load_of_retired_slot_acquires_advance() {
    explore_within(3, "load_of_retired_slot_acquires_advance", || {
        let pending = Arc::new(ring());
        go_through(&pending, FIRST, 0);
        let reader = thread::spawn({
            let pending = Arc::clone(&pending);
            move || {
                pending.advance(FIRST);
                pending.retire(FIRST);
            }
        });
        if pending.slot(FIRST).load().phase() == Phase::Ready {
            assert_ne!(pending.active(), FIRST, "a late writer looks for it again and again");
        }
        reader.join().unwrap();
    });
}

#[test]
fn seal_after_fence_rmw_acquires_prior_writes() {
    explore_within(3, "seal_after_fence_rmw_acquires_prior_writes", || {
        let word = Arc::new(AtomicSlotState::new(SlotState::ready(0)));
        assert!(word.open(0, 0));
        word.reserve(1, CAPACITY).unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let touching = thread::spawn({
            let (word, done) = (Arc::clone(&word), Arc::clone(&done));
            move || {
                done.store(true, Ordering::Relaxed);
                word.fence_rmw().is_open()
            }
        });
        assert!(word.seal(|_| true).is_some());
        let seen = done.load(Ordering::Relaxed);
        assert!(seen || !touching.join().unwrap(), "it was open when it was touched");
    });
}

#[test]
fn cut_of_sealed_segment_acquires_prior_writes() {
    explore_within(3, "cut_of_sealed_segment_acquires_prior_writes", || {
        let pending = Arc::new(ring());
        let slot = pending.slot(FIRST);
        assert!(slot.open(FIRST, 0));
        slot.reserve(1, CAPACITY).unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let touching = thread::spawn({
            let (pending, done) = (Arc::clone(&pending), Arc::clone(&done));
            move || {
                done.store(true, Ordering::Relaxed);
                pending.slot(FIRST).fence_rmw().is_open()
            }
        });
        let sealing = thread::spawn({
            let pending = Arc::clone(&pending);
            move || assert!(pending.slot(FIRST).seal(|_| true).is_some())
        });
        let coming = thread::spawn({
            let (pending, done) = (Arc::clone(&pending), Arc::clone(&done));
            move || pending.active() == FIRST || done.load(Ordering::Relaxed)
        });
        if !slot.cut().is_open() {
            pending.advance(FIRST);
        }
        sealing.join().unwrap();
        let touched_open = touching.join().unwrap();
        assert!(
            coming.join().unwrap() || !touched_open,
            "what was done before the seal is not seen behind it"
        );
    });
}

/// Waits for the commit of the next message; goes on to the one behind it where it is there.
fn await_commits(claim: &Mutex<ReadRange<Arc<Segment>>>) {
    let mut claim = claim.lock().unwrap();
    while claim.remaining() > 0 {
        if claim.advance_committed() > 0 {
            claim.advance();
        } else if claim.set_commit_waiter() {
            return;
        }
    }
}

#[test]
fn commit_with_waiter_bit_acquires_prior_writes() {
    explore_within(3, "commit_with_waiter_bit_acquires_prior_writes", || {
        let segment = Arc::new(Segment::new());
        let mut memory = segment.exclusive().unwrap();
        memory.allocate(CAPACITY);
        memory.activate();
        let word = AtomicSlotState::new(SlotState::ready(0));
        assert!(word.open(0, 0));
        let [first, second] = [(); 2].map(|()| word.reserve(1, CAPACITY).unwrap());
        let mut claim = ReadRange::new(Arc::clone(&segment));
        claim.extend(2);
        let (claim, left) = (Arc::new(Mutex::new(claim)), Arc::new(AtomicBool::new(false)));
        // As a writer does when it finds that the last receiver has left: it takes what is there, and awaits the rest.
        let write = |slot: EntrySlot| {
            let (segment, claim, left) = (Arc::clone(&segment), Arc::clone(&claim), Arc::clone(&left));
            move || {
                if segment.write(&slot, b"1") {
                    assert!(left.load(Ordering::Relaxed), "it is awaited");
                    await_commits(&claim);
                }
            }
        };
        let one = thread::spawn(write(first));
        let two = thread::spawn(write(second));
        left.store(true, Ordering::Relaxed);
        await_commits(&claim);
        one.join().unwrap();
        two.join().unwrap();
        assert_eq!(claim.lock().unwrap().remaining(), 0, "nobody takes it");
    });
}
