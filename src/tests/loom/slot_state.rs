//! Ring slots and entries by themselves, without a channel around them.

use super::*;
use crate::queue::ring::SegmentRing;
use crate::queue::segment::reference::CHANNEL_REFERENCES;
use crate::queue::segment::slot_state::{AtomicSlotState, Capacities, Capacity, Phase, SlotState};
use crate::queue::segment::{ReadRange, Segment};
use crate::sync::{AtomicBool, Ordering};

const CAPACITY: Capacity = Capacity { messages: 2, bytes: 2 };
const FIRST: u64 = u64::MAX - 1;

/// A ring for three segments, with four slots.
fn new_ring() -> SegmentRing {
    let ring = SegmentRing::new(3, FIRST);
    ring.slot(FIRST);
    ring
}

/// Opens the slot at `sequence` with that segment and a message, and seals it.
fn open_and_seal(ring: &SegmentRing, sequence: u64, segment: usize) {
    let slot = ring.slot(sequence);
    slot.open(sequence, segment, 1).unwrap();
    assert!(slot.seal(|_| true).is_some());
}

#[test]
fn active_slot_was_retired_from_previous_lap() {
    explore_within(3, "active_slot_was_retired_from_previous_lap", || {
        let ring = Arc::new(new_ring());
        for segment in 0..3 {
            let sequence = FIRST.wrapping_add(segment as u64);
            open_and_seal(&ring, sequence, segment);
            ring.advance(sequence);
        }
        let last = FIRST.wrapping_add(3);
        // A receiver of the first segment that also sends the fourth. Both threads may advance from there.
        let wrapping = thread::spawn({
            let ring = Arc::clone(&ring);
            move || {
                ring.retire(FIRST);
                open_and_seal(&ring, last, 0);
                ring.advance(last);
            }
        });
        let fencing = thread::spawn({
            let ring = Arc::clone(&ring);
            move || {
                if ring.slot(last).fence_rmw().phase() == Phase::Sealed {
                    ring.advance(last);
                }
            }
        });
        let next_lap = FIRST.wrapping_add(4);
        if ring.active() == next_lap {
            let state = ring.slot(next_lap).load();
            assert!(state.is_ready_for(next_lap), "{state:?} is of the previous lap");
        }
        wrapping.join().unwrap();
        fencing.join().unwrap();
    });
}

#[test]
fn load_of_retired_slot_acquires_advance() {
    explore_within(3, "load_of_retired_slot_acquires_advance", || {
        let ring = Arc::new(new_ring());
        open_and_seal(&ring, FIRST, 0);
        let receiver = thread::spawn({
            let ring = Arc::clone(&ring);
            move || {
                ring.advance(FIRST);
                ring.retire(FIRST);
            }
        });
        if ring.slot(FIRST).load().phase() == Phase::Ready {
            assert_ne!(ring.active(), FIRST, "a late sender would retry forever");
        }
        receiver.join().unwrap();
    });
}

#[test]
fn seal_after_fence_rmw_acquires_prior_writes() {
    explore_within(3, "seal_after_fence_rmw_acquires_prior_writes", || {
        let slot = Arc::new(AtomicSlotState::new(SlotState::ready(0)));
        slot.open(0, 0, 1).unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let fencing = thread::spawn({
            let (slot, done) = (Arc::clone(&slot), Arc::clone(&done));
            move || {
                done.store(true, Ordering::Relaxed);
                slot.fence_rmw().is_open()
            }
        });
        assert!(slot.seal(|_| true).is_some());
        let seen = done.load(Ordering::Relaxed);
        assert!(seen || !fencing.join().unwrap(), "the slot was open at the read-modify-write");
    });
}

#[test]
fn cut_of_sealed_segment_acquires_prior_writes() {
    explore_within(3, "cut_of_sealed_segment_acquires_prior_writes", || {
        let ring = Arc::new(new_ring());
        let slot = ring.slot(FIRST);
        slot.open(FIRST, 0, 1).unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let fencing = thread::spawn({
            let (ring, done) = (Arc::clone(&ring), Arc::clone(&done));
            move || {
                done.store(true, Ordering::Relaxed);
                ring.slot(FIRST).fence_rmw().is_open()
            }
        });
        let sealing = thread::spawn({
            let ring = Arc::clone(&ring);
            move || assert!(ring.slot(FIRST).seal(|_| true).is_some())
        });
        let sending = thread::spawn({
            let (ring, done) = (Arc::clone(&ring), Arc::clone(&done));
            move || ring.active() == FIRST || done.load(Ordering::Relaxed)
        });
        if !slot.cut().is_open() {
            ring.advance(FIRST);
        }
        sealing.join().unwrap();
        let was_open = fencing.join().unwrap();
        assert!(sending.join().unwrap() || !was_open, "writes before the seal are not visible after it");
    });
}

