//! The smallest useful program: one task sends a million messages, another receives them in batches.

use turbostream::SendError;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (tx, mut rx) = turbostream::channel();

    let writer = tokio::spawn(async move {
        for number in 0..1_000_000 {
            tx.send(format!("message {number}")).await?; // waits while the channel is full
        }
        Ok::<_, SendError<String>>(()) // the last Sender is dropped here: that closes the channel
    });

    let (mut messages, mut bytes) = (0, 0);
    while let Some(batch) = rx.recv_batch(4096).await {
        messages += batch.len();
        bytes += batch.iter().map(<[u8]>::len).sum::<usize>(); // each message is a &[u8], not copied
    }
    writer.await??;
    println!("{messages} messages, {bytes} bytes");
    assert_eq!(messages, 1_000_000);
    Ok(())
}
