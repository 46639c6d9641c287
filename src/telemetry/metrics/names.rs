//! The name of each statistic, by the conventions of OpenTelemetry and by those of Prometheus.

#[cfg(feature = "prometheus")]
use std::collections::HashSet;

use crate::telemetry::recorder::{Counter, Gauge, HistogramKind};

/// The names under which statistics are recorded.
pub(super) struct Names {
    /// The attribute that holds a channel's name.
    pub(super) channel: &'static str,
    pub(super) counters: &'static [Row<Counter>],
    pub(super) gauges: &'static [Row<Gauge>],
    pub(super) histograms: &'static [Row<HistogramKind>],
    pub(super) instruments: &'static [Instrument],
}

#[cfg(feature = "prometheus")]
impl Names {
    /// Returns the instrument and the attribute of each row.
    fn rows(&self) -> impl Iterator<Item = (&'static str, Option<(&'static str, &'static str)>)> {
        let counters = self.counters.iter().map(|row| (row.instrument, row.attribute));
        let gauges = self.gauges.iter().map(|row| (row.instrument, row.attribute));
        let histograms = self.histograms.iter().map(|row| (row.instrument, row.attribute));
        counters.chain(gauges).chain(histograms)
    }

    /// Whether metrics have a label of this name. Histograms have `le`.
    pub(super) fn uses_label(&self, name: &str) -> bool {
        name == self.channel
            || name == "le"
            || self.rows().any(|(_, attribute)| attribute.is_some_and(|(key, _)| key == name))
    }

    /// Returns how many series a channel has in the instrument where it has most.
    pub(super) fn series_of_a_channel(&self) -> usize {
        let distinct: HashSet<_> = self.rows().collect();
        let of =
            |instrument: &Instrument| distinct.iter().filter(|(name, _)| *name == instrument.name).count();
        self.instruments.iter().map(of).max().unwrap_or(1)
    }
}

/// A statistic, and where it is recorded: an instrument, and optionally an attribute as key and value.
pub(super) struct Row<S> {
    pub(super) statistic: S,
    pub(super) instrument: &'static str,
    pub(super) attribute: Option<(&'static str, &'static str)>,
}

/// The description of an instrument.
pub(super) struct Instrument {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) description: &'static str,
}

const fn row<S: Copy>(instrument: &'static str, statistic: S) -> Row<S> {
    Row { statistic, instrument, attribute: None }
}

const fn row_with<S: Copy>(
    instrument: &'static str,
    key: &'static str,
    value: &'static str,
    statistic: S,
) -> Row<S> {
    Row { statistic, instrument, attribute: Some((key, value)) }
}

const fn instrument(name: &'static str, unit: &'static str, description: &'static str) -> Instrument {
    Instrument { name, unit, description }
}

const ERROR: &str = "error.type";
const DROP: &str = "turbostream.drop.reason";
const CAUSE: &str = "turbostream.switch.cause";
const STATE: &str = "turbostream.memory.state";
const SIDE: &str = "turbostream.side";
const RESULT: &str = "turbostream.forward.result";

