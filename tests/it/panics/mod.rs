//! Panics in user code: wakers, strategies, payload drops, callbacks, closures and iterators.

mod send_closures;
mod sink_wakers;
mod user_code;
