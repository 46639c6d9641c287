//! A future that mostly has its result at the first poll.

use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

pin_project! {
    /// Asks `quick` at the first poll; if it has no result, goes on as the future that `slow` makes.
    ///
    /// An `async fn` would do the same, but moves its arguments about in memory first, which takes as long as sending a
    /// small message does.
    pub(crate) struct QuickOr<T, Q, S, F> {
        input: Option<(T, Q, S)>,
        #[pin]
        going_on: Option<F>,
    }
}

pub(crate) fn quick_or<T, R, Q, S, F>(input: T, quick: Q, slow: S) -> QuickOr<T, Q, S, F>
where
    Q: Fn(&T) -> Option<R>,
    S: FnOnce(T) -> F,
    F: Future<Output = R>,
{
    QuickOr { input: Some((input, quick, slow)), going_on: None }
}

impl<T, R, Q, S, F> Future for QuickOr<T, Q, S, F>
where
    Q: Fn(&T) -> Option<R>,
    S: FnOnce(T) -> F,
    F: Future<Output = R>,
{
    type Output = R;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R> {
        let mut this = self.project();
        if let Some((input, quick, _)) = this.input {
            if let Some(result) = quick(input) {
                return Poll::Ready(result);
            }
            let (input, _, slow) = this.input.take().expect("just seen");
            this.going_on.set(Some(slow(input)));
        }
        this.going_on.as_pin_mut().expect("polled after it was done").poll(cx)
    }
}