pub(super) const OTEL: Names = Names {
    channel: "turbostream.channel.name",
    counters: &[
        row("turbostream.sent.messages", Counter::SentMessages),
        row("turbostream.sent.io", Counter::SentBytes),
        row_with("turbostream.send.errors", ERROR, "full", Counter::RefusedFull),
        row_with("turbostream.send.errors", ERROR, "closed", Counter::RefusedClosed),
        row_with("turbostream.send.errors", ERROR, "too_large", Counter::RefusedTooLarge),
        row_with("turbostream.send.errors", ERROR, "timeout", Counter::RefusedTimedOut),
        row("turbostream.received.messages", Counter::ReceivedMessages),
        row("turbostream.received.io", Counter::ReceivedBytes),
        row_with("turbostream.receive.errors", ERROR, "timeout", Counter::RecvTimeouts),
        row_with("turbostream.receive.errors", ERROR, "callback_panic", Counter::CallbackPanics),
        row_with("turbostream.dropped.messages", DROP, "newest", Counter::DroppedNewest),
        row_with("turbostream.dropped.messages", DROP, "oldest", Counter::DroppedOldest),
        row_with("turbostream.dropped.messages", DROP, "unread", Counter::DroppedUnread),
        row("turbostream.dropped.io", Counter::DroppedBytes),
        row_with("turbostream.switches", CAUSE, "full", Counter::SwitchesFull),
        row_with("turbostream.switches", CAUSE, "strategy", Counter::SwitchesStrategy),
        row_with("turbostream.switches", CAUSE, "on_demand", Counter::SwitchesOnDemand),
        row_with("turbostream.switches", CAUSE, "requested", Counter::SwitchesRequested),
        row_with("turbostream.switches", CAUSE, "close", Counter::SwitchesClose),
        row("turbostream.switch.skipped", Counter::SkippedSwitches),
        row("turbostream.segment.allocations", Counter::AllocatedSegments),
        row("turbostream.recorder.panics", Counter::RecorderPanics),
        row_with("turbostream.forward.messages", RESULT, "confirmed", Counter::ForwardConfirmed),
        row_with("turbostream.forward.messages", RESULT, "duplicate", Counter::ForwardDuplicates),
        row_with("turbostream.forward.messages", RESULT, "rejected", Counter::ForwardRejected),
        row("turbostream.forward.io", Counter::ForwardBytes),
        row("turbostream.forward.retries", Counter::ForwardRetries),
    ],
    gauges: &[
        row("turbostream.active.messages", Gauge::ActiveMessages),
        row("turbostream.active.size", Gauge::ActiveMessageBytes),
        row("turbostream.queue.messages", Gauge::QueuedMessages),
        row("turbostream.queue.size", Gauge::QueuedBytes),
        row("turbostream.sealed.segments", Gauge::SealedSegments),
        row_with("turbostream.memory.usage", STATE, "active", Gauge::ActiveBytes),
        row_with("turbostream.memory.usage", STATE, "sealed", Gauge::SealedBytes),
        row_with("turbostream.memory.usage", STATE, "lent", Gauge::LentBytes),
        row_with("turbostream.memory.usage", STATE, "pooled", Gauge::PooledBytes),
        row_with("turbostream.memory.usage", STATE, "referenced", Gauge::ExternalBytes),
        row("turbostream.memory.limit", Gauge::MaxBytes),
        row_with("turbostream.waiting", SIDE, "senders", Gauge::WaitingSenders),
        row_with("turbostream.waiting", SIDE, "receivers", Gauge::WaitingReceivers),
        row("turbostream.tasks", Gauge::BackgroundTasks),
        row("turbostream.forward.in_flight.messages", Gauge::ForwardInFlightMessages),
        row("turbostream.forward.in_flight.size", Gauge::ForwardInFlightBytes),
        row("turbostream.forward.connected", Gauge::ForwardConnected),
    ],
    histograms: &[
        row("turbostream.switch.duration", HistogramKind::SwitchLatency),
        row("turbostream.queue.duration", HistogramKind::QueueTime),
        row("turbostream.forward.duration", HistogramKind::ForwardLatency),
    ],
    instruments: &[
        instrument("turbostream.sent.messages", "{message}", "Messages accepted"),
        instrument("turbostream.sent.io", "By", "Bytes of the messages accepted"),
        instrument("turbostream.send.errors", "{message}", "Messages refused"),
        instrument("turbostream.received.messages", "{message}", "Messages handed out"),
        instrument("turbostream.received.io", "By", "Bytes of the messages handed out"),
        instrument("turbostream.receive.errors", "{error}", "Reads that failed"),
        instrument("turbostream.dropped.messages", "{message}", "Messages dropped"),
        instrument("turbostream.dropped.io", "By", "Bytes of the messages dropped"),
        instrument("turbostream.switches", "{switch}", "Switches of the active segment"),
        instrument(
            "turbostream.switch.skipped",
            "{check}",
            "Checks of the background task that found no reason to switch",
        ),
        instrument("turbostream.segment.allocations", "{segment}", "Segments that memory was allocated for"),
        instrument("turbostream.recorder.panics", "{panic}", "Calls of the recorder that panicked"),
        instrument(
            "turbostream.active.messages",
            "{message}",
            "Messages in the active segment, not handed out",
        ),
        instrument(
            "turbostream.active.size",
            "By",
            "Bytes of the messages in the active segment, not handed out",
        ),
        instrument("turbostream.queue.messages", "{message}", "Messages queued"),
        instrument("turbostream.queue.size", "By", "Bytes of the messages queued"),
        instrument(
            "turbostream.sealed.segments",
            "{segment}",
            "Sealed segments, the one being read included",
        ),
        instrument("turbostream.memory.usage", "By", "Memory that counts against the limit"),
        instrument("turbostream.memory.limit", "By", "The most memory that may be used"),
        instrument("turbostream.waiting", "{task}", "Senders waiting for room, and receivers for a message"),
        instrument("turbostream.tasks", "{task}", "Background tasks alive"),
        instrument("turbostream.switch.duration", "s", "From the decision to switch until it is done"),
        instrument(
            "turbostream.queue.duration",
            "s",
            "How long the first message of each segment was queued",
        ),
        instrument("turbostream.forward.messages", "{message}", "Messages that the destination has answered"),
        instrument("turbostream.forward.io", "By", "Bytes of the messages that the destination confirmed"),
        instrument("turbostream.forward.retries", "{message}", "Messages published again"),
        instrument("turbostream.forward.in_flight.messages", "{message}", "Messages taken and not confirmed"),
        instrument(
            "turbostream.forward.in_flight.size",
            "By",
            "Bytes of the messages taken and not confirmed",
        ),
        instrument("turbostream.forward.connected", "{forwarder}", "Forwarders whose connection is up"),
        instrument("turbostream.forward.duration", "s", "From taking a message until it is confirmed"),
    ],
};

