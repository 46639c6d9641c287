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
}

pin_project! {
    /// Tries `input` at the first poll; if that was not enough, goes on as the future that `slow` makes of it.
    ///
    /// An `async fn` would do the same, but moves its arguments about in memory first, which takes as long as sending a
    /// small message does.
    pub(crate) struct QuickOr<T, S, F> {
        input: Option<(T, S)>,
        #[pin]
        going_on: Option<F>,
    }
}

impl<T, S, F> QuickOr<T, S, F>
where
    T: Quick,
    S: FnOnce(T) -> F,
    F: Future<Output = T::Output>,
{
    #[inline(always)]
    pub(crate) fn new(input: T, slow: S) -> Self {
        Self { input: Some((input, slow)), going_on: None }
    }

    #[cold]
    #[inline(never)]
    fn go_on(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T::Output> {
        let mut this = self.project();
        if let Some((input, slow)) = this.input.take() {
            this.going_on.set(Some(slow(input)));
        }
        this.going_on.as_pin_mut().expect("polled after it was done").poll(cx)
    }
}

impl<T, S, F> Future for QuickOr<T, S, F>
where
    T: Quick,
    S: FnOnce(T) -> F,
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
            None => self.go_on(cx),
        }
    }
}
