//! The name of each statistic, by the conventions of OpenTelemetry and by those of Prometheus.

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

const fn to<S: Copy>(instrument: &'static str, statistic: S) -> Row<S> {
    Row { statistic, instrument, attribute: None }
}

const fn with<S: Copy>(
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

pub(super) const OTEL: Names = Names {
    channel: "turbostream.channel.name",
    counters: &[
        to("turbostream.sent.messages", Counter::SentMessages),
        to("turbostream.sent.io", Counter::SentBytes),
        with("turbostream.send.errors", ERROR, "full", Counter::RefusedFull),
        with("turbostream.send.errors", ERROR, "closed", Counter::RefusedClosed),
        with("turbostream.send.errors", ERROR, "too_large", Counter::RefusedTooLarge),
        with("turbostream.send.errors", ERROR, "timeout", Counter::RefusedTimedOut),
        to("turbostream.received.messages", Counter::ReceivedMessages),
        to("turbostream.received.io", Counter::ReceivedBytes),
        with("turbostream.receive.errors", ERROR, "timeout", Counter::RecvTimeouts),
        with("turbostream.receive.errors", ERROR, "callback_panic", Counter::CallbackPanics),
        with("turbostream.dropped.messages", DROP, "newest", Counter::DroppedNewest),
        with("turbostream.dropped.messages", DROP, "oldest", Counter::DroppedOldest),
        with("turbostream.dropped.messages", DROP, "unread", Counter::DroppedUnread),
        to("turbostream.dropped.io", Counter::DroppedBytes),
        with("turbostream.switches", CAUSE, "full", Counter::SwitchesFull),
        with("turbostream.switches", CAUSE, "strategy", Counter::SwitchesStrategy),
        with("turbostream.switches", CAUSE, "on_demand", Counter::SwitchesOnDemand),
        with("turbostream.switches", CAUSE, "requested", Counter::SwitchesRequested),
        with("turbostream.switches", CAUSE, "close", Counter::SwitchesClose),
        to("turbostream.switch.skipped", Counter::SkippedSwitches),
        to("turbostream.segment.allocations", Counter::AllocatedSegments),
        to("turbostream.recorder.panics", Counter::RecorderPanics),
    ],
    gauges: &[
        to("turbostream.active.messages", Gauge::ActiveMessages),
        to("turbostream.active.size", Gauge::ActiveMessageBytes),
        to("turbostream.queue.messages", Gauge::QueuedMessages),
        to("turbostream.queue.size", Gauge::QueuedBytes),
        to("turbostream.sealed.segments", Gauge::SealedSegments),
        with("turbostream.memory.usage", STATE, "active", Gauge::ActiveBytes),
        with("turbostream.memory.usage", STATE, "sealed", Gauge::SealedBytes),
        with("turbostream.memory.usage", STATE, "lent", Gauge::LentBytes),
        with("turbostream.memory.usage", STATE, "pooled", Gauge::PooledBytes),
        with("turbostream.memory.usage", STATE, "referenced", Gauge::ExternalBytes),
        to("turbostream.memory.limit", Gauge::MaxBytes),
        with("turbostream.waiting", SIDE, "senders", Gauge::WaitingSenders),
        with("turbostream.waiting", SIDE, "receivers", Gauge::WaitingReceivers),
        to("turbostream.tasks", Gauge::BackgroundTasks),
    ],
    histograms: &[
        to("turbostream.switch.duration", HistogramKind::SwitchLatency),
        to("turbostream.queue.duration", HistogramKind::QueueTime),
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
    ],
};

#[cfg(feature = "prometheus")]
pub(super) const PROMETHEUS: Names = Names {
    channel: "channel",
    counters: &[
        with("TurboStream_write_counts", "result", "success", Counter::SentMessages),
        with("TurboStream_write_counts", "result", "failure", Counter::RefusedFull),
        with("TurboStream_write_counts", "result", "failure", Counter::RefusedClosed),
        with("TurboStream_write_counts", "result", "failure", Counter::RefusedTooLarge),
        with("TurboStream_write_counts", "result", "failure", Counter::RefusedTimedOut),
        to("TurboStream_write_sizes", Counter::SentBytes),
        to("TurboStream_write_errors", Counter::RefusedFull),
        to("TurboStream_write_errors", Counter::RefusedClosed),
        to("TurboStream_write_errors", Counter::RefusedTooLarge),
        to("TurboStream_write_errors", Counter::RefusedTimedOut),
        with("TurboStream_write_refusal_counts", "reason", "full", Counter::RefusedFull),
        with("TurboStream_write_refusal_counts", "reason", "closed", Counter::RefusedClosed),
        with("TurboStream_write_refusal_counts", "reason", "too_large", Counter::RefusedTooLarge),
        with("TurboStream_write_refusal_counts", "reason", "timeout", Counter::RefusedTimedOut),
        with("TurboStream_read_counts", "result", "success", Counter::ReceivedMessages),
        with("TurboStream_read_counts", "result", "failure", Counter::RecvTimeouts),
        with("TurboStream_read_counts", "result", "failure", Counter::CallbackPanics),
        to("TurboStream_read_sizes", Counter::ReceivedBytes),
        to("TurboStream_read_errors", Counter::RecvTimeouts),
        to("TurboStream_read_errors", Counter::CallbackPanics),
        with("TurboStream_read_failure_counts", "reason", "timeout", Counter::RecvTimeouts),
        with("TurboStream_read_failure_counts", "reason", "callback_panic", Counter::CallbackPanics),
        with("TurboStream_drop_counts", "reason", "newest", Counter::DroppedNewest),
        with("TurboStream_drop_counts", "reason", "oldest", Counter::DroppedOldest),
        with("TurboStream_drop_counts", "reason", "unread", Counter::DroppedUnread),
        to("TurboStream_drop_sizes", Counter::DroppedBytes),
        to("TurboStream_switch_counts", Counter::SwitchesFull),
        to("TurboStream_switch_counts", Counter::SwitchesStrategy),
        to("TurboStream_switch_counts", Counter::SwitchesOnDemand),
        to("TurboStream_switch_counts", Counter::SwitchesRequested),
        to("TurboStream_switch_counts", Counter::SwitchesClose),
        with("TurboStream_switch_cause_counts", "cause", "full", Counter::SwitchesFull),
        with("TurboStream_switch_cause_counts", "cause", "strategy", Counter::SwitchesStrategy),
        with("TurboStream_switch_cause_counts", "cause", "on_demand", Counter::SwitchesOnDemand),
        with("TurboStream_switch_cause_counts", "cause", "requested", Counter::SwitchesRequested),
        with("TurboStream_switch_cause_counts", "cause", "close", Counter::SwitchesClose),
        to("TurboStream_skip_switch_counts", Counter::SkippedSwitches),
        to("TurboStream_pool_alloc", Counter::AllocatedSegments),
        to("TurboStream_recorder_panic_counts", Counter::RecorderPanics),
    ],
    gauges: &[
        to("TurboStream_async_workers", Gauge::BackgroundTasks),
        to("TurboStream_active_channel_data_counts", Gauge::ActiveMessages),
        to("TurboStream_active_channel_data_sizes", Gauge::ActiveMessageBytes),
        to("TurboStream_queued_data_counts", Gauge::QueuedMessages),
        to("TurboStream_queued_data_sizes", Gauge::QueuedBytes),
        to("TurboStream_sealed_segments", Gauge::SealedSegments),
        with("TurboStream_memory_bytes", "state", "active", Gauge::ActiveBytes),
        with("TurboStream_memory_bytes", "state", "sealed", Gauge::SealedBytes),
        with("TurboStream_memory_bytes", "state", "lent", Gauge::LentBytes),
        with("TurboStream_memory_bytes", "state", "pooled", Gauge::PooledBytes),
        with("TurboStream_memory_bytes", "state", "referenced", Gauge::ExternalBytes),
        to("TurboStream_memory_limit_bytes", Gauge::MaxBytes),
        to("TurboStream_waiting_senders", Gauge::WaitingSenders),
        to("TurboStream_waiting_receivers", Gauge::WaitingReceivers),
    ],
    histograms: &[
        to("TurboStream_switch_latency", HistogramKind::SwitchLatency),
        to("TurboStream_queue_time_seconds", HistogramKind::QueueTime),
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
    ],
};
