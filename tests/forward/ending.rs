//! How a forwarder ends, and what it gives back.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures::FutureExt;
use tokio::time::timeout;
use turbostream::ReadMode;
use turbostream::forward::{ForwardError, ForwardErrorKind, ForwardReport, Forwarder, Packing, StopReason};

use crate::common::{current_runtime, ms, paused, plain, settle};
use crate::engine::{Fate, World};
use crate::{HOUR, forwarder, forwarder_of, send_numbered};

fn failed(outcome: Result<ForwardReport, ForwardError>) -> ForwardError {
    outcome.expect_err("the forwarder has failed")
}

#[test]
fn shutdown_forwards_and_confirms_the_rest() {
    paused(async {
        let world = World::always(Fate::LateConfirmation(30));
        let (tx, forwarder) = forwarder(&world);
        let handle = forwarder.in_flight(7, 1 << 20).spawn();
        let messages = send_numbered(&tx, 100).await;
        let report = timeout(HOUR, handle.shutdown()).await.unwrap().unwrap();
        assert!(tx.send("late").await.is_err());
        assert_eq!(world.lock().messages(None), messages);
        assert_eq!((report.stats.confirmed, report.stats.peak_in_flight_messages), (100, 7));
        assert!(report.elapsed >= ms(30 * 100 / 7));
        assert!(handle.is_finished());
    });
}

#[test]
fn dropped_senders_end_it_after_the_last_confirmation() {
    paused(async {
        let world = World::always(Fate::LateConfirmation(30));
        let (tx, forwarder) = forwarder(&world);
        let handle = forwarder.spawn();
        send_numbered(&tx, 10).await;
        drop(tx);
        settle().await;
        assert!(!handle.is_finished());
        assert_eq!(timeout(HOUR, handle.join()).await.unwrap().unwrap().stats.confirmed, 10);
    });
}

#[test]
fn a_dropped_handle_leaves_it_running() {
    paused(async {
        let world = World::default();
        let (tx, forwarder) = forwarder(&world);
        drop(forwarder.spawn());
        send_numbered(&tx, 10).await;
        settle().await;
        assert_eq!(world.lock().stored.len(), 10);
        // The task owns the last receiver.
        let closed = tx.closed();
        assert!(timeout(HOUR, closed).await.is_err());
        let weak = tx.downgrade();
        drop(tx);
        settle().await;
        assert_eq!(weak.receiver_count(), 0, "the task has ended");
    });
}

#[test]
fn the_outcome_is_taken_once_and_survives_dropped_calls() {
    paused(async {
        let world = World::always(Fate::LateConfirmation(100));
        let (tx, forwarder) = forwarder(&world);
        let handle = forwarder.spawn();
        send_numbered(&tx, 3).await;
        assert!(handle.join().now_or_never().is_none());
        assert!(timeout(ms(10), handle.shutdown()).await.is_err());
        assert!(timeout(ms(10), handle.shutdown_timeout(HOUR)).await.is_err());
        settle().await;
        assert_eq!(handle.join().await.unwrap().stats.confirmed, 3);
        for error in [failed(handle.join().await), failed(handle.shutdown().await)] {
            assert_eq!(error.kind(), ForwardErrorKind::AlreadyTaken);
            assert!(error.unconfirmed().messages.is_empty() && error.unconfirmed().receiver.is_none());
        }
    });
}

#[test]
fn the_time_limit_of_a_shutdown_gives_back_what_is_unconfirmed() {
    paused(async {
        let world = World::with_fates([Fate::Good, Fate::Lost, Fate::NoConfirmation, Fate::Good]);
        let (tx, rx) = turbostream::builder().read_mode(ReadMode::Safe).build().unwrap();
        let handle = forwarder_of(rx, &world).in_flight(4, 1 << 20).spawn();
        let messages = send_numbered(&tx, 8).await;
        let error = failed(handle.shutdown_timeout(ms(300)).await);
        assert_eq!(error.kind(), ForwardErrorKind::TimedOut);
        let text = "the time limit passed before everything was confirmed; 2 messages and 3 queued ones are not confirmed";
        assert_eq!(error.to_string(), text);
        let mut unconfirmed = error.into_unconfirmed();
        // The fourth is confirmed too, and so is the fifth, which has taken the place of the first.
        assert_eq!(unconfirmed.messages, messages[1..3]);
        unconfirmed.drain().await;
        assert_eq!(unconfirmed.messages, [&messages[1..3], &messages[5..]].concat());
        assert_eq!(unconfirmed.receiver.unwrap().recv().await, None);
        assert_eq!(handle.stats().confirmed, 3);
    });
}

#[test]
fn stop_ends_it_with_the_words_of_the_destination() {
    paused(async {
        let world = World::with_fates([Fate::Good, Fate::Stop]);
        let (tx, forwarder) = forwarder(&world);
        let handle = forwarder.in_flight(2, 1 << 20).spawn();
        let messages = send_numbered(&tx, 3).await;
        let error = failed(timeout(HOUR, handle.join()).await.unwrap());
        assert_eq!(error.kind(), ForwardErrorKind::Stopped(StopReason::NoStream));
        assert_eq!(error.source().unwrap().to_string(), "no stream here");
        let mut unconfirmed = error.into_unconfirmed();
        let receiver = unconfirmed.receiver.take().unwrap();
        // The channel is open: another forwarder goes on.
        tx.send("more").await.unwrap();
        let second = World::default();
        let handle = forwarder_of(receiver, &second).spawn();
        handle.flush().await.unwrap();
        let mut forwarded = unconfirmed.messages;
        forwarded.extend(second.lock().messages(None));
        assert_eq!(forwarded, [&*messages[1], &*messages[2], "more"]);
    });
}

