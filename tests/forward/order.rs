//! Ids, and the order in which messages are published and stored.

use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::timeout;
use turbostream::forward::{Confirmation, Destination, Forwarder, Outgoing, PublishError};

use crate::common::{ms, multi, paused, settle};
use crate::engine::{Fate, World};
use crate::{HOUR, forwarder, send_numbered};

#[test]
fn a_window_is_in_flight_at_once() {
    paused(async {
        let world = World::always(Fate::LateConfirmation(1000));
        let (tx, forwarder) = forwarder(&world);
        let handle = forwarder.in_flight(10, 1 << 20).spawn();
        send_numbered(&tx, 25).await;
        settle().await;
        assert_eq!(world.lock().publishes, 10);
        assert_eq!(handle.stats().in_flight_messages, 10);
        tokio::time::sleep(ms(1500)).await;
        assert_eq!(world.lock().publishes, 20);
    });
}

#[test]
fn a_full_window_is_refilled_once_an_eighth_is_free() {
    paused(async {
        let world = World::with_fates((1..=16).map(|at| Fate::LateConfirmation(10 * at)));
        let (tx, forwarder) = forwarder(&world);
        let handle = forwarder.in_flight(16, 1 << 20).spawn();
        send_numbered(&tx, 30).await;
        let mut published = Vec::new();
        for _ in 0..5 {
            tokio::time::sleep(ms(5)).await;
            settle().await;
            published.push(world.lock().publishes);
            tokio::time::sleep(ms(5)).await;
        }
        assert_eq!(published, [16, 16, 18, 18, 20]);
        timeout(HOUR, handle.flush()).await.unwrap().unwrap();
        assert_eq!(handle.stats().confirmed, 30);
    });
}

#[test]
fn a_window_in_bytes_holds_and_lets_a_large_message_through() {
    paused(async {
        let world = World::always(Fate::LateConfirmation(1000));
        let (tx, forwarder) = forwarder(&world);
        let handle = forwarder.in_flight(100, 64).spawn();
        for len in [30, 30, 30, 1000, 30] {
            tx.send(vec![b'x'; len]).await.unwrap();
        }
        let mut published = Vec::new();
        for _ in 0..5 {
            settle().await;
            published.push(world.lock().publishes);
            tokio::time::sleep(ms(1001)).await;
        }
        assert_eq!(published, [2, 3, 4, 5, 5]);
        assert_eq!(handle.stats().confirmed, 5);
    });
}

#[test]
fn strict_order_without_means_of_the_engine_is_one_at_a_time() {
    paused(async {
        let fates =
            [Fate::LateConfirmation(10), Fate::Lost, Fate::LateArrival(50), Fate::Queued, Fate::StoredRetry];
        let world = World::with_fates(fates);
        let (tx, forwarder) = forwarder(&world);
        let handle = forwarder.strict_order().confirm_timeout(ms(500)).spawn();
        let messages = send_numbered(&tx, 10).await;
        settle().await;
        assert_eq!(world.lock().publishes, 1);
        timeout(HOUR, handle.flush()).await.unwrap().unwrap();
        assert_eq!(world.lock().messages(None), messages);
        assert!(world.lock().published.is_sorted());
    });
}

#[test]
fn strict_order_with_means_of_the_engine_is_pipelined() {
    paused(async {
        let world = World::with_fates([Fate::Good, Fate::Lost]);
        world.lock().is_ordered = true;
        let (tx, forwarder) = forwarder(&world);
        let handle = forwarder.strict_order().spawn();
        let messages = send_numbered(&tx, 10).await;
        settle().await;
        assert_eq!(world.lock().publishes, 10);
        timeout(HOUR, handle.flush()).await.unwrap().unwrap();
        assert_eq!(world.lock().messages(None), messages);
    });
}

#[test]
fn strict_order_publishes_a_row_without_gaps_again() {
    for (is_strict, published) in [(true, [1, 2, 3, 1, 2, 3].as_slice()), (false, &[1, 2, 3, 1])] {
        paused(async move {
            let world = World::with_fates([Fate::NoConfirmation]);
            world.lock().is_ordered = true;
            let (tx, forwarder) = forwarder(&world);
            let forwarder = forwarder.confirm_timeout(ms(100));
            let handle = if is_strict { forwarder.strict_order() } else { forwarder }.spawn();
            send_numbered(&tx, 3).await;
            timeout(HOUR, handle.flush()).await.unwrap().unwrap();
            assert_eq!(world.lock().published, published);
            assert_eq!(handle.stats().confirmed, 3);
        });
    }
}

