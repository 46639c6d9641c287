//! Receivers, each with its own method of receiving.

use futures::StreamExt;
use turbostream::{ReadMode, Receiver};

use crate::tally::Received;

const LIMIT: usize = 256;

/// Receives until the channel is closed and drained, by one of four methods.
pub async fn receive_all(mut rx: Receiver, method: usize) -> Received {
    let mut received = Received::default();
    match method % 4 {
        0 => {
            while let Some(message) = rx.recv().await {
                received.check(&message);
            }
        }
        1 => {
            while let Some(batch) = rx.recv_batch(LIMIT).await {
                received.check_batch(&batch);
            }
        }
        2 => {
            let mut messages = Vec::with_capacity(LIMIT);
            while rx.recv_many(&mut messages, LIMIT).await > 0 {
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
