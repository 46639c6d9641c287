//! The strict order of a stream: what a message expects of the stream, and how much may be in flight.
//!
//! The protocol is described in the documentation of the parent module.

use super::acks::{Failure, Round};
use super::resync::Snapshot;

/// The window after the stream refused a message for its order.
const MIN_WINDOW: usize = 16;
/// From this window on nothing is limited any more.
const MAX_WINDOW: usize = 1 << 20;
/// The fruitless rounds after which messages travel alone.
const MAX_FRUITLESS: u32 = 3;
/// How many messages are stored alone before messages are chained again: the first time, and at most.
const MIN_PATIENCE: u64 = 64;
const MAX_PATIENCE: u64 = 1024;

/// What a forwarder in strict order knows of its stream.
pub(super) struct StrictOrder {
    /// The stream's name, known from the first acknowledgement.
    pub(super) stream: Option<String>,
    /// Whether the stream has more than one replica, or did not say. `None` before it is asked.
    is_replicated: Option<bool>,
    pace: Pace,
    window: usize,
    /// The stream has all messages up to this sequence, except those that were rejected, which are not published again.
    stored_to: u64,
    /// The sequence of a pack that the destination itself rejected, until the first of its messages is published.
    rejected_pack: Option<u64>,
    fruitless: u32,
    patience: u64,
}

enum Pace {
    /// One message in flight, without expectations, until this many were stored.
    Alone { stored: u64 },
    /// Each message expects the stream to end with the message before it.
    Chained {
        /// The sequence in the stream after which the next message belongs.
        expected: u64,
        /// The message before, if it was published since the last resumption.
        previous: Option<u64>,
        /// The confirmations at which the window grew last.
        grown_at: u64,
    },
}

/// What a message expects of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Expectation {
    /// The stream's last sequence.
    pub(super) last_sequence: Option<u64>,
    /// The forwarder's sequence of the stream's last message, from which its id is made.
    pub(super) previous: Option<u64>,
}

impl StrictOrder {
    /// The first message travels alone: its acknowledgement names the stream and its end.
    pub(super) fn new() -> Self {
        Self {
            stream: None,
            is_replicated: None,
            pace: Pace::Alone { stored: 1 },
            window: MAX_WINDOW,
            stored_to: 0,
            rejected_pack: None,
            fruitless: 0,
            patience: MIN_PATIENCE,
        }
    }

    /// Returns how many messages may be in flight.
    pub(super) fn window(&mut self, round: &Round) -> usize {
        match &mut self.pace {
            Pace::Alone { .. } => 1,
            Pace::Chained { grown_at, .. } => {
                if round.confirmed - *grown_at >= self.window as u64 && self.window < MAX_WINDOW {
                    self.window *= 2;
                    *grown_at = round.confirmed;
                }
                self.window
            }
        }
    }

    /// Starts to chain messages if enough were stored alone.
    ///
    /// Nothing is in flight then. The stream ends with the message that was stored last, unless another publisher has added
    /// to it, which the first expectation finds out.
    pub(super) fn leave_alone(&mut self, round: &Round) {
        if let Pace::Alone { stored } = self.pace
            && round.stored >= stored
            && self.is_replicated == Some(false)
        {
            self.pace =
                Pace::Chained { expected: round.last_sequence, previous: None, grown_at: round.confirmed };
        }
    }

    /// Returns the stream's name if it is known, but not whether it is replicated.
    pub(super) fn stream_to_ask(&mut self, round: &Round) -> Option<&str> {
        if self.stream.is_none() {
            self.stream.clone_from(&round.stream);
        }
        self.stream.as_deref().filter(|_| self.is_replicated.is_none())
    }

    /// Takes note of the answer. Without one, messages travel alone until the next round.
    pub(super) fn answer(&mut self, snapshot: Option<Snapshot>) {
        self.is_replicated = Some(snapshot.is_none_or(|snapshot| snapshot.is_replicated));
    }

    /// Returns whether the stream has this message already.
    pub(super) fn is_stored(&self, sequence: u64) -> bool {
        sequence <= self.stored_to
    }

    /// Takes note of a pack that the destination rejected itself. Its messages follow one by one.
    pub(super) fn reject_pack(&mut self, sequence: u64) {
        self.rejected_pack = Some(sequence);
    }

    /// Returns whether the messages of a rejected pack come before this message.
    ///
    /// The chain goes on after what was not published. If a later message were stored, so would these count as stored.
    pub(super) fn is_early(&mut self, sequence: u64) -> bool {
        self.rejected_pack = self.rejected_pack.filter(|pack| *pack != sequence);
        self.rejected_pack.is_some()
    }

