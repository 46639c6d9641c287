//! Futures that mostly complete at their first poll.

use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

/// An operation that mostly completes without waiting.
pub(crate) trait FastPath: Sized {
    type Output;

    /// Completes the operation in the common case; `Pending` leaves everything as it is.
    ///
    /// Implementations are inlined: a result that is passed through memory costs more than the operation.
    fn try_fast(&mut self) -> Poll<Self::Output>;

    /// Completes the operation in another frequent case, and writes the result to `polled`; false leaves everything as it is.
    ///
    /// A large result is moved once: two ways to make one that meet in [`try_fast`](Self::try_fast) would go through memory.
    #[inline(always)]
    fn try_into(&mut self, _polled: &mut Poll<Self::Output>) -> bool {
        false
    }

    /// Tries the operation in every case in which it need not wait.
    fn try_slow(self, cx: &mut Context<'_>) -> SlowPath<Self::Output, Self>;
}

/// The result of an operation that has not waited.
pub(crate) enum SlowPath<T, O> {
    Done(T),
    /// The task has used up its budget: it yields, and then retries the operation.
    Yield(O),
    /// The operation has to wait.
    Wait(O),
}

pin_project! {
    /// Tries `operation` at the first poll; if it has to wait, continues as the future that `wait` makes of it.
    ///
    /// An `async fn` would do the same, but moves its arguments in memory first, which takes as long as sending a small
    /// message. A future that awaits this one moves it too, more than once: `wait` should box what is large and seldom
    /// needed.
    pub(crate) struct FastThenWait<T, W, F> {
        operation: Option<(T, W)>,
        #[pin]
        waiting: Option<F>,
    }
}

impl<T, W, F> FastThenWait<T, W, F>
where
    T: FastPath,
    W: FnOnce(T) -> F,
    F: Future<Output = T::Output>,
{
    #[inline(always)]
    pub(crate) fn new(operation: T, wait: W) -> Self {
        Self { operation: Some((operation, wait)), waiting: None }
    }

    /// Polls without the fast path, and writes the result to `polled`.
    ///
    /// If this function returned it, the result of a fast poll would be passed through memory too.
    #[cold]
    #[inline(never)]
    fn poll_cold(self: Pin<&mut Self>, cx: &mut Context<'_>, polled: &mut Poll<T::Output>) {
        let mut this = self.project();
        if this.operation.as_mut().is_some_and(|(operation, _)| operation.try_into(polled)) {
            *this.operation = None;
            return;
        }
        if let Some((operation, wait)) = this.operation.take() {
            match operation.try_slow(cx) {
                SlowPath::Yield(operation) => {
                    *this.operation = Some((operation, wait));
                    return;
                }
                SlowPath::Done(result) => {
                    *polled = Poll::Ready(result);
                    return;
                }
                SlowPath::Wait(operation) => this.waiting.set(Some(wait(operation))),
            }
        }
        *polled = this.waiting.as_pin_mut().expect("polled after it was done").poll(cx);
    }
}

impl<T, W, F> Future for FastThenWait<T, W, F>
where
    T: FastPath,
    W: FnOnce(T) -> F,
    F: Future<Output = T::Output>,
{
    type Output = T::Output;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T::Output> {
        if let Some((operation, _)) = self.as_mut().project().operation {
            if let Poll::Ready(result) = operation.try_fast() {
                *self.project().operation = None;
                return Poll::Ready(result);
            }
        }
        let mut polled = Poll::Pending;
        self.poll_cold(cx, &mut polled);
        polled
    }
}
