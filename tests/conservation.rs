//! No message is lost, repeated, torn or out of order, over a matrix of configurations.

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use common::{HEADER, check, current, hash, message, multi};
use futures::StreamExt;
use tokio::task::JoinSet;
use turbostream::{
    ActiveSegment, ByteCount, MessageCount, ReadMode, Receiver, Sender, SwitchStrategy, TimeWindow, Weighted,
};

const LARGEST: usize = 1 << 20;
const STRATEGIES: usize = 5;

/// A strategy that never switches.
struct Never;

impl SwitchStrategy for Never {
    fn should_switch(&self, _: &ActiveSegment) -> bool {
        false
    }
}

#[derive(Clone, Copy, Debug)]
struct Case {
    senders: u32,
    receivers: usize,
    messages: u32,
    strategy: usize,
    mode: ReadMode,
    on_demand: bool,
    small: bool,
}

impl Case {
    /// Returns the length of message `number` of `sender`: mostly small, some of every size up to 1 MiB.
    fn len(&self, sender: u32, number: u32) -> usize {
        let h = hash(sender, number);
        let pick = |low: usize, high: usize| low + (h >> 32) as usize % (high - low + 1);
        if self.small {
            return pick(0, 200);
        }
        match h % 200 {
            0..20 => 0,
            20..40 => pick(1, HEADER - 1),
            40..140 => pick(HEADER, 300),
            140..175 => pick(301, 4096),
            175..190 => pick(4097, 40_000),
            190..198 => pick(40_000, 200_000),
            198 => pick(200_000, LARGEST),
            _ => LARGEST,
        }
    }

    /// A channel of two segments and some extra bytes, so that senders wait, with room for one largest message.
    fn channel(&self) -> (Sender, Receiver) {
        let (segment, messages) = if self.small { (4096, 64) } else { (64 << 10, 256) };
        let builder = turbostream::builder()
            .segment_bytes(segment)
            .segment_messages(messages)
            .max_bytes(if self.small { 16 << 10 } else { 2 * LARGEST })
            .on_demand(self.on_demand)
            .read_mode(self.mode);
        let builder = match self.strategy {
            0 => builder.strategy(Weighted::new(Duration::from_millis(2))),
            1 => builder.strategy(MessageCount(7)),
            2 => builder.strategy(TimeWindow(Duration::from_millis(1))),
            3 => builder.strategy(ByteCount(3000)),
            _ => builder.strategy(Never),
        };
        builder.build().expect("a valid configuration")
    }
}

async fn send_all(tx: Sender, sender: u32, case: Case) {
    for number in 0..case.messages {
        let bytes = message(sender, number, case.len(sender, number));
        match number % 3 {
            0 => tx.send(&bytes[..]).await.expect("open"),
            1 => tx.send(bytes).await.expect("open"),
            _ => tx.send(Bytes::from(bytes)).await.expect("open"),
        }
    }
}

/// What one receiver got, message by message.
#[derive(Default)]
struct Received {
    lens: Vec<usize>,
    with_header: Vec<(u32, u32)>,
    ranges: Vec<(u64, u64)>,
}

impl Received {
    fn record(&mut self, bytes: &[u8]) {
        self.lens.push(bytes.len());
        self.with_header.extend(check(bytes));
    }
}

/// Receives to the end. Each receiver of a case uses another of the four ways.
async fn receive_all(mut rx: Receiver, way: usize) -> Received {
    let mut received = Received::default();
    match way % 4 {
        0 => {
            while let Some(batch) = rx.recv_batch(50).await {
                assert!((1..=50).contains(&batch.len()));
                received.ranges.push((batch.first_sequence(), batch.len() as u64));
                batch.iter().for_each(|m| received.record(m));
            }
        }
        1 => {
            while let Some(m) = rx.recv().await {
                received.record(&m);
            }
        }
        2 => {
            let mut many = Vec::new();
            while rx.recv_many(&mut many, 20).await > 0 {
                assert!(many.len() <= 20);
                many.drain(..).for_each(|m| received.record(&m));
            }
        }
        _ => {
            while let Some(m) = rx.next().await {
                received.record(&m);
            }
        }
    }
    received
}

async fn run(case: Case, way: usize) {
    let (tx, rx) = case.channel();
    let monitor = tx.monitor();
    let mut receivers = JoinSet::new();
    for i in 0..case.receivers {
        receivers.spawn(receive_all(rx.clone(), way + i));
    }
    drop(rx);
    let mut senders = JoinSet::new();
    for sender in 0..case.senders {
        senders.spawn(send_all(tx.clone(), sender, case));
    }
    drop(tx);
    senders.join_all().await;
    let received = receivers.join_all().await;

    verify(case, &received);
    let stats = monitor.stats();
    let bytes: usize = received.iter().flat_map(|s| &s.lens).sum();
    let total = u64::from(case.senders * case.messages);
    assert_eq!((stats.sent_messages, stats.sent_bytes as usize), (total, bytes), "{case:?}");
    assert_eq!((stats.received_messages, stats.received_bytes as usize), (total, bytes), "{case:?}");
    assert_eq!((stats.queued_messages, stats.queued_bytes, stats.dropped_messages), (0, 0, 0), "{case:?}");
}