    /// Returns what the next message expects, and counts it as published.
    pub(super) fn publish(&mut self, sequence: u64) -> Expectation {
        match &mut self.pace {
            Pace::Alone { .. } => Expectation::default(),
            Pace::Chained { expected, previous, .. } => {
                let expectation = Expectation { last_sequence: Some(*expected), previous: *previous };
                *expected += 1;
                *previous = Some(sequence);
                expectation
            }
        }
    }

    /// Ends a round: the forwarder goes back.
    pub(super) fn end_round(&mut self, round: Round) {
        // The subjects may have moved to another stream.
        self.stream = round.stream.or(self.stream.take());
        if let Pace::Chained { grown_at, .. } = &mut self.pace {
            *grown_at = 0;
        }
        if round.failure != Some(Failure::OutOfOrder) {
            return;
        }
        if round.confirmed == 0 {
            self.fruitless += 1;
        } else {
            self.fruitless = 0;
            self.patience = (self.patience / 2).max(MIN_PATIENCE);
        }
        if self.fruitless >= MAX_FRUITLESS {
            self.fruitless = 0;
            self.pace = Pace::Alone { stored: self.patience };
            self.patience = (self.patience * 2).min(MAX_PATIENCE);
        } else if round.confirmed > round.stored {
            // The stream has some of the next messages, but not at its end. Each is recognised by its id.
            self.pace = Pace::Alone { stored: 1 };
        }
        self.window = usize::try_from(round.confirmed).unwrap_or(MAX_WINDOW).clamp(MIN_WINDOW, MAX_WINDOW);
    }

