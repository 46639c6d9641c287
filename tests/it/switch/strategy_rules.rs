//! The rules of the built-in strategies, called directly.

use std::time::Duration;

use proptest::prelude::*;
use turbostream::{
    ActiveSegment, ByteCount, Linger, MessageCount, SwitchLimits, SwitchStrategy, TimeWindow, Weighted,
};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn active(messages: usize, elapsed: Duration) -> ActiveSegment {
    ActiveSegment {
        messages,
        bytes: messages * 10,
        elapsed,
        age: elapsed / 2,
        capacity_messages: 100,
        capacity_bytes: 1 << 20,
    }
}

#[test]
fn weighted_rule_matches_table() {
    let rule = Weighted::new(ms(10));
    for (messages, elapsed, expected) in [
        (85, ms(10), true),
        (70, ms(1), false),
        (50, ms(5), false),
        (84, ms(0), false),
        (90, ms(9), true),
        (100, ms(0), true),
        (1, ms(10), true),
        (0, ms(0), false),
        (0, ms(10), false),
        (0, Duration::MAX, false),
        (1, Duration::MAX, true),
    ] {
        assert_eq!(
            rule.should_switch(&active(messages, elapsed)),
            expected,
            "{messages} messages, {elapsed:?}"
        );
    }
}

#[test]
fn count_and_window_rules_match_table() {
    assert!(!MessageCount(10).should_switch(&active(9, ms(1_000_000))));
    assert!(MessageCount(10).should_switch(&active(10, ms(0))));
    assert!(!ByteCount(100).should_switch(&active(9, ms(1_000_000))));
    assert!(ByteCount(100).should_switch(&active(10, ms(0))));
    assert!(!TimeWindow(ms(10)).should_switch(&active(99, ms(9))));
    assert!(TimeWindow(ms(10)).should_switch(&active(1, ms(10))));
    assert!(!Linger(ms(10)).should_switch(&active(99, ms(19))));
    assert!(Linger(ms(10)).should_switch(&active(1, ms(20))));
    assert!(!Linger(ms(10)).should_switch(&active(0, ms(20))));
}

#[test]
fn zero_window_and_zero_capacity_never_divide_by_zero() {
    let strategies: [&dyn SwitchStrategy; 7] = [
        &Weighted::new(Duration::ZERO),
        &Weighted::new(ms(10)),
        &Weighted::default(),
        &TimeWindow(Duration::ZERO),
        &Linger(Duration::ZERO),
        &MessageCount(0),
        &ByteCount(0),
    ];
    for (at, strategy) in strategies.into_iter().enumerate() {
        for elapsed in [Duration::ZERO, ms(1), Duration::MAX] {
            let full = ActiveSegment {
                messages: 1,
                bytes: 0,
                elapsed,
                age: elapsed,
                capacity_messages: 0,
                capacity_bytes: 0,
            };
            let empty = ActiveSegment { messages: 0, ..full };
            assert!(strategy.should_switch(&full), "strategy {at}, {elapsed:?}");
            assert!(!strategy.should_switch(&empty), "strategy {at} switches an empty segment");
        }
    }
    assert!(Weighted::new(Duration::ZERO).should_switch(&active(1, Duration::ZERO)));
    assert!(TimeWindow(Duration::ZERO).should_switch(&active(1, Duration::ZERO)));
}

#[test]
fn weights_and_threshold_are_configurable() {
    let half_full = Weighted::new(ms(10)).weights(0.0, 1.0).threshold(0.5);
    assert!(!half_full.should_switch(&active(49, ms(9))));
    assert!(half_full.should_switch(&active(50, ms(0))));
    let half_time = Weighted::new(ms(10)).weights(1.0, 0.0).threshold(0.5);
    assert!(!half_time.should_switch(&active(99, ms(4))));
    assert!(half_time.should_switch(&active(1, ms(5))));
}

