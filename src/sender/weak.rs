//! [`WeakSender`]: a sender that does not hold the channel open.

use std::fmt;

use super::Sender;
use crate::channel::Core;
use crate::sync::Arc;

/// A handle that can be upgraded to a [`Sender`] while the channel has one. Created by [`Sender::downgrade`].
///
/// It does not keep the channel open: the channel closes when the last `Sender` is dropped, and stays closed.
#[derive(Clone)]
pub struct WeakSender {
    core: Arc<Core>,
}

impl WeakSender {
    /// Returns a new sender, or `None` if the channel has no sender any more.
    ///
    /// If a handle closed the channel while it still has senders, this returns a sender, and its sends fail.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() {
    /// let (tx, mut rx) = turbostream::channel();
    /// let weak = tx.downgrade();
    /// weak.upgrade().unwrap().send("upgraded").await.unwrap();
    /// drop(tx);
    /// assert!(weak.upgrade().is_none());
    /// assert_eq!(rx.recv().await.unwrap(), "upgraded");
    /// assert_eq!(rx.recv().await, None);
    /// # }
    /// ```
    pub fn upgrade(&self) -> Option<Sender> {
        self.core.try_add_sender().then(|| Sender::new(Arc::clone(&self.core)))
    }

    /// Closes the channel for all senders, as [`Sender::close`] does.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() {
    /// let (tx, _rx) = turbostream::channel();
    /// let weak = tx.downgrade();
    /// assert_eq!((weak.sender_count(), weak.receiver_count()), (1, 1));
    /// weak.close();
    /// assert!(tx.is_closed());
    /// # }
    /// ```
    pub fn close(&self) {
        self.core.close();
    }

    /// Returns the number of senders that hold the channel open.
    ///
    /// A handle that was closed as a sink does not count. The number may have changed by the time it is returned.
    pub fn sender_count(&self) -> usize {
        self.core.senders()
    }

    /// Returns the number of receivers of the channel.
    ///
    /// The number may have changed by the time it is returned.
    pub fn receiver_count(&self) -> usize {
        self.core.receivers()
    }

    /// Returns the limit on the memory of the channel, as set by [`Builder::max_bytes`](crate::Builder::max_bytes).
    pub fn max_bytes(&self) -> usize {
        self.core.max_bytes()
    }
}

impl Sender {
    /// Returns a handle that does not hold the channel open.
    ///
    /// It is meant for a task that only sends while other tasks do.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() {
    /// let (tx, mut rx) = turbostream::channel();
    /// let weak = tx.downgrade();
    /// drop(tx);
    /// assert_eq!(rx.recv().await, None); // closed, although `weak` exists
    /// assert!(weak.upgrade().is_none());
    /// # }
    /// ```
    pub fn downgrade(&self) -> WeakSender {
        WeakSender { core: Arc::clone(self.core()) }
    }
}

impl fmt::Debug for WeakSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakSender")
            .field("name", &self.core.name())
            .field("closed", &self.core.is_closed())
            .finish()
    }
}
