//! Auto traits of public types and futures: `Send`, `Sync`, `Unpin` and unwind safety. They are part of the API without
//! being written in a signature, and a new field can remove them.

use std::cell::Cell;
use std::fmt::Debug;
use std::iter;
use std::marker::PhantomPinned;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::rc::Rc;

use crate::common::{LIMIT, current_runtime, multi};
use bytes::Bytes;
use static_assertions::{assert_impl_all, assert_not_impl_any, assert_obj_safe};
#[cfg(feature = "forward")]
use turbostream::forward::*;
use turbostream::*;

/// Asserts that each of the types implements all of the traits, and lists them by name.
macro_rules! assert_all {
    ($list:ident, $traits:tt: $($type:ty),+ $(,)?) => {
        #[allow(dead_code, reason = "read only with all features")]
        const $list: &[&str] = &[$(stringify!($type)),+];
        $(assert_all!(@ $type: $traits);)+
    };
    (@ $type:ty: ($($trait:ident),+)) => {
        assert_impl_all!($type: $($trait),+);
    };
}

assert_all!(HANDLES, (Send, Sync, Unpin, UnwindSafe, RefUnwindSafe):
    Sender, WeakSender, Receiver, Monitor, Callback, Batch, BatchIter, BatchSlices<'static>, IntoBatches, Reader, Writer, BlockingWriter);
assert_all!(VALUES, (Send, Sync, Unpin, UnwindSafe, RefUnwindSafe):
    ActiveSegment, Bucket, ByteCount, StatsDelta<'static>, Counter, Drops, Forwarding, Gauge, Histogram, Linger, MessageCount, ReadMode,
    SendErrors, Stats, SwitchLimits, Switches, TimeWindow, HistogramKind, Limit, Weighted, WhenFull);
assert_all!(ERRORS, (Send, Sync, Unpin, UnwindSafe, RefUnwindSafe):
    BuildError, RecvTimeoutError, TryRecvError, SendError<Bytes>, SendTimeoutError<Bytes>, TrySendError<Bytes>,
    SendManyError<Bytes, iter::Empty<Bytes>>, Remaining<Bytes, iter::Empty<Bytes>>);
assert_all!(BORROWED, (Send, Sync, Unpin, RefUnwindSafe): Batches<'static>, MessageRef<'static>);
assert_all!(WITH_USER_CODE, (Send, Sync, Unpin): Builder);
#[cfg(feature = "tracing-writer")]
assert_all!(TRACING_WRITER, (Send, Sync, Unpin, UnwindSafe, RefUnwindSafe): TracingWriter);
#[cfg(feature = "tracing-writer")]
assert_all!(TRACING_WORKER, (Send, Sync, Unpin): WorkerGuard, WriteReport);
#[cfg(feature = "otel")]
assert_all!(OTEL, (Send, Sync, Unpin): OtelRecorder);
#[cfg(feature = "prometheus")]
assert_all!(PROMETHEUS, (Send, Sync, Unpin): PrometheusRecorder);

#[cfg(feature = "forward")]
assert_all!(FORWARD, (Send, Sync, Unpin): Confirmation, Connection, FlushError, FlushPoint, ForwardError, ForwardErrorKind, ForwardHandle,
    ForwardReport, ForwardStats, MessageId<'static>, Outgoing, Packing, PublishError, Rejection, StopReason, Unconfirmed, Unpack,
    UnpackError);
#[cfg(feature = "nats")]
assert_all!(NATS, (Send, Sync, Unpin): AckWhen, JetStreamEvents, SourceEnd, SourceError, SourceErrorKind, SourceHandle,
    SourceRejection, SourceReport, SourceStats);
// Hold user code, which may be neither `Sync` nor `Unpin`.
#[cfg(feature = "nats")]
assert_all!(NATS_WITH_USER_CODE, (Send): Forwarder<JetStream>, JetStream, JetStreamReceipt, JetStreamSource);

// Holds a user strategy and recorder, whose unwind safety is unknown.
assert_not_impl_any!(Builder: UnwindSafe, RefUnwindSafe);
// Holds an `io::Error`, whose unwind safety is unknown too.
#[cfg(feature = "tracing-writer")]
assert_not_impl_any!(WriteReport: UnwindSafe, RefUnwindSafe);

assert_obj_safe!(SwitchStrategy, Recorder);
assert_impl_all!(dyn SwitchStrategy: Send, Sync);
assert_impl_all!(dyn Recorder: Send, Sync);

/// Asserts that each type has exactly the auto traits of its parameter.
macro_rules! assert_as_its_parameter {
    ($($type:ident),+) => {$(
        assert_impl_all!($type<Cell<u8>>: Send, Unpin, UnwindSafe);
        assert_not_impl_any!($type<Cell<u8>>: Sync, RefUnwindSafe);
        assert_impl_all!($type<Rc<u8>>: Unpin);
        assert_not_impl_any!($type<Rc<u8>>: Send, Sync);
        assert_impl_all!($type<&'static mut u8>: Send, Sync, Unpin, RefUnwindSafe);
        assert_not_impl_any!($type<&'static mut u8>: UnwindSafe);
        assert_impl_all!($type<PhantomPinned>: Send, Sync);
        assert_not_impl_any!($type<PhantomPinned>: Unpin);
    )+};
}

type SendManyErrorPayload<P> = SendManyError<P, iter::Empty<u8>>;
type SendManyErrorIterator<I> = SendManyError<u8, I>;
type RemainingPayload<P> = Remaining<P, iter::Empty<u8>>;
type RemainingIterator<I> = Remaining<u8, I>;

assert_as_its_parameter!(SendError, SendTimeoutError, TrySendError);
assert_as_its_parameter!(SendManyErrorPayload, SendManyErrorIterator, RemainingPayload, RemainingIterator);

/// The public API listing covers all features.
#[cfg(all(feature = "prometheus", feature = "tracing-writer", feature = "nats"))]
mod completeness {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn asserted_types_cover_the_public_api() {
        let asserted = [
            HANDLES,
            BORROWED,
            VALUES,
            ERRORS,
            WITH_USER_CODE,
            TRACING_WRITER,
            TRACING_WORKER,
            OTEL,
            PROMETHEUS,
            FORWARD,
            NATS,
            NATS_WITH_USER_CODE,
        ];
        let asserted: BTreeSet<_> = asserted.concat().into_iter().map(identifier).collect();
        let listing = include_str!("../../../docs/public-api.txt");
        let listed: BTreeSet<_> = listing.lines().filter_map(defined_type).map(identifier).collect();
        assert_eq!(asserted, listed);
    }

    /// Returns the path after the crate name, if the line of the listing defines a type.
    fn defined_type(line: &str) -> Option<&str> {
        let item = line.trim_start_matches("#[non_exhaustive] ").trim_start_matches("pub ");
        let (_, path) =
            item.split_once(' ').filter(|(kind, _)| ["struct", "enum", "union"].contains(kind))?;
        let path = path.strip_prefix("turbostream::")?;
        Some(path.strip_prefix("forward::").unwrap_or(path))
    }

    /// Returns the name before generics or fields.
    fn identifier(type_: &str) -> &str {
        type_.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default()
    }
}

/// Fails to compile if the value implements the trait: both implementations apply then, which is ambiguous.
macro_rules! assert_is_not {
    ($trait:path: $value:expr) => {{
        trait IsOrNot<Answer> {
            fn decide(&self) {}
        }
        impl<T> IsOrNot<()> for T {}
        struct Yes;
        impl<T: $trait> IsOrNot<Yes> for T {}
        $value.decide();
    }};
}

/// Asserts `Send + Sync` and not `Unpin`: a pending future may be linked into a wait list.
macro_rules! assert_future {
    ($value:expr) => {{
        let future = $value;
        assert_is_not!(Unpin: future);
        send_sync(future)
    }};
}

/// Asserts `Send + Sync`.
fn send_sync<F: Future + Send + Sync>(future: F) -> F {
    future
}

/// Asserts `Send + Sync + Unpin`: the waiting part of these futures is boxed.
fn send_sync_unpin<F: Future + Send + Sync + Unpin>(future: F) -> F {
    future
}

#[test]
fn futures_are_send_and_sync_and_unpin_only_when_boxed() {
    multi(async {
        let (tx, mut rx) = turbostream::builder().read_mode(ReadMode::ZeroCopy).build().expect("valid");
        assert!(send_sync_unpin(tx.send(&b"1"[..])).await.is_ok());
        assert!(assert_future!(tx.send_timeout(String::from("2"), LIMIT)).await.is_ok());
        assert_eq!(assert_future!(tx.send_many([vec![3], vec![4]])).await.ok(), Some(2));
        assert!(send_sync_unpin(tx.send_with(8, |buf| buf.len())).await.is_ok());

        let mut many = Vec::new();
        assert_eq!(assert_future!(rx.recv()).await.as_deref(), Some(&b"1"[..]));
        assert_eq!(assert_future!(rx.recv_timeout(LIMIT)).await.as_deref(), Ok(&b"2"[..]));
        assert_eq!(assert_future!(rx.recv_many(&mut many, 1)).await, 1);
        assert_eq!(assert_future!(rx.recv_batch(1)).await.map(|batch| batch.len()), Some(1));

        let callback = rx.on_message(drop);
        assert!(assert_future!(tx.drained()).await.is_ok());
        let rx = assert_future!(callback.unregister()).await;
        assert!(rx.is_empty());
        drop(rx);
        assert_future!(tx.closed()).await;
    });
}

#[cfg(feature = "tracing-writer")]
#[test]
fn tracing_writer_shutdown_future_is_send_and_sync() {
    multi(async {
        let (_writer, guard) = turbostream::builder().tracing_writer(std::io::sink()).expect("valid");
        assert!(assert_future!(guard.shutdown()).await.is_complete());
    });
}

#[test]
fn futures_of_thread_bound_payloads_are_not_send_or_sync() {
    current_runtime(false).block_on(async {
        let (tx, rx) = turbostream::channel();
        let count = Rc::new(Cell::new(0_u8));

        let payloads = [1, 2].map(|n| (n, Rc::clone(&count)));
        let sending = tx.send_many(payloads.into_iter().map(|(n, count)| [n + count.replace(1)]));
        assert_is_not!(Send: sending);
        assert_eq!(sending.await.ok(), Some(2));

        let counted = Rc::clone(&count);
        let sending = tx.send_with(8, move |_| counted.replace(2).into());
        assert_is_not!(Send: sending);
        assert!(sending.await.is_ok());

        // A `Cell` is `Send` and not `Sync`.
        let cell = Cell::new(3);
        let sending = tx.send_with(8, move |_| cell.get());
        assert_is_not!(Sync: sending);
        assert!(assert_send(sending).await.is_ok());
        assert_eq!((rx.len(), count.get()), (4, 2));
    });
}

fn assert_send<F: Future + Send>(future: F) -> F {
    future
}

/// Generic senders: their futures are `Send + Sync` if the payload is.
mod generic {
    use super::*;

    pub(super) fn send<P>(tx: &Sender, payload: P) -> impl Future<Output: Debug> + Send + Sync
    where
        P: Payload + Send + Sync,
    {
        tx.send(payload)
    }

    pub(super) fn send_timeout<P>(tx: &Sender, payload: P) -> impl Future<Output: Debug> + Send + Sync
    where
        P: Payload + Send + Sync,
    {
        tx.send_timeout(payload, LIMIT)
    }

    pub(super) fn send_many<I>(tx: &Sender, payloads: I) -> impl Future<Output: Debug> + Send + Sync
    where
        I: IntoIterator<Item: Payload + Send + Sync, IntoIter: Send + Sync> + Send + Sync,
    {
        tx.send_many(payloads)
    }

    pub(super) fn send_with<F>(tx: &Sender, write: F) -> impl Future<Output: Debug> + Send + Sync
    where
        F: FnOnce(&mut [u8]) -> usize + Send + Sync,
    {
        tx.send_with(8, write)
    }
}

#[test]
fn generic_futures_are_send_and_sync_when_their_payloads_are() {
    multi(async {
        let (tx, rx) = turbostream::channel();
        generic::send(&tx, "1").await;
        generic::send_timeout(&tx, String::from("2")).await;
        generic::send_many(&tx, vec![Bytes::from_static(b"3")]).await;
        generic::send_with(&tx, |buf| buf.len()).await;
        assert_eq!(rx.len(), 4);
    });
}

#[test]
fn handles_are_usable_across_catch_unwind() {
    multi(async {
        let (tx, mut rx) = turbostream::channel();
        assert_eq!(tx.send_many(["1", "2", "3"]).await.ok(), Some(3));
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let batch = rx.try_recv().expect("three were sent");
            tx.try_send("4").expect("there is room");
            panic!("{batch:?} is dropped by the unwinding");
        }));
        assert!(caught.is_err());
        assert_eq!(rx.try_recv().as_deref(), Ok(&b"2"[..]));
        let batch = rx.recv_batch(10).await.expect("open");
        let caught = catch_unwind(|| assert_eq!(batch.len(), 0));
        assert!(caught.is_err());
        assert_eq!(batch.get(0), Some(&b"3"[..]));
    });
}