#[test]
fn stop_of_a_later_receipt_is_found_when_it_goes_back() {
    paused(async {
        let world = World::with_fates([Fate::Lost, Fate::Stop]);
        let (tx, forwarder) = forwarder(&world);
        let handle = forwarder.confirm_timeout(ms(100)).spawn();
        send_numbered(&tx, 2).await;
        let error = failed(timeout(HOUR, handle.join()).await.unwrap());
        assert_eq!(error.kind(), ForwardErrorKind::Stopped(StopReason::NoStream));
        assert_eq!(error.unconfirmed().messages.len(), 2);
    });
}

#[test]
fn gives_up_after_its_time_without_progress() {
    paused(async {
        let world = World::with_fates([Fate::Good]);
        let (tx, forwarder) = forwarder(&world);
        let handle = forwarder.give_up_after(Duration::from_secs(20)).spawn();
        tx.send("good").await.unwrap();
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert!(!handle.is_finished(), "an idle forwarder does not give up");
        world.lock().fate = Some(Fate::Retry);
        tx.send("refused").await.unwrap();
        tokio::time::sleep(Duration::from_secs(19)).await;
        assert!(!handle.is_finished());
        let error = failed(timeout(Duration::from_secs(2), handle.join()).await.unwrap());
        assert_eq!(error.kind(), ForwardErrorKind::GaveUp);
        assert_eq!(error.source().unwrap().to_string(), "refused");
        assert_eq!(error.unconfirmed().messages, ["refused"]);
    });
}

#[test]
fn gives_up_although_the_destination_hangs_or_is_away() {
    for is_away in [false, true] {
        paused(async move {
            let world = World::default();
            let (tx, forwarder) = forwarder(&world);
            let handle = forwarder.give_up_after(Duration::from_secs(1)).spawn();
            if is_away {
                world.lock().disconnect()
            } else {
                world.lock().set_hangs(true)
            }
            tx.send("stuck").await.unwrap();
            let error = failed(timeout(Duration::from_secs(2), handle.join()).await.unwrap());
            assert_eq!(error.kind(), ForwardErrorKind::GaveUp);
            assert_eq!(error.unconfirmed().messages, ["stuck"]);
        });
    }
}

#[test]
fn a_panic_of_the_destination_gives_back_the_messages() {
    paused(async {
        let world = World::with_fates([Fate::Good, Fate::Lost]);
        let (tx, forwarder) = forwarder(&world);
        let handle = forwarder.spawn();
        tx.send("confirmed").await.unwrap();
        tx.send("lost").await.unwrap();
        settle().await;
        world.lock().panics = true;
        tx.send("panics").await.unwrap();
        let error = failed(timeout(HOUR, handle.join()).await.unwrap());
        assert_eq!(error.kind(), ForwardErrorKind::Panicked);
        assert_eq!(error.unconfirmed().messages, ["lost", "panics"]);
        assert!(error.unconfirmed().receiver.is_some());
    });
}

#[test]
fn a_panic_of_the_callback_is_caught() {
    paused(async {
        let world = World::default();
        let (tx, forwarder) = forwarder(&world);
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let handle = forwarder
            .on_rejected(move |_, rejection| {
                counted.fetch_add(1, Relaxed);
                panic!("on purpose: {rejection}");
            })
            .spawn();
        for message in ["!!! one", "good", "!!! two"] {
            tx.send(message).await.unwrap();
        }
        let report = handle.shutdown().await.unwrap();
        assert_eq!((report.stats.confirmed, report.stats.rejected), (1, 2));
        assert_eq!(calls.load(Relaxed), 2);
    });
}

#[test]
fn the_end_of_the_runtime_gives_back_the_messages() {
    plain(|| {
        let world = World::with_fates([Fate::Good, Fate::Lost]);
        let runtime = current_runtime(true);
        let (tx, handle) = runtime.block_on(async {
            let (tx, forwarder) = forwarder(&world);
            let handle = forwarder.in_flight(2, 1 << 20).pack(Packing::Lines, 20).spawn();
            tx.send("confirmed").await.unwrap();
            handle.flush().await.unwrap();
            tx.send_many(["a", "b", "in the channel"]).await.unwrap();
            settle().await;
            (tx, handle)
        });
        drop(runtime);
        let error = failed(handle.join().now_or_never().expect("it has ended"));
        assert_eq!(error.kind(), ForwardErrorKind::Cancelled);
        let unconfirmed = error.into_unconfirmed();
        let mut left = unconfirmed.messages;
        let mut receiver = unconfirmed.receiver.unwrap();
        tx.close();
        left.extend(std::iter::from_fn(|| receiver.try_recv().ok()));
        assert_eq!(left, ["a", "b", "in the channel"]);
    });
}

#[test]
fn a_runtime_that_has_ended_gives_back_the_receiver() {
    plain(|| {
        let runtime = current_runtime(true);
        let handle = runtime.handle().clone();
        let (tx, forwarder) = {
            let _context = runtime.enter();
            forwarder(&World::default())
        };
        tx.try_send("never taken").unwrap();
        runtime.shutdown_background();
        let handle = forwarder.spawn_on(&handle);
        let error = failed(handle.shutdown().now_or_never().expect("it has ended"));
        assert_eq!(error.kind(), ForwardErrorKind::Cancelled);
        assert_eq!(error.into_unconfirmed().receiver.unwrap().try_recv().unwrap(), "never taken");
    });
}

#[test]
#[should_panic(expected = "timers are disabled")]
fn a_runtime_without_time_is_refused() {
    let (_tx, rx) = current_runtime(false).block_on(async { turbostream::channel() });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    Forwarder::new(rx, World::default().destination()).spawn_on(runtime.handle());
}
