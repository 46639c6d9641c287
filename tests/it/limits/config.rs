//! No configuration panics, hangs or is silently clamped; every build error names field, value and range.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::common::{current_runtime, ms, multi_runtime, plain};
use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tokio::runtime::Runtime;
use turbostream::{
    BuildError, Builder, ByteCount, MessageCount, ReadMode, Receiver, SendError, Sender, TimeWindow,
    TrySendError, Weighted, WhenFull,
};

type Built = Result<(Sender, Receiver), BuildError>;

fn set(builder: Builder, field: &str, value: usize) -> Builder {
    match field {
        "segment_bytes" => builder.segment_bytes(value),
        "segment_messages" => builder.segment_messages(value),
        "max_bytes" => builder.max_bytes(value),
        "max_message_bytes" => builder.max_message_bytes(value),
        _ => unreachable!("no such field"),
    }
}

/// Builds with one size set and defaults otherwise.
fn build_with(runtime: &Runtime, field: &str, value: usize) -> Built {
    set(turbostream::builder().runtime(runtime.handle().clone()), field, value).build()
}

const SIZES: [&str; 4] = ["segment_bytes", "segment_messages", "max_bytes", "max_message_bytes"];

/// Returns field and range of an expected `OutOfRange` error, after checking its text.
fn out_of_range(built: Built, expected: usize) -> (&'static str, usize, usize) {
    let error = built.err().unwrap_or_else(|| panic!("{expected} was accepted"));
    let BuildError::OutOfRange { field, value, min, max } = error else {
        panic!("not a range: {error:?}");
    };
    assert!(!(min..=max).contains(&value), "{error}");
    let text = error.to_string();
    for part in [field.to_owned(), value.to_string(), min.to_string(), max.to_string()] {
        assert!(text.contains(&part), "{text:?} lacks {part}");
    }
    (field, min, max)
}

#[test]
fn out_of_range_size_error_names_field_value_and_range() {
    plain(|| {
        let runtime = current_runtime(false);
        for name in SIZES {
            for outside in [0, usize::MAX] {
                if name == "max_message_bytes" && outside == 0 && build_with(&runtime, name, 0).is_ok() {
                    continue; // valid: a channel for empty messages only
                }
                let (field, min, max) = out_of_range(build_with(&runtime, name, outside), outside);
                assert!(field == name && min <= max, "{field} {min}..={max} for {name}");
                for bound in [min, max] {
                    // Another field may be out of range then, as `max_bytes` for a large segment.
                    let other = build_with(&runtime, name, bound)
                        .err()
                        .map(|error| out_of_range(Err(error), bound).0);
                    assert!(other != Some(name), "{name} {bound} was rejected");
                }
                if min > 0 {
                    assert_eq!(out_of_range(build_with(&runtime, name, min - 1), min - 1).0, name);
                }
                if max < usize::MAX {
                    assert_eq!(out_of_range(build_with(&runtime, name, max + 1), max + 1).0, name);
                }
            }
        }
    });
}

#[test]
fn out_of_range_error_names_unit_and_bounding_settings() {
    plain(|| {
        let runtime = current_runtime(false);
        let text = |builder: Builder| {
            let error = builder.runtime(runtime.handle().clone()).build().expect_err("out of range");
            error.to_string()
        };
        assert_eq!(
            text(turbostream::builder().prefetch(0)),
            "prefetch = 0 messages is out of range: 1 to 256 are accepted"
        );
        let error = text(turbostream::builder().segment_bytes(4096).max_bytes(4096));
        assert!(error.starts_with("max_bytes = 4096 bytes is out of range: 10496 to "), "{error}");
        assert!(error.contains("two segments (`segment_bytes`, `segment_messages`)"), "{error}");
        let error = text(turbostream::builder().max_bytes(1 << 20).max_message_bytes(1 << 20));
        assert!(error.contains("`max_bytes` must hold the message beside a segment"), "{error}");
    });
}

