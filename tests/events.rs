//! What an operator gets to see. Alone in its binary: tests that run beside it would decide who hears of an event.
#![cfg(feature = "tracing")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use common::{current_runtime, plain, settle};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Counts the errors of the crate.
struct Errors(Arc<AtomicU32>);

impl Subscriber for Errors {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        if event.metadata().target() == "turbostream" && *event.metadata().level() == Level::ERROR {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn each_panic_of_a_callback_is_an_error() {
    plain(|| {
        let errors = Arc::new(AtomicU32::new(0));
        tracing::subscriber::with_default(Errors(errors.clone()), || {
            current_runtime(true).block_on(async {
                let (tx, rx) = turbostream::channel();
                rx.on_message(|message| assert_eq!(message, "good", "a bad message"));
                for message in ["bad", "good", "bad"] {
                    tx.send(message).await.expect("open");
                }
                settle().await;
            });
        });
        assert_eq!(errors.load(Ordering::Relaxed), 2);
    });
}
