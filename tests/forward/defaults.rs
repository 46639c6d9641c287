//! A destination that implements only what a destination must, and what it is given.

use std::error::Error;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use tokio::time::sleep;
use turbostream::forward::{
    Confirmation, Destination, Forwarder, MessageId, Outgoing, Packing, PublishError, Rejection, StopReason,
};

use crate::common::{ms, paused};
use crate::send_numbered;

/// Confirms each payload after a millisecond, but for the first of `failing`.
#[derive(Clone, Default)]
struct Minimal {
    published: Arc<Mutex<Vec<Outgoing>>>,
    failing: Arc<AtomicUsize>,
    in_flight: Arc<AtomicUsize>,
    most_in_flight: Arc<AtomicUsize>,
}

impl Minimal {
    fn sequences(&self) -> Vec<u64> {
        self.published.lock().unwrap().iter().map(Outgoing::sequence).collect()
    }
}

/// Counts a receipt until its drop.
struct InFlight(Arc<AtomicUsize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Destination for Minimal {
    type Receipt = Pin<Box<dyn Future<Output = Result<Confirmation, PublishError>> + Send>>;

    fn publish(&mut self, message: &Outgoing) -> Self::Receipt {
        self.published.lock().unwrap().push(message.clone());
        let fails = self.failing.load(SeqCst) > 0;
        self.failing.fetch_sub(usize::from(fails), SeqCst);
        self.most_in_flight.fetch_max(self.in_flight.fetch_add(1, SeqCst) + 1, SeqCst);
        let counted = InFlight(Arc::clone(&self.in_flight));
        Box::pin(async move {
            sleep(ms(1)).await;
            drop(counted);
            if fails { Err(PublishError::Retry("not now".into())) } else { Ok(Confirmation::Stored) }
        })
    }
}

fn forwarder(destination: &Minimal) -> (turbostream::Sender, Forwarder<Minimal>) {
    let (tx, rx) = turbostream::channel();
    (tx, Forwarder::new(rx, destination.clone()).retry(ms(10), ms(100)))
}

#[test]
fn messages_are_published_side_by_side_with_ids_that_differ_in_the_sequence() {
    paused(async {
        let destination = Minimal::default();
        let (tx, forwarder) = forwarder(&destination);
        let messages = send_numbered(&tx, 20).await;
        forwarder.message_ids("host-7").spawn().shutdown().await.unwrap();
        assert_eq!(destination.sequences(), (1..=20).collect::<Vec<_>>());
        assert!(destination.most_in_flight.load(SeqCst) > 1);
        let published = destination.published.lock().unwrap();
        let prefix = published[0].id().unwrap().prefix();
        assert!(prefix.starts_with("host-7-") && prefix.ends_with('-'), "{prefix}");
        for (outgoing, message) in published.iter().zip(&messages) {
            assert_eq!(outgoing.payload(), message.as_bytes());
            let id: MessageId<'_> = outgoing.id().unwrap();
            assert_eq!((id.prefix(), id.sequence()), (prefix, outgoing.sequence()));
            assert_eq!(id.to_string(), format!("{prefix}{}", outgoing.sequence()));
        }
    });
}

#[test]
fn strict_order_keeps_one_payload_in_flight() {
    paused(async {
        let destination = Minimal::default();
        let (tx, forwarder) = forwarder(&destination);
        send_numbered(&tx, 20).await;
        forwarder.strict_order().spawn().shutdown().await.unwrap();
        assert_eq!(destination.sequences(), (1..=20).collect::<Vec<_>>());
        assert_eq!(destination.most_in_flight.load(SeqCst), 1);
    });
}

#[test]
fn any_messages_travel_in_one_pack() {
    paused(async {
        let destination = Minimal::default();
        let (tx, forwarder) = forwarder(&destination);
        send_numbered(&tx, 20).await;
        forwarder.pack(Packing::Lines, 1 << 16).spawn().shutdown().await.unwrap();
        let published = destination.published.lock().unwrap();
        assert_eq!(published.iter().map(Outgoing::messages).collect::<Vec<_>>(), [20]);
    });
}

#[test]
fn after_a_failure_all_that_is_unconfirmed_is_published_again() {
    paused(async {
        let destination = Minimal::default();
        destination.failing.store(1, SeqCst);
        let (tx, forwarder) = forwarder(&destination);
        send_numbered(&tx, 3).await;
        let report = forwarder.spawn().shutdown().await.unwrap();
        assert_eq!(destination.sequences(), [1, 2, 3, 1, 2, 3]);
        assert_eq!(report.stats.confirmed, 3);
    });
}

#[test]
fn errors_of_a_destination_name_their_source() {
    let words = |error: &PublishError| error.source().map(ToString::to_string);
    for (error, text) in [
        (PublishError::Retry("busy".into()), "not taken yet: busy"),
        (PublishError::OutOfOrder("early".into()), "not in order: early"),
        (PublishError::Reject(Rejection::new("large")), "the destination rejected a message: large"),
        (PublishError::Stop(StopReason::Other, "gone".into()), "the destination takes no messages: gone"),
    ] {
        assert_eq!(error.to_string(), text);
        assert_eq!(words(&error).as_deref(), text.rsplit(": ").next());
    }
    let rejection = Rejection::new("large");
    assert_eq!(rejection.source().map(ToString::to_string).as_deref(), Some("large"));
}