    /// Starts a round with what the stream said of itself. `None` if the stream is not known, or gone.
    pub(super) fn start_round(&mut self, snapshot: Option<Snapshot>) {
        let Some(snapshot) = snapshot else {
            self.stream = None;
            self.is_replicated = None;
            self.pace = Pace::Alone { stored: 1 };
            return;
        };
        self.is_replicated = Some(snapshot.is_replicated);
        if snapshot.is_replicated {
            self.pace = Pace::Alone { stored: 1 };
        }
        self.stored_to = self.stored_to.max(snapshot.ours.unwrap_or(0));
        if matches!(self.pace, Pace::Chained { .. }) {
            self.pace = Pace::Chained { expected: snapshot.last_sequence, previous: None, grown_at: 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A round that was broken by the order, after these confirmations.
    fn broken(confirmed: u64, stored: u64) -> Round {
        Round { confirmed, stored, failure: Some(Failure::OutOfOrder), ..Round::default() }
    }

    /// An order after the acknowledgement of message 1, at sequence 10 of the stream.
    fn chained() -> StrictOrder {
        let mut order = StrictOrder::new();
        assert_eq!(order.window(&Round::default()), 1);
        assert_eq!(order.publish(1), Expectation::default());
        let acknowledged = Round {
            confirmed: 1,
            stored: 1,
            last_sequence: 10,
            stream: Some("LOGS".into()),
            ..Round::default()
        };
        assert_eq!(order.stream_to_ask(&acknowledged), Some("LOGS"));
        order.answer(Some(Snapshot { last_sequence: 10, ours: None, is_replicated: false }));
        order.leave_alone(&acknowledged);
        assert_eq!(order.window(&acknowledged), MAX_WINDOW);
        order
    }

    #[test]
    fn each_message_expects_the_one_before_it() {
        let mut order = chained();
        assert_eq!(order.publish(2), Expectation { last_sequence: Some(10), previous: None });
        assert_eq!(order.publish(3), Expectation { last_sequence: Some(11), previous: Some(2) });
        // Message 4 was rejected without being published.
        assert_eq!(order.publish(5), Expectation { last_sequence: Some(12), previous: Some(3) });
    }

    #[test]
    fn a_round_begins_at_the_end_of_the_stream_without_an_expected_id() {
        let mut order = chained();
        // Message 4 was rejected without being published.
        for sequence in [2, 3, 5, 6] {
            order.publish(sequence);
        }
        order.end_round(Round { confirmed: 1, stored: 1, ..Round::default() });
        order.start_round(Some(Snapshot { last_sequence: 13, ours: Some(5), is_replicated: false }));
        assert!(order.is_stored(3) && order.is_stored(5));
        assert!(!order.is_stored(6));
        assert_eq!(order.publish(6), Expectation { last_sequence: Some(13), previous: None });
        assert_eq!(order.publish(7), Expectation { last_sequence: Some(14), previous: Some(6) });
    }

    #[test]
    fn the_window_shrinks_to_what_was_confirmed_and_grows_again() {
        let mut order = chained();
        order.end_round(broken(100, 100));
        order.start_round(Some(Snapshot { last_sequence: 111, ours: Some(101), is_replicated: false }));
        let confirmed = |confirmed| Round { confirmed, ..Round::default() };
        assert_eq!(order.window(&confirmed(99)), 100);
        assert_eq!(order.window(&confirmed(100)), 200);
        assert_eq!(order.window(&confirmed(299)), 200);
        assert_eq!(order.window(&confirmed(300)), 400);
        // The largest one does not grow.
        assert_eq!(chained().window(&confirmed(u64::MAX)), MAX_WINDOW);
    }

    #[test]
    fn a_rejection_does_not_shrink_the_window() {
        let mut order = chained();
        order.end_round(Round { failure: Some(Failure::Other), ..Round::default() });
        order.start_round(Some(Snapshot { last_sequence: 10, ours: Some(1), is_replicated: false }));
        assert_eq!(order.window(&Round::default()), MAX_WINDOW);
    }

    #[test]
    fn messages_travel_alone_after_fruitless_rounds() {
        let mut order = chained();
        for _ in 0..MAX_FRUITLESS {
            assert!(matches!(order.pace, Pace::Chained { .. }));
            order.end_round(broken(0, 0));
            order.start_round(Some(Snapshot { last_sequence: 50, ours: None, is_replicated: false }));
        }
        assert_eq!(order.window(&Round::default()), 1);
        assert_eq!(order.publish(2), Expectation::default());
        let stored = |stored| Round { confirmed: stored, stored, last_sequence: 200, ..Round::default() };
        order.leave_alone(&stored(MIN_PATIENCE - 1));
        assert_eq!(order.publish(3), Expectation::default());
        order.leave_alone(&stored(MIN_PATIENCE));
        assert_eq!(order.publish(4), Expectation { last_sequence: Some(200), previous: None });
    }

    #[test]
    fn fruitless_rounds_make_messages_travel_alone_for_longer_each_time() {
        let mut order = chained();
        let at = |stored| Round { confirmed: stored, stored, last_sequence: 50, ..Round::default() };
        let alone_for = |order: &mut StrictOrder| {
            for _ in 0..MAX_FRUITLESS {
                order.end_round(broken(0, 0));
            }
            let Pace::Alone { stored } = order.pace else { panic!("messages are chained") };
            order.leave_alone(&at(stored));
            assert!(matches!(order.pace, Pace::Chained { .. }));
            stored
        };
        assert_eq!([(); 6].map(|()| alone_for(&mut order)), [64, 128, 256, 512, 1024, 1024]);
        // Each round that gets on halves it.
        order.end_round(broken(5, 5));
        order.end_round(broken(5, 5));
        assert_eq!(alone_for(&mut order), 256);
        for _ in 0..10 {
            order.end_round(broken(5, 5));
        }
        assert_eq!(alone_for(&mut order), 64);
    }

    #[test]
    fn duplicates_that_break_the_order_are_passed_one_by_one() {
        let mut order = chained();
        order.end_round(broken(1, 0));
        order.start_round(Some(Snapshot { last_sequence: 50, ours: None, is_replicated: false }));
        assert_eq!(order.publish(3), Expectation::default());
        // The first message that is stored is the end of the stream.
        order.leave_alone(&Round { confirmed: 5, stored: 1, last_sequence: 51, ..Round::default() });
        assert_eq!(order.publish(8), Expectation { last_sequence: Some(51), previous: None });
    }

    #[test]
    fn messages_of_a_rejected_pack_go_before_later_ones() {
        let mut order = chained();
        order.reject_pack(2);
        assert!(order.is_early(5));
        assert!(!order.is_early(2));
        assert!(!order.is_early(3) && !order.is_early(5));
    }

    #[test]
    fn a_stream_that_has_taken_over_is_asked_from_then_on() {
        let mut order = chained();
        let moved = |stream: Option<&str>| Round { stream: stream.map(str::to_owned), ..Round::default() };
        order.end_round(moved(None));
        assert_eq!(order.stream.as_deref(), Some("LOGS"));
        order.end_round(moved(Some("OTHER")));
        assert_eq!(order.stream.as_deref(), Some("OTHER"));
    }

    #[test]
    fn a_stream_that_is_gone_is_learnt_again() {
        let mut order = chained();
        order.end_round(Round { stream: Some("LOGS".into()), ..Round::default() });
        assert_eq!(order.stream.as_deref(), Some("LOGS"));
        order.start_round(None);
        assert_eq!(order.stream, None);
        assert_eq!(order.publish(2), Expectation::default());
    }

    #[test]
    fn messages_to_a_replicated_stream_travel_alone() {
        let mut order = chained();
        order.end_round(broken(5, 5));
        order.start_round(Some(Snapshot { last_sequence: 15, ours: Some(6), is_replicated: true }));
        order.leave_alone(&Round { confirmed: 900, stored: 900, last_sequence: 915, ..Round::default() });
        assert_eq!(order.publish(907), Expectation::default());
        assert_eq!(order.window(&Round::default()), 1);
    }
}
