//! A handle to the writing end that does not hold the channel open.

use std::fmt;

use super::Sender;
use crate::channel::Core;
use crate::sync::Arc;

/// Makes a [`Sender`] again for as long as the channel has one; made by [`Sender::downgrade`].
///
/// It does not keep the channel from closing when the last `Sender` is dropped, and does not open it again.
#[derive(Clone)]
pub struct WeakSender {
    core: Arc<Core>,
}

impl WeakSender {
    /// Another sender, or `None` once all of them are gone.
    ///
    /// A channel that a receiver closed still has its senders: the new one is as closed as those.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() {
    /// let (tx, rx) = turbostream::channel();
    /// let weak = tx.downgrade();
    /// weak.upgrade().unwrap().send("while there is one").await.unwrap();
    /// drop(tx);
    /// assert!(weak.upgrade().is_none());
    /// assert_eq!(rx.recv().await.unwrap(), "while there is one");
    /// assert_eq!(rx.recv().await, None);
    /// # }
    /// ```
    pub fn upgrade(&self) -> Option<Sender> {
        self.core.add_sender_to_others().then(|| Sender::new(Arc::clone(&self.core)))
    }
}

impl Sender {
    /// A handle that does not hold the channel open: for a task that only sends while others do.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() {
    /// let (tx, rx) = turbostream::channel();
    /// let weak = tx.downgrade();
    /// drop(tx);
    /// assert_eq!(rx.recv().await, None); // closed, whatever became of `weak`
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