#[cfg(feature = "prometheus")]
pub(super) const PROMETHEUS: Names = Names {
    channel: "channel",
    counters: &[
        row_with("TurboStream_write_counts", "result", "success", Counter::SentMessages),
        row_with("TurboStream_write_counts", "result", "failure", Counter::RefusedFull),
        row_with("TurboStream_write_counts", "result", "failure", Counter::RefusedClosed),
        row_with("TurboStream_write_counts", "result", "failure", Counter::RefusedTooLarge),
        row_with("TurboStream_write_counts", "result", "failure", Counter::RefusedTimedOut),
        row("TurboStream_write_sizes", Counter::SentBytes),
        row("TurboStream_write_errors", Counter::RefusedFull),
        row("TurboStream_write_errors", Counter::RefusedClosed),
        row("TurboStream_write_errors", Counter::RefusedTooLarge),
        row("TurboStream_write_errors", Counter::RefusedTimedOut),
        row_with("TurboStream_write_refusal_counts", "reason", "full", Counter::RefusedFull),
        row_with("TurboStream_write_refusal_counts", "reason", "closed", Counter::RefusedClosed),
        row_with("TurboStream_write_refusal_counts", "reason", "too_large", Counter::RefusedTooLarge),
        row_with("TurboStream_write_refusal_counts", "reason", "timeout", Counter::RefusedTimedOut),
        row_with("TurboStream_read_counts", "result", "success", Counter::ReceivedMessages),
        row_with("TurboStream_read_counts", "result", "failure", Counter::RecvTimeouts),
        row_with("TurboStream_read_counts", "result", "failure", Counter::CallbackPanics),
        row("TurboStream_read_sizes", Counter::ReceivedBytes),
        row("TurboStream_read_errors", Counter::RecvTimeouts),
        row("TurboStream_read_errors", Counter::CallbackPanics),
        row_with("TurboStream_read_failure_counts", "reason", "timeout", Counter::RecvTimeouts),
        row_with("TurboStream_read_failure_counts", "reason", "callback_panic", Counter::CallbackPanics),
        row_with("TurboStream_drop_counts", "reason", "newest", Counter::DroppedNewest),
        row_with("TurboStream_drop_counts", "reason", "oldest", Counter::DroppedOldest),
        row_with("TurboStream_drop_counts", "reason", "unread", Counter::DroppedUnread),
        row("TurboStream_drop_sizes", Counter::DroppedBytes),
        row("TurboStream_switch_counts", Counter::SwitchesFull),
        row("TurboStream_switch_counts", Counter::SwitchesStrategy),
        row("TurboStream_switch_counts", Counter::SwitchesOnDemand),
        row("TurboStream_switch_counts", Counter::SwitchesRequested),
        row("TurboStream_switch_counts", Counter::SwitchesClose),
        row_with("TurboStream_switch_cause_counts", "cause", "full", Counter::SwitchesFull),
        row_with("TurboStream_switch_cause_counts", "cause", "strategy", Counter::SwitchesStrategy),
        row_with("TurboStream_switch_cause_counts", "cause", "on_demand", Counter::SwitchesOnDemand),
        row_with("TurboStream_switch_cause_counts", "cause", "requested", Counter::SwitchesRequested),
        row_with("TurboStream_switch_cause_counts", "cause", "close", Counter::SwitchesClose),
        row("TurboStream_skip_switch_counts", Counter::SkippedSwitches),
        row("TurboStream_pool_alloc", Counter::AllocatedSegments),
        row("TurboStream_recorder_panic_counts", Counter::RecorderPanics),
        row_with("TurboStream_forward_counts", "result", "confirmed", Counter::ForwardConfirmed),
        row_with("TurboStream_forward_counts", "result", "duplicate", Counter::ForwardDuplicates),
        row_with("TurboStream_forward_counts", "result", "rejected", Counter::ForwardRejected),
        row("TurboStream_forward_sizes", Counter::ForwardBytes),
        row("TurboStream_forward_retries", Counter::ForwardRetries),
    ],
    gauges: &[
        row("TurboStream_async_workers", Gauge::BackgroundTasks),
        row("TurboStream_active_channel_data_counts", Gauge::ActiveMessages),
        row("TurboStream_active_channel_data_sizes", Gauge::ActiveMessageBytes),
        row("TurboStream_queued_data_counts", Gauge::QueuedMessages),
        row("TurboStream_queued_data_sizes", Gauge::QueuedBytes),
        row("TurboStream_sealed_segments", Gauge::SealedSegments),
        row_with("TurboStream_memory_bytes", "state", "active", Gauge::ActiveBytes),
        row_with("TurboStream_memory_bytes", "state", "sealed", Gauge::SealedBytes),
        row_with("TurboStream_memory_bytes", "state", "lent", Gauge::LentBytes),
        row_with("TurboStream_memory_bytes", "state", "pooled", Gauge::PooledBytes),
        row_with("TurboStream_memory_bytes", "state", "referenced", Gauge::ExternalBytes),
        row("TurboStream_memory_limit_bytes", Gauge::MaxBytes),
        row("TurboStream_waiting_senders", Gauge::WaitingSenders),
        row("TurboStream_waiting_receivers", Gauge::WaitingReceivers),
        row("TurboStream_forward_in_flight_counts", Gauge::ForwardInFlightMessages),
        row("TurboStream_forward_in_flight_sizes", Gauge::ForwardInFlightBytes),
        row("TurboStream_forward_connected", Gauge::ForwardConnected),
    ],
    histograms: &[
        row("TurboStream_switch_latency", HistogramKind::SwitchLatency),
        row("TurboStream_queue_time_seconds", HistogramKind::QueueTime),
        row("TurboStream_forward_latency", HistogramKind::ForwardLatency),
    ],
    instruments: &[
        instrument("TurboStream_write_counts", "", "Messages accepted (success) and refused (failure)"),
        instrument("TurboStream_write_sizes", "", "Bytes of the messages accepted"),
        instrument("TurboStream_write_errors", "", "Messages refused"),
        instrument("TurboStream_write_refusal_counts", "", "Messages refused, by reason"),
        instrument(
            "TurboStream_read_counts",
            "",
            "Messages handed out (success) and reads that failed (failure)",
        ),
        instrument("TurboStream_read_sizes", "", "Bytes of the messages handed out"),
        instrument("TurboStream_read_errors", "", "Reads that failed"),
        instrument("TurboStream_read_failure_counts", "", "Reads that failed, by reason"),
        instrument("TurboStream_drop_counts", "", "Messages dropped, by reason"),
        instrument("TurboStream_drop_sizes", "", "Bytes of the messages dropped"),
        instrument("TurboStream_switch_counts", "", "Switches of the active segment"),
        instrument("TurboStream_switch_cause_counts", "", "Switches of the active segment, by cause"),
        instrument(
            "TurboStream_skip_switch_counts",
            "",
            "Checks of the background task that found no reason to switch",
        ),
        instrument("TurboStream_pool_alloc", "", "Segments allocated because the pool was empty"),
        instrument("TurboStream_recorder_panic_counts", "", "Calls of the recorder that panicked"),
        instrument("TurboStream_async_workers", "", "Background tasks alive"),
        instrument(
            "TurboStream_active_channel_data_counts",
            "",
            "Messages in the active segment, not handed out",
        ),
        instrument(
            "TurboStream_active_channel_data_sizes",
            "",
            "Bytes of the messages in the active segment",
        ),
        instrument(
            "TurboStream_queued_data_counts",
            "",
            "Messages accepted and neither handed out nor dropped",
        ),
        instrument("TurboStream_queued_data_sizes", "", "Bytes of the messages queued"),
        instrument("TurboStream_sealed_segments", "", "Sealed segments, the one being read included"),
        instrument("TurboStream_memory_bytes", "", "Memory that counts against the limit, by state"),
        instrument("TurboStream_memory_limit_bytes", "", "The most memory that may be used"),
        instrument("TurboStream_waiting_senders", "", "Senders waiting for room"),
        instrument("TurboStream_waiting_receivers", "", "Receivers waiting for a message"),
        instrument("TurboStream_switch_latency", "", "Seconds from the decision to switch until it is done"),
        instrument(
            "TurboStream_queue_time_seconds",
            "",
            "How long the first message of each segment was queued",
        ),
        instrument(
            "TurboStream_forward_counts",
            "",
            "Messages confirmed, recognised as stored, and rejected",
        ),
        instrument("TurboStream_forward_sizes", "", "Bytes of the messages that the destination confirmed"),
        instrument("TurboStream_forward_retries", "", "Messages published again"),
        instrument("TurboStream_forward_in_flight_counts", "", "Messages taken and not confirmed"),
        instrument(
            "TurboStream_forward_in_flight_sizes",
            "",
            "Bytes of the messages taken and not confirmed",
        ),
        instrument("TurboStream_forward_connected", "", "Forwarders whose connection is up"),
        instrument("TurboStream_forward_latency", "", "Seconds from taking a message until it is confirmed"),
    ],
};