/// Calls that are too early would only cost time, but limits and checks exist to avoid them.
#[test]
fn limits_and_checks_call_strategy_no_earlier_than_needed() {
    struct Plain;
    impl SwitchStrategy for Plain {
        fn should_switch(&self, _: &ActiveSegment) -> bool {
            false
        }
    }
    let (none, every) = (SwitchLimits::NEVER, SwitchLimits::EVERY_MESSAGE);
    let messages = |messages| SwitchLimits { messages, ..none };
    let weighted = Weighted::new(ms(10));
    type Row<'a> = (&'a dyn SwitchStrategy, usize, Duration, SwitchLimits, Option<Duration>);
    let table: [Row<'_>; 14] = [
        (&Plain, 1, ms(3), every, Some(ms(1))),
        (&MessageCount(30), 1, ms(3), messages(30), None),
        (&ByteCount(30), 1, ms(3), SwitchLimits { bytes: 30, ..none }, None),
        (&TimeWindow(ms(10)), 1, ms(3), none, Some(ms(7))),
        (&TimeWindow(ms(10)), 1, ms(11), every, Some(ms(0))),
        (&Linger(ms(10)), 1, ms(6), none, Some(ms(7))),
        (&Linger(ms(10)), 1, ms(22), every, Some(ms(0))),
        // A full segment is due after 6.25 ms. After that, the limit falls each millisecond.
        (&weighted, 0, ms(0), messages(100), Some(Duration::from_micros(6250))),
        (&weighted, 50, ms(2), messages(100), Some(Duration::from_micros(4250))),
        (&weighted, 50, ms(7), messages(89), Some(ms(1))),
        (&weighted, 90, ms(7), messages(89), Some(Duration::from_micros(750))),
        (&weighted, 50, Duration::from_micros(9500), every, Some(Duration::from_micros(500))),
        // For a longer window, the step is a sixteenth of it.
        (&Weighted::new(ms(160)), 0, ms(120), messages(88), Some(ms(10))),
        (&weighted, 50, ms(10), every, Some(ms(0))),
    ];
    for (at, (strategy, messages, elapsed, limits, check)) in table.into_iter().enumerate() {
        let active = active(messages, elapsed);
        assert_eq!(strategy.limits(&active), limits, "limits of row {at}");
        let asked = strategy.next_check(&active);
        let close = match (asked, check) {
            (Some(asked), Some(check)) => asked.abs_diff(check) < Duration::from_micros(1),
            (asked, check) => asked == check,
        };
        assert!(close, "check of row {at}: {asked:?}");
    }
}

fn weight() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(f64::INFINITY), Just(f64::NAN), Just(-1.0), Just(1e300), 0.0..2.0]
}

fn time() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(Duration::ZERO), Just(Duration::MAX), (0..20_000_u64).prop_map(Duration::from_micros)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..Default::default() })]

    /// A strategy never panics for any setting. With sensible settings, its limits never hide a switch from senders.
    #[test]
    fn strategy_never_panics_or_contradicts_its_limits(
        window in time(),
        elapsed in time(),
        weights in (weight(), weight(), weight()),
        messages in 0..200_usize,
        bytes in prop_oneof![Just(0), Just(usize::MAX), 0..2000_usize],
        capacity_messages in prop_oneof![Just(0), Just(usize::MAX), 1..200_usize],
    ) {
        let active =
            ActiveSegment { messages, bytes, elapsed, age: elapsed / 3, capacity_messages, capacity_bytes: 1000 };
        let strategies: [&dyn SwitchStrategy; 6] = [
            &Weighted::new(window),
            &Weighted::new(window).weights(weights.0, weights.1).threshold(weights.2),
            &TimeWindow(window),
            &Linger(window),
            &MessageCount(bytes),
            &ByteCount(messages),
        ];
        for strategy in strategies {
            let (yes, limits) = (strategy.should_switch(&active), strategy.limits(&active));
            let asked = messages >= limits.messages || bytes >= limits.bytes;
            // A full segment is switched whether or not the strategy is called.
            prop_assert!(!yes || messages > 0);
            let is_sensible = [weights.0, weights.1, weights.2].iter().all(|w| w.is_finite() && *w >= 0.0);
            prop_assert!(!yes || asked || messages >= capacity_messages || !is_sensible, "{active:?} {limits:?}");
            prop_assert!(strategy.next_check(&active).is_none_or(|wait| wait <= window));
        }
    }

    /// The weighted rule equals the documented formula.
    #[test]
    fn weighted_rule_equals_its_formula(messages in 1..100_usize, micros in 0..10_000_u64) {
        let sum = 0.4 * micros as f64 / 10_000.0 + 0.6 * messages as f64 / 100.0;
        prop_assume!((sum - 0.85).abs() > 1e-6);
        let yes = Weighted::new(ms(10)).should_switch(&active(messages, Duration::from_micros(micros)));
        prop_assert_eq!(yes, sum >= 0.85);
    }
}