#[test]
fn max_bytes_must_hold_two_segments() {
    plain(|| {
        let runtime = current_runtime(false);
        let build = |max_bytes| {
            turbostream::builder()
                .runtime(runtime.handle().clone())
                .segment_bytes(4096)
                .segment_messages(16)
                .max_bytes(max_bytes)
                .build()
        };
        let two = 2 * (4096 + 16 * 8 + 128);
        assert!(build(two).is_ok());
        let (field, min, _) = out_of_range(build(two - 1), two - 1);
        assert_eq!((field, min), ("max_bytes", two));
        // Default segments grow with `max_bytes`.
        let build = |max_bytes| {
            let messages = turbostream::builder().segment_messages(1_000_000);
            messages.runtime(runtime.handle().clone()).max_bytes(max_bytes).build()
        };
        let (field, least, _) = out_of_range(build(1), 1);
        assert_eq!(field, "max_bytes");
        assert!(build(least).is_ok(), "{least} is not enough");
        let (_, min, _) = out_of_range(build(least - 1), least - 1);
        assert_eq!(min, least);
    });
}

#[test]
fn default_segment_has_one_entry_per_32_bytes() {
    plain(|| {
        let runtime = current_runtime(false);
        let builder = turbostream::builder().runtime(runtime.handle().clone()).segment_bytes(4096);
        let (tx, _rx) = builder.max_bytes(2 * (4096 + 128 * 8 + 128)).build().expect("room for two");
        assert_eq!((0..).take_while(|_| tx.try_send("").is_ok()).count(), 2 * 128);
    });
}

#[test]
fn small_max_bytes_shrinks_the_default_segments() {
    plain(|| {
        let runtime = current_runtime(false);
        for max_bytes in [16 << 10, 64 << 10, 1 << 20] {
            let (tx, mut rx) = build_with(&runtime, "max_bytes", max_bytes).expect("shrunk defaults");
            assert_eq!(tx.monitor().stats().max_bytes, max_bytes, "not clamped");
            tx.try_send(b"fits").expect("room");
            assert_eq!(rx.try_recv(), Ok(Bytes::from_static(b"fits")));
        }
    });
}

#[derive(Clone, Debug)]
struct Config {
    /// Values in the order of `SIZES`.
    sizes: [Option<usize>; 4],
    strategy: (usize, usize),
    flags: (bool, bool, bool),
    times: (Duration, Duration),
}

fn size() -> impl Strategy<Value = Option<usize>> {
    let near_a_power =
        (0..=32_u32, 0..3_usize).prop_map(|(bits, off)| (1_usize << bits).saturating_sub(1) + off);
    prop_oneof![
        2 => Just(None),
        2 => (0..5000_usize).prop_map(Some),
        4 => near_a_power.prop_map(Some),
        1 => (0..3_usize).prop_map(|off| Some(usize::MAX - off)),
    ]
}

fn duration() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(Duration::ZERO), Just(Duration::MAX), (0..10_000_u64).prop_map(Duration::from_micros)]
}

fn config() -> impl Strategy<Value = Config> {
    let sizes = [size(), size(), size(), size()];
    let strategy = (0..4_usize, prop_oneof![Just(0), Just(usize::MAX), 0..1000_usize]);
    (sizes, strategy, any::<(bool, bool, bool)>(), (duration(), duration()))
        .prop_map(|(sizes, strategy, flags, times)| Config { sizes, strategy, flags, times })
}

fn build(config: &Config) -> Built {
    let mut builder = turbostream::builder().name("drawn");
    for (field, size) in SIZES.into_iter().zip(config.sizes) {
        if let Some(size) = size {
            builder = set(builder, field, size);
        }
    }
    let n = config.strategy.1;
    builder = match config.strategy.0 {
        0 => builder.strategy(Weighted::new(Duration::from_micros(n as u64))),
        1 => builder.strategy(MessageCount(n)),
        2 => builder.strategy(ByteCount(n)),
        _ => builder.strategy(TimeWindow(Duration::from_micros(n as u64))),
    };
    let (on_demand, zero_copy, reject) = config.flags;
    builder
        .on_demand(on_demand)
        .read_mode(if zero_copy { ReadMode::ZeroCopy } else { ReadMode::Safe })
        .when_full(if reject { WhenFull::Reject } else { WhenFull::Wait })
        .lend_ttl(config.times.0)
        .pool_idle(config.times.1)
        .build()
}