fn verify(case: Case, received: &[Received]) {
    let count = |lens: &mut dyn Iterator<Item = usize>| {
        let mut counts = BTreeMap::<usize, usize>::new();
        lens.for_each(|len| *counts.entry(len).or_default() += 1);
        counts
    };
    let sent = || (0..case.senders).flat_map(|s| (0..case.messages).map(move |n| (s, n)));
    let expected = count(&mut sent().map(|(s, n)| case.len(s, n)));
    assert_eq!(
        count(&mut received.iter().flat_map(|s| s.lens.iter().copied())),
        expected,
        "lengths, {case:?}"
    );

    let mut with_header: Vec<_> = received.iter().flat_map(|s| s.with_header.iter().copied()).collect();
    with_header.sort_unstable();
    let expected: Vec<_> = sent().filter(|&(s, n)| case.len(s, n) >= HEADER).collect();
    assert!(with_header == expected, "lost or repeated messages, {case:?}");

    for one in received {
        let mut last = BTreeMap::new();
        for &(sender, number) in &one.with_header {
            let before = last.insert(sender, number);
            assert!(before < Some(number), "sender {sender}: {number} after {before:?}, {case:?}");
        }
        assert!(one.ranges.is_sorted_by(|a, b| a.0 + a.1 <= b.0), "sequences decrease, {case:?}");
    }
    if case.senders == 1 && case.receivers == 1 {
        let expected: Vec<_> = (0..case.messages).map(|n| case.len(0, n)).collect();
        assert!(received[0].lens == expected, "order, {case:?}");
    }
}

async fn matrix(senders: u32, receivers: usize, messages: u32, small: bool) {
    let mut way = 0;
    for strategy in 0..STRATEGIES {
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            for on_demand in [true, false] {
                run(Case { senders, receivers, messages, strategy, mode, on_demand, small }, way).await;
                way += 1;
            }
        }
    }
}

macro_rules! matrix {
    ($($name:ident: $runtime:ident, $senders:literal x $receivers:literal, $messages:literal $small:literal;)*) => {
        $(#[test]
        fn $name() {
            $runtime(matrix($senders, $receivers, $messages, $small));
        })*
    };
}

matrix! {
    one_to_one_multi: multi, 1 x 1, 200 false;
    one_to_one_current: current, 1 x 1, 200 false;
    one_to_four_multi: multi, 1 x 4, 200 false;
    one_to_four_current: current, 1 x 4, 200 false;
    four_to_one_multi: multi, 4 x 1, 60 false;
    four_to_one_current: current, 4 x 1, 60 false;
    four_to_four_multi: multi, 4 x 4, 60 false;
    four_to_four_current: current, 4 x 4, 60 false;
    sixteen_to_one_multi: multi, 16 x 1, 20 false;
    sixteen_to_one_current: current, 16 x 1, 20 false;
    sixteen_to_four_multi: multi, 16 x 4, 20 false;
    sixteen_to_four_current: current, 16 x 4, 20 false;
    small_messages_one_to_one: multi, 1 x 1, 4000 true;
    small_messages_four_to_one: multi, 4 x 1, 1000 true;
    small_messages_sixteen_to_four: multi, 16 x 4, 250 true;
    small_messages_current: current, 4 x 4, 1000 true;
}

#[test]
fn batches_of_all_receivers_cover_the_sequence() {
    multi(async {
        let case = Case {
            senders: 4,
            receivers: 4,
            messages: 3000,
            strategy: 1,
            mode: ReadMode::ZeroCopy,
            on_demand: true,
            small: true,
        };
        let (tx, rx) = case.channel();
        let mut receivers = JoinSet::new();
        (0..case.receivers).for_each(|_| drop(receivers.spawn(receive_all(rx.clone(), 0))));
        let mut senders = JoinSet::new();
        (0..case.senders).for_each(|s| drop(senders.spawn(send_all(tx.clone(), s, case))));
        drop(tx);
        senders.join_all().await;
        let mut ranges: Vec<_> = receivers.join_all().await.into_iter().flat_map(|s| s.ranges).collect();
        ranges.sort_unstable();
        let end = ranges.iter().fold(0, |next, &(first, len)| {
            assert_eq!(first, next, "a gap or an overlap");
            first + len
        });
        assert_eq!(end, 12_000);
    });
}
