//! Sender operations other than sending: switch, comparison and weak senders.

use std::sync::{Arc, Barrier};
use std::thread;

use crate::common::{current_runtime, ms, paused, plain, poll_once};
use static_assertions::assert_impl_all;
use turbostream::{ReadMode, TryRecvError, WeakSender};

assert_impl_all!(WeakSender: Send, Sync, Unpin, Clone, std::fmt::Debug);

#[test]
fn switch_makes_all_sent_messages_readable() {
    paused(async {
        let (tx, mut rx) = turbostream::builder().on_demand(false).build().expect("valid");
        let monitor = tx.monitor();
        tx.switch();
        assert_eq!(monitor.stats().switches.total(), 0, "an empty segment is never switched");
        let mut waiting = Box::pin(rx.recv());
        assert!(poll_once(&mut waiting).is_pending());
        tx.send("1").await.expect("open");
        tx.send("2").await.expect("open");
        assert!(poll_once(&mut waiting).is_pending(), "no switch was requested yet");
        tx.switch();
        assert_eq!(waiting.await.as_deref(), Some(&b"1"[..]));
        assert_eq!(rx.try_recv().as_deref(), Ok(&b"2"[..]));
        tx.switch();
        assert_eq!(monitor.stats().switches.requested, 1);
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        rx.close();
        tx.switch();
        assert_eq!(rx.try_recv(), Err(TryRecvError::Closed));
    });
}

#[test]
fn switch_puts_later_messages_into_a_new_segment() {
    paused(async {
        let (tx, mut rx) = turbostream::builder().on_demand(false).build().expect("valid");
        for round in ["one", "two"] {
            tx.send(round).await.expect("open");
            tx.send(round).await.expect("open");
            tx.switch();
        }
        for (round, first) in [("one", 0), ("two", 2)] {
            let batch = rx.recv_batch(100).await.expect("open");
            assert_eq!((batch.len(), batch.first_sequence()), (2, first));
            assert!(batch.iter().all(|m| m == round.as_bytes()));
        }
    });
}

#[test]
fn same_channel_compares_senders_by_channel() {
    paused(async {
        let (tx, _rx) = turbostream::channel();
        let (other, _rx2) = turbostream::channel();
        let upgraded = tx.downgrade().upgrade().expect("the sender exists");
        assert!(tx.same_channel(&tx) && tx.same_channel(&tx.clone()) && upgraded.same_channel(&tx));
        assert!(!tx.same_channel(&other) && !other.same_channel(&upgraded));
    });
}

#[test]
fn weak_sender_neither_keeps_open_nor_reopens_the_channel() {
    paused(async {
        let (tx, mut rx) = turbostream::channel();
        let weak = tx.downgrade();
        let monitor = rx.monitor();
        let again = weak.clone().upgrade().expect("the sender exists");
        drop(tx);
        again.send("through the second").await.expect("the upgraded sender keeps the channel open");
        assert!(!rx.is_closed());
        drop(again);
        assert!(rx.is_closed() && weak.upgrade().is_none());
        assert_eq!(rx.recv().await.as_deref(), Some(&b"through the second"[..]));
        assert_eq!(rx.recv().await, None);
        assert!(weak.upgrade().is_none() && weak.clone().upgrade().is_none());
        drop(rx);
        assert_eq!(monitor.stats().memory_bytes(), 0, "a weak sender pins no memory");
        assert!(format!("{weak:?}").contains("closed: true"));
    });
}

#[test]
fn sender_upgraded_after_close_is_closed() {
    paused(async {
        let (tx, rx) = turbostream::channel();
        let weak = tx.downgrade();
        rx.close();
        let again = weak.upgrade().expect("the sender exists");
        assert!(again.is_closed() && again.send("late").await.is_err());
        again.closed().await;
    });
}

#[test]
fn closed_sink_no_longer_counts_as_a_sender() {
    paused(async {
        let (mut tx, mut rx) = turbostream::channel();
        let weak = tx.downgrade();
        futures::SinkExt::close(&mut tx).await.expect("open");
        assert!(weak.upgrade().is_none() && tx.downgrade().upgrade().is_none());
        assert_eq!(rx.recv_timeout(ms(1)).await, Err(turbostream::RecvTimeoutError::Closed));
    });
}

/// Races an upgrade with the drop of the last sender: it sends or finds the channel closed, never both or neither.
#[test]
fn upgrade_racing_the_last_drop_sends_or_finds_the_channel_closed() {
    plain(|| {
        let runtime = current_runtime(false);
        let _context = runtime.enter();
        for _ in 0..500 {
            let (tx, mut rx) = turbostream::builder().read_mode(ReadMode::ZeroCopy).build().expect("valid");
            let weak = tx.downgrade();
            let start = Arc::new(Barrier::new(2));
            let dropping = {
                let start = Arc::clone(&start);
                thread::spawn(move || {
                    start.wait();
                    drop(tx);
                })
            };
            start.wait();
            let sent = weak
                .upgrade()
                .map(|tx| tx.try_send("1").expect("the upgraded sender keeps the channel open"))
                .is_some();
            dropping.join().expect("no panic");
            assert!(weak.upgrade().is_none());
            assert_eq!(rx.try_recv().is_ok(), sent);
            assert_eq!(rx.try_recv(), Err(TryRecvError::Closed));
        }
    });
}

/// A caller that awaits a future inside its own async function moves it in memory. For a large future that takes longer
/// than sending a small message.
#[tokio::test]
async fn futures_are_small() {
    let (tx, mut rx) = turbostream::channel();
    assert!(size_of_val(&tx.send(&b"four words"[..])) <= 6 * size_of::<usize>());
    assert!(size_of_val(&tx.send_with(1, |_| 1)) <= 6 * size_of::<usize>());
    assert!(size_of_val(&rx.recv()) <= 256);
}
