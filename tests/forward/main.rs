//! Forwarding to a scripted destination, with a paused clock.
//!
//! `random` runs scripts of failures against a model of an engine, and checks after each that nothing is lost, doubled or
//! confirmed without being stored. `TURBOSTREAM_EFFORT` multiplies their number. The other modules check one promise each.

#[path = "../common/mod.rs"]
mod common;
mod defaults;
mod ending;
mod engine;
mod flush;
mod order;
mod packs;
mod random;
mod retries;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use turbostream::forward::{ForwardHandle, Forwarder};
use turbostream::{Receiver, Sender};

use engine::{Scripted, World};

/// Longer than any test needs of the paused clock.
const HOUR: Duration = Duration::from_secs(3600);

/// Returns a channel, and a forwarder of it with short pauses.
fn forwarder(world: &World) -> (Sender, Forwarder<Scripted>) {
    let (tx, rx) = turbostream::channel();
    (tx, forwarder_of(rx, world))
}

fn forwarder_of(rx: Receiver, world: &World) -> Forwarder<Scripted> {
    Forwarder::new(rx, world.destination()).retry(Duration::from_millis(10), Duration::from_millis(100))
}

/// Sends `count` numbered messages.
async fn send_numbered(tx: &Sender, count: usize) -> Vec<String> {
    let messages: Vec<_> = (0..count).map(|number| format!("{number:06}")).collect();
    for message in &messages {
        tx.send(message.as_str()).await.expect("the channel is open");
    }
    messages
}

/// Collects what a forwarder rejects.
#[derive(Clone, Default)]
struct Rejected(Arc<Mutex<Vec<Vec<u8>>>>);

impl Rejected {
    fn callback(&self) -> impl FnMut(&[u8], &turbostream::forward::Rejection) + Send + 'static + use<> {
        let rejected = self.clone();
        move |message, _| rejected.0.lock().unwrap().push(message.to_vec())
    }

    fn messages(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().clone()
    }
}

static_assertions::assert_impl_all!(ForwardHandle: Send, Sync, std::fmt::Debug);
