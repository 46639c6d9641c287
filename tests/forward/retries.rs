//! Failures that pass: the forwarder publishes again, at once or after a pause, and is never busy.

use std::time::Duration;

use futures::FutureExt;
use tokio::time::{Instant, timeout};

use crate::common::{ms, paused, settle};
use crate::engine::{Fate, World};
use crate::{HOUR, forwarder, send_numbered};

#[test]
fn goes_back_at_once_when_the_connection_returns() {
    paused(async {
        let world = World::always(Fate::Lost);
        let (tx, forwarder) = forwarder(&world);
        let handle = forwarder.retry(HOUR, HOUR).confirm_timeout(HOUR).spawn();
        let messages = send_numbered(&tx, 20).await;
        settle().await;
        assert_eq!(world.lock().publishes, 20);
        world.lock().disconnect();
        tokio::time::sleep(ms(200)).await;
        assert!(!handle.stats().connected);
        assert_eq!(world.lock().publishes, 20, "nothing is published while it is down");
        world.lock().heal();
        let start = Instant::now();
        timeout(HOUR, handle.flush()).await.unwrap().unwrap();
        assert!(start.elapsed() <= ms(50), "{:?}", start.elapsed());
        assert_eq!(world.lock().messages(None), messages);
        let stats = handle.stats();
        assert_eq!((stats.retried, stats.confirmed, stats.go_backs), (20, 20, 1));
        assert_eq!(world.lock().resumed, [1]);
    });
}

#[test]
fn sees_a_loss_between_two_readings() {
    paused(async {
        let world = World::always(Fate::Lost);
        let (tx, forwarder) = forwarder(&world);
        let handle = forwarder.confirm_timeout(HOUR).spawn();
        send_numbered(&tx, 3).await;
        settle().await;
        world.lock().disconnect();
        world.lock().heal();
        assert_eq!(timeout(ms(100), handle.flush()).await, Ok(Ok(())));
    });
}

#[test]
fn an_error_of_every_publish_is_no_busy_loop() {
    for fate in [Fate::Retry, Fate::OutOfOrder, Fate::Dropped, Fate::StoredRetry] {
        paused(async move {
            let world = World::always(fate);
            let (tx, forwarder) = forwarder(&world);
            let handle = forwarder.retry(ms(50), Duration::from_secs(5)).spawn();
            send_numbered(&tx, 5).await;
            tokio::time::sleep(Duration::from_secs(600)).await;
            let (publishes, turns) = world.lock().work();
            // A pause of 2.5 s on average, and a tick every 25 ms.
            assert!((5 * 60..5 * 1000).contains(&publishes), "{fate:?}: {publishes} publishes");
            assert!(turns < 2 * 600 * 40, "{fate:?}: {turns} turns");
            world.lock().heal();
            timeout(HOUR, handle.flush()).await.unwrap().unwrap();
            assert_eq!(world.lock().stored.len(), 5);
        });
    }
}

#[test]
fn errors_of_poll_ready_and_poll_resume_are_no_busy_loop() {
    paused(async {
        let world = World::default();
        let (tx, forwarder) = forwarder(&world);
        let handle = forwarder.retry(ms(50), Duration::from_secs(5)).spawn();
        tx.send("waits").await.unwrap();
        world.lock().ready_errors = usize::MAX;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(world.lock().turns < 2 * 60 * 40);
        assert_eq!(handle.stats().in_flight_messages, 1);
        world.lock().heal();
        timeout(HOUR, handle.flush()).await.unwrap().unwrap();

        world.lock().fate = Some(Fate::Retry);
        world.lock().resume_errors = usize::MAX;
        tx.send("waits again").await.unwrap();
        let before = world.lock().turns;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(world.lock().turns - before < 2 * 60 * 40);
        world.lock().heal();
        timeout(HOUR, handle.flush()).await.unwrap().unwrap();
        assert_eq!(world.lock().messages(None), ["waits", "waits again"]);
    });
}

#[test]
fn a_connection_that_flaps_is_no_busy_loop() {
    paused(async {
        let world = World::always(Fate::Retry);
        let (tx, forwarder) = forwarder(&world);
        let handle = forwarder.retry(ms(50), ms(50)).spawn();
        tx.send("flaps").await.unwrap();
        for _ in 0..1000 {
            world.lock().losses += 1;
            // It causes a turn.
            assert!(handle.flush().now_or_never().is_none());
            tokio::time::sleep(ms(1)).await;
        }
        let publishes = world.lock().publishes;
        assert!(publishes <= 1000 / 25 + 1000 / 50 + 2, "{publishes} publishes");
        world.lock().heal();
        timeout(HOUR, handle.flush()).await.unwrap().unwrap();
    });
}

#[test]
fn an_idle_forwarder_wakes_once_a_second() {
    paused(async {
        let world = World::default();
        let (tx, forwarder) = forwarder(&world);
        let handle = forwarder.spawn();
        tx.send("one").await.unwrap();
        handle.flush().await.unwrap();
        let before = world.lock().turns;
        tokio::time::sleep(Duration::from_secs(100)).await;
        let turns = world.lock().turns - before;
        assert!((90..=105).contains(&turns), "{turns} turns");
    });
}

