//! What a channel must do to be one side of the comparison.

use std::future::Future;

use bytes::BytesMut;
use turbostream::Monitor;

use crate::tag::Tagger;
use crate::writer::LineWriter;

/// A channel of lines from several readers to one writer.
pub(crate) trait Channel {
    type Sender: LineSender;
    type Receiver: LineReceiver;

    const NAME: &'static str;

    /// A new channel, and what tells its memory if anything does.
    fn open() -> anyhow::Result<(Self::Sender, Self::Receiver, Option<Monitor>)>;
}

/// A reader's end.
pub(crate) trait LineSender: Clone + Send + Sync + 'static {
    /// Sends whole lines one by one, tagged. `false` if the channel was closed before the last of them.
    fn send_lines(
        &self,
        lines: BytesMut,
        tagger: &mut Tagger,
    ) -> impl Future<Output = anyhow::Result<bool>> + Send;
}

/// The writer's end.
pub(crate) trait LineReceiver: Send + 'static {
    /// Waits for lines and writes them. `false` if the channel is closed and drained.
    fn write_batch(&mut self, out: &mut LineWriter) -> impl Future<Output = std::io::Result<bool>> + Send;
}