/// A receiver records that it waits while a closure writes. The sender that sees that sees what preceded it.
#[test]
fn commit_of_awaited_entry_acquires_prior_writes() {
    explore_within(3, "commit_of_awaited_entry_acquires_prior_writes", || {
        let segment = Arc::new(Segment::new());
        let mut memory = segment.exclusive().unwrap();
        memory.allocate(CAPACITY);
        memory.activate();
        let slot = AtomicSlotState::new(SlotState::ready(0));
        let entry = slot.open(0, 0, 1).unwrap();
        let mut range = ReadRange::new(Arc::clone(&segment));
        range.extend(1);
        let left = Arc::new(AtomicBool::new(false));
        let sender = thread::spawn({
            let left = Arc::clone(&left);
            move || {
                let write = |bytes: &mut [u8]| {
                    bytes[0] = b'1';
                    1
                };
                if segment.write_in_place(&entry, write) {
                    assert!(left.load(Ordering::Relaxed), "the entry is awaited");
                }
            }
        });
        left.store(true, Ordering::Relaxed);
        let is_stalled = range.set_awaited();
        assert!(is_stalled || range.advance_committed() == 1, "neither stalled nor committed");
        sender.join().unwrap();
        assert_eq!(range.advance_committed(), 1);
        range.advance();
    });
}

/// Two holders read a message and release the segment. Its next owner writes over the message.
#[test]
fn exclusive_access_acquires_reads_of_all_holders() {
    explore_within(3, "exclusive_access_acquires_reads_of_all_holders", || {
        let segment = Arc::new(Segment::new());
        let mut memory = segment.exclusive().unwrap();
        memory.allocate(CAPACITY);
        memory.activate();
        let slot = AtomicSlotState::new(SlotState::ready(0));
        segment.write(&slot.open(0, 0, 1).unwrap(), b"1");
        segment.set_used(1);
        let holders = [1, CHANNEL_REFERENCES - 1].map(|held| {
            let segment = Arc::clone(&segment);
            thread::spawn(move || {
                let mut range = ReadRange::new(Arc::clone(&segment));
                range.extend(1);
                assert_eq!(range.advance_committed(), 1);
                let _ = range.get(0);
                range.advance();
                drop(range);
                segment.release(held);
            })
        });
        if let Some(mut memory) = segment.exclusive() {
            memory.clear();
            memory.activate();
            segment.write(&AtomicSlotState::new(SlotState::ready(1)).open(1, 0, 1).unwrap(), b"2");
        }
        holders.into_iter().for_each(|holder| holder.join().unwrap());
    });
}

/// The word that a sender saw returns one lap later with another segment in it, or with the same one: a reservation never
/// exceeds the segment that it is in.
#[test]
fn reservation_one_lap_later_fits_its_segment() {
    explore_within(3, "reservation_one_lap_later_fits_its_segment", || {
        let capacities = Capacities::growing(Capacity { messages: 2, bytes: 64 }, 1);
        assert_eq!((capacities.of(0).messages, capacities.of(1).messages), (1, 2));
        let slot = Arc::new(AtomicSlotState::new(SlotState::ready(0)));
        slot.open(0, 1, 0).unwrap();
        let lapping = thread::spawn({
            let slot = Arc::clone(&slot);
            move || {
                for (sequence, segment) in [(4, 0), (8, 1)] {
                    slot.seal(|_| true).unwrap();
                    slot.retire(sequence);
                    slot.open(sequence, segment, 0).unwrap();
                }
            }
        });
        if let Ok(entry) = slot.reserve(0, &capacities) {
            assert!(entry.index() < capacities.of(entry.segment()).messages, "{entry:?}");
        }
        lapping.join().unwrap();
        let state = slot.load();
        assert!(state.messages() <= capacities.of(1).messages, "{state:?}");
    });
}