#[test]
fn what_waits_too_long_for_its_confirmation_is_published_again() {
    paused(async {
        let world = World::with_fates([Fate::NoConfirmation, Fate::Good, Fate::Lost]);
        let (tx, forwarder) = forwarder(&world);
        let handle = forwarder.confirm_timeout(Duration::from_secs(3)).spawn();
        let messages = send_numbered(&tx, 3).await;
        let start = Instant::now();
        timeout(HOUR, handle.flush()).await.unwrap().unwrap();
        assert!((ms(3000)..ms(3100)).contains(&start.elapsed()), "{:?}", start.elapsed());
        let stats = handle.stats();
        // The second was confirmed: it is not published again.
        assert_eq!((stats.retried, stats.duplicates, stats.confirmed), (2, 1, 3));
        assert_eq!(world.lock().messages(None), messages);
        assert_eq!(world.lock().published, [1, 2, 3, 1, 3]);
    });
}

#[test]
fn a_slow_engine_that_makes_progress_is_not_given_up() {
    paused(async {
        // Each is confirmed a second after the one before: the last waits for 30 s.
        let world = World::with_fates((1..=30).map(|second| Fate::LateConfirmation(1000 * second)));
        let (tx, forwarder) = forwarder(&world);
        let handle =
            forwarder.confirm_timeout(Duration::from_secs(2)).give_up_after(Duration::from_secs(2)).spawn();
        send_numbered(&tx, 30).await;
        timeout(HOUR, handle.flush()).await.unwrap().unwrap();
        assert_eq!((handle.stats().retried, handle.stats().confirmed), (0, 30));
    });
}

#[test]
fn what_the_destination_knows_is_not_published_again() {
    paused(async {
        let fates = [Fate::NoConfirmation, Fate::NoConfirmation, Fate::NoConfirmation, Fate::Lost];
        let world = World::with_fates(fates);
        world.lock().knows = true;
        let (tx, forwarder) = forwarder(&world);
        let handle = forwarder.confirm_timeout(ms(100)).spawn();
        send_numbered(&tx, 4).await;
        timeout(HOUR, handle.flush()).await.unwrap().unwrap();
        assert_eq!((handle.stats().retried, handle.stats().confirmed), (1, 4));
        assert_eq!(world.lock().resumed, [1]);
        assert_eq!(world.lock().published, [1, 2, 3, 4, 4]);
    });
}

#[test]
fn late_confirmations_count_while_the_connection_is_down() {
    paused(async {
        let world = World::always(Fate::LateConfirmation(100));
        let (tx, forwarder) = forwarder(&world);
        let handle = forwarder.spawn();
        send_numbered(&tx, 4).await;
        settle().await;
        world.lock().disconnect();
        timeout(HOUR, handle.flush()).await.unwrap().unwrap();
        assert_eq!((handle.stats().retried, handle.stats().confirmed), (0, 4));
    });
}

#[test]
fn senders_wait_while_the_destination_is_away() {
    paused(async {
        let world = World::always(Fate::Lost);
        let (tx, rx) = turbostream::builder().max_bytes(64 << 10).segment_bytes(4 << 10).build().unwrap();
        let monitor = tx.monitor();
        let handle = crate::forwarder_of(rx, &world).in_flight(1_000_000, 1 << 30).spawn();
        world.lock().disconnect();
        let mut sent = 0;
        while timeout(ms(100), tx.send([7_u8; 500])).await.is_ok() {
            sent += 1;
            assert!(monitor.stats().memory_bytes() <= 64 << 10);
        }
        assert!((50..128).contains(&sent), "{sent} messages of 500 bytes in 64 KiB");
        assert!(handle.stats().in_flight_bytes <= 64 << 10);
        world.lock().heal();
        tokio::time::sleep(ms(1000)).await;
        timeout(HOUR, tx.send([8_u8; 500])).await.unwrap().unwrap();
        timeout(HOUR, handle.flush()).await.unwrap().unwrap();
        assert_eq!(handle.stats().confirmed, sent + 1);
    });
}

#[test]
fn external_payloads_in_flight_count_in_max_bytes() {
    const MAX_BYTES: usize = 1 << 20;
    paused(async {
        let world = World::always(Fate::Lost);
        let (tx, rx) = turbostream::builder().max_bytes(MAX_BYTES).segment_bytes(4 << 10).build().unwrap();
        let monitor = tx.monitor();
        let handle = crate::forwarder_of(rx, &world).in_flight(1_000_000, 1 << 30).spawn();
        world.lock().disconnect();
        let payload = |number: u64| vec![number as u8; 64 << 10];
        let mut sent = 0;
        while timeout(ms(100), tx.send(payload(sent))).await.is_ok() {
            sent += 1;
            assert!(monitor.stats().memory_bytes() <= MAX_BYTES, "{:?}", monitor.stats());
        }
        assert!((8..=16).contains(&sent), "{sent} payloads of 64 KiB in 1 MiB");
        let stats = monitor.stats();
        assert_eq!(stats.external_bytes, sent as usize * (64 << 10), "in flight, or queued: {stats:?}");
        world.lock().heal();
        timeout(HOUR, tx.send(payload(sent))).await.unwrap().unwrap();
        timeout(HOUR, handle.flush()).await.unwrap().unwrap();
        assert_eq!(handle.stats().confirmed, sent + 1);
        assert_eq!(monitor.stats().external_bytes, 0);

        // What is given back counts until it is dropped, also after the channel.
        world.lock().disconnect();
        tx.send(payload(0)).await.unwrap();
        let error = handle.shutdown_timeout(ms(100)).await.unwrap_err();
        let unconfirmed = error.into_unconfirmed();
        assert_eq!(unconfirmed.messages, [payload(0)]);
        assert_eq!(monitor.stats().external_bytes, 64 << 10);
        let message = unconfirmed.messages[0].clone();
        drop((unconfirmed, tx));
        assert_eq!(monitor.stats().external_bytes, 64 << 10);
        drop(message);
        assert_eq!(monitor.stats().external_bytes, 0);
    });
}
