//! Receivers, each of which takes messages in its own way.

use futures::StreamExt;
use turbostream::{ReadMode, Receiver};

use crate::tally::Received;

const AT_ONCE: usize = 256;

/// Takes messages until there are no more, in one of four ways.
pub async fn receive_all(mut rx: Receiver, way: usize) -> Received {
    let mut received = Received::default();
    match way % 4 {
        0 => {
            while let Some(message) = rx.recv().await {
                received.check(&message);
            }
        }
        1 => {
            while let Some(batch) = rx.recv_batch(AT_ONCE).await {
                received.check_batch(&batch);
            }
        }
        2 => {
            let mut messages = Vec::with_capacity(AT_ONCE);
            while rx.recv_many(&mut messages, AT_ONCE).await > 0 {
                messages.drain(..).for_each(|message| received.check(&message));
            }
        }
        _ => {
            rx.set_read_mode(ReadMode::ZeroCopy);
            while let Some(message) = rx.next().await {
                received.check(&message);
            }
        }
    }
    received
}
