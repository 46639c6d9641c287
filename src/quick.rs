//! Futures that mostly have their result at the first poll.

use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

/// What can mostly be done at once.
pub(crate) trait Quick {
    type Output;

    /// Does it, or leaves everything as it is. To be inlined: results that go through memory cost more than what is
    /// done for them.
    fn try_at_once(&mut self) -> Option<Self::Output>;

    /// Does it where that is more than usual; `Pending` only to let other tasks run. Nothing if it has to be waited for.
    fn try_further(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::Output>>;
}

pin_project! {
    /// Tries `input` at the first poll; if that was not enough, goes on as the future that `wait` makes of it.
    ///
    /// An `async fn` would do the same, but moves its arguments about in memory first, which takes as long as sending a
    /// small message does. Whoever awaits this inside of a future of its own moves that too, more than once: what is
    /// seldom needed and large, `wait` had better put in a box.
    pub(crate) struct QuickOr<T, W, F> {
        input: Option<(T, W)>,
        #[pin]
        waiting: Option<F>,
    }
}

impl<T, W, F> QuickOr<T, W, F>
where
    T: Quick,
    W: FnOnce(T) -> F,
    F: Future<Output = T::Output>,
{
    #[inline(always)]
    pub(crate) fn new(input: T, wait: W) -> Self {
        Self { input: Some((input, wait)), waiting: None }
    }

    /// Leaves what the poll came to in `polled`. Were it returned, the result of a quick poll would have to go
    /// through memory too.
    #[cold]
    #[inline(never)]
    fn go_on(self: Pin<&mut Self>, cx: &mut Context<'_>, polled: &mut Poll<T::Output>) {
        let mut this = self.project();
        if let Some((input, _)) = this.input {
            match input.try_further(cx) {
                Poll::Pending => return,
                Poll::Ready(Some(result)) => {
                    *this.input = None;
                    *polled = Poll::Ready(result);
                    return;
                }
                Poll::Ready(None) => {}
            }
        }
        if let Some((input, wait)) = this.input.take() {
            this.waiting.set(Some(wait(input)));
        }
        *polled = this.waiting.as_pin_mut().expect("polled after it was done").poll(cx);
    }
}

impl<T, W, F> Future for QuickOr<T, W, F>
where
    T: Quick,
    W: FnOnce(T) -> F,
    F: Future<Output = T::Output>,
{
    type Output = T::Output;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T::Output> {
        match self.as_mut().project().input.as_mut().and_then(|(input, _)| input.try_at_once()) {
            Some(result) => {
                *self.project().input = None;
                Poll::Ready(result)
            }
            None => {
                let mut polled = Poll::Pending;
                self.go_on(cx, &mut polled);
                polled
            }
        }
    }
}