/// Passes an empty, a small and the largest message (at most 1 MiB) through a fresh channel.
async fn pass_messages(tx: Sender, mut rx: Receiver, max_message: Option<usize>) {
    let max = max_message.unwrap_or(1).min(1 << 20);
    let lens = [0, 1.min(max), max];
    let write = async move {
        for len in lens {
            while let Err(error) = tx.send(vec![9; len]).await {
                assert!(matches!(error, SendError::Full(_)), "{error}");
                tokio::task::yield_now().await;
            }
        }
    };
    let read = async {
        for len in lens {
            assert!(rx.recv().await.expect("one message") == vec![9; len]);
        }
        assert_eq!(rx.recv().await, None);
    };
    futures::join!(write, read);
}

#[test]
fn no_configuration_panics_or_hangs() {
    plain(|| {
        let runtime = current_runtime(false);
        let mut runner =
            TestRunner::new(ProptestConfig { cases: 1500, failure_persistence: None, ..Default::default() });
        let drawn = runner.run(&config(), |mut config| {
            runtime.block_on(async {
                // Following the ranges of the build errors leads to a valid configuration.
                let (tx, rx) = (0..6)
                    .find_map(|_| match build(&config) {
                        Ok(ends) => Some(ends),
                        failed => {
                            let (field, min, max) = out_of_range(failed, 0);
                            let at = SIZES.iter().position(|name| *name == field).expect("a known field");
                            config.sizes[at] = Some(config.sizes[at].unwrap_or(min).clamp(min, max));
                            None
                        }
                    })
                    .expect("a valid configuration after six corrections");
                let max_message = config.sizes[3];
                if let Some(over) = max_message.map(|n| n.saturating_add(1)).filter(|&n| n <= 1 << 20) {
                    let result = tx.try_send(vec![1; over]);
                    prop_assert!(matches!(result, Err(TrySendError::TooLarge { .. })), "{result:?}");
                }
                let moved = pass_messages(tx, rx, max_message);
                let moved = tokio::time::timeout(Duration::from_secs(20), moved).await;
                prop_assert!(moved.is_ok(), "a message is stuck");
                Ok(())
            })
        });
        drawn.unwrap_or_else(|error| panic!("{error}"));
    });
}

#[test]
fn channel_outside_a_runtime_panics_with_advice() {
    let panic = catch_unwind(AssertUnwindSafe(|| drop(turbostream::channel()))).expect_err("no runtime here");
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).expect("a text");
    assert!(text.contains("builder().runtime("), "{text}");
}

#[test]
fn build_outside_a_runtime_returns_no_runtime() {
    let error = turbostream::builder().build().expect_err("no runtime here");
    assert_eq!(error, BuildError::NoRuntime);
    assert!(error.to_string().contains("runtime("), "{error}");
}

#[test]
fn runtime_without_time_driver_returns_no_time() {
    plain(|| {
        let timeless = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let timed = current_runtime(false);
        timeless.block_on(async {
            let error = turbostream::builder().build().expect_err("it has no time driver");
            assert_eq!(error, BuildError::NoTime);
            assert!(error.to_string().contains("enable_time"), "{error}");
            let named = turbostream::builder().runtime(timed.handle().clone()).build();
            assert!(named.is_ok(), "the given runtime has a time driver");
        });
        let named = turbostream::builder().runtime(timeless.handle().clone()).build();
        assert_eq!(named.err(), Some(BuildError::NoTime));
    });
}

#[test]
fn given_runtime_drives_the_timer_for_plain_threads() {
    plain(|| {
        let runtime = multi_runtime();
        let (tx, mut rx) = turbostream::builder()
            .runtime(runtime.handle().clone())
            .on_demand(false)
            .strategy(TimeWindow(ms(3)))
            .build()
            .expect("a runtime was given");
        tx.try_send("by its window").expect("room");
        let got = loop {
            match rx.try_recv() {
                Ok(m) => break m,
                Err(_) => std::thread::yield_now(),
            }
        };
        assert_eq!(got, "by its window");
    });
}