/// Keeps the ids of all publishes.
#[derive(Clone, Default)]
struct Ids(Arc<Mutex<Vec<Option<String>>>>);

impl Destination for Ids {
    type Receipt = Ready<Result<Confirmation, PublishError>>;

    fn publish(&mut self, message: &Outgoing) -> Self::Receipt {
        let mut ids = self.0.lock().unwrap();
        ids.push(message.id().map(|id| id.to_string()));
        // Each is published twice.
        ready(if ids.len() % 2 == 1 {
            Err(PublishError::Retry("again".into()))
        } else {
            Ok(Confirmation::Stored)
        })
    }
}

async fn ids_of(settings: impl FnOnce(Forwarder<Ids>) -> Forwarder<Ids>) -> Vec<Option<String>> {
    let (tx, rx) = turbostream::channel();
    let ids = Ids::default();
    let forwarder = Forwarder::new(rx, ids.clone()).retry(ms(1), ms(1)).in_flight(1, 1000);
    let handle = settings(forwarder).spawn();
    send_numbered(&tx, 2).await;
    handle.shutdown().await.unwrap();
    let ids = ids.0.lock().unwrap();
    ids.clone()
}

#[test]
fn ids_have_name_run_and_sequence_and_stay_the_same() {
    paused(async {
        let ids = ids_of(|forwarder| forwarder.message_ids("host-7")).await;
        let ids: Vec<_> = ids.into_iter().flatten().collect();
        let run = ids[0].strip_prefix("host-7-").unwrap().strip_suffix("-1").unwrap();
        assert_eq!(run.len(), 16);
        let (first, second) = (format!("host-7-{run}-1"), format!("host-7-{run}-2"));
        assert_eq!(ids, [first.clone(), first, second.clone(), second]);

        let unnamed = ids_of(|forwarder| forwarder).await;
        let unnamed: Vec<_> = unnamed.into_iter().flatten().collect();
        assert_eq!(unnamed[0].len(), 18);
        assert!(unnamed[0].ends_with("-1") && !unnamed[0].starts_with(run));

        assert_eq!(ids_of(Forwarder::without_message_ids).await, [None, None, None, None]);
    });
}

#[test]
fn several_forwarders_share_a_channel_between_threads() {
    multi(async {
        let world = World::default();
        let (tx, rx) = turbostream::builder().max_bytes(1 << 20).build().unwrap();
        let handles: Vec<_> = (0..3)
            .map(|number| {
                Forwarder::new(rx.clone(), world.destination()).message_ids(number.to_string()).spawn()
            })
            .collect();
        drop(rx);
        let senders: Vec<_> = (0..2)
            .map(|sender| {
                let tx = tx.clone();
                tokio::spawn(async move {
                    for number in 0..10_000 {
                        tx.send(format!("{sender} {number}")).await.unwrap();
                    }
                })
            })
            .collect();
        for sender in senders {
            sender.await.unwrap();
        }
        for handle in &handles {
            timeout(Duration::from_secs(30), handle.flush()).await.unwrap().unwrap();
        }
        assert_eq!(world.lock().stored.len(), 20_000);
        drop(tx);
        let mut confirmed = 0;
        for handle in &handles {
            confirmed +=
                timeout(Duration::from_secs(30), handle.join()).await.unwrap().unwrap().stats.confirmed;
        }
        assert_eq!(confirmed, 20_000);
        let mut messages = world.lock().messages(None);
        messages.sort();
        messages.dedup();
        assert_eq!(messages.len(), 20_000);
    });
}

#[test]
fn a_busy_forwarder_lets_other_tasks_run() {
    paused(async {
        let world = World::default();
        let (tx, forwarder) = forwarder(&world);
        send_numbered(&tx, 2000).await;
        let handle = forwarder.spawn();
        tokio::task::yield_now().await;
        let (published, turns) = world.lock().work();
        assert!(published <= 128 * turns && published < 2000, "{published} in {turns} turns");
        handle.flush().await.unwrap();
        assert_eq!(world.lock().publishes, 2000);
    });
}
