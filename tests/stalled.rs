//! A receiver while a writer takes its time between its reservation and its commit.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::spin_loop;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::{plain, poll_once};
use futures::SinkExt;

/// A payload of this length is copied to an allocation of its own, between its reservation and its commit.
const LARGE: usize = 1_000_003;
const PASSES: usize = 0;
const STALLS: usize = 1;
const STALLED: usize = 2;
static LARGE_ALLOCATION: AtomicUsize = AtomicUsize::new(PASSES);

/// Keeps whoever allocates [`LARGE`] bytes waiting, as a page fault or the scheduler would.
struct Stalling;

// SAFETY: the system's allocator does all of it.
unsafe impl GlobalAlloc for Stalling {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() == LARGE
            && LARGE_ALLOCATION.compare_exchange(STALLS, STALLED, SeqCst, SeqCst).is_ok()
        {
            while LARGE_ALLOCATION.load(SeqCst) == STALLED {
                thread::sleep(Duration::from_millis(1));
            }
        }
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Stalling = Stalling;

/// Every wait sleeps after a bounded spin: one poll of `recv` ends, whatever a writer on another thread does.
#[test]
fn a_receiver_sleeps_while_a_writer_is_between_reservation_and_commit() {
    for sealed in [false, true] {
        plain(move || {
            let runtime = common::current_runtime(false);
            let _context = runtime.enter();
            let (mut tx, rx) = turbostream::channel();
            let large = vec![7; LARGE];
            LARGE_ALLOCATION.store(STALLS, SeqCst);
            let writer = thread::spawn({
                let tx = tx.clone();
                move || tx.try_send(large.as_slice()).expect("room")
            });
            while LARGE_ALLOCATION.load(SeqCst) != STALLED {
                spin_loop();
            }
            assert!(rx.try_recv().is_err(), "reserved, and not committed");
            // It does not matter which: there is something behind what the receiver waits for.
            if sealed {
                futures::executor::block_on(SinkExt::flush(&mut tx)).expect("open");
                tx.try_send("in the next segment").expect("room");
            } else {
                tx.try_send("behind").expect("room");
            }
            let (polled, was_polled) = mpsc::channel();
            let receiver = thread::spawn(move || {
                let mut recv = Box::pin(rx.recv());
                polled.send(poll_once(&mut recv).is_pending()).expect("somebody looks");
            });
            let pending = was_polled.recv_timeout(Duration::from_secs(3));
            LARGE_ALLOCATION.store(PASSES, SeqCst);
            assert_eq!(pending, Ok(true), "a poll of `recv` goes on for seconds, sealed: {sealed}");
            receiver.join().unwrap();
            writer.join().unwrap();
        });
    }
}
