//! What forwarders report: statistics of their channel, the Prometheus text, and events.
#![cfg(feature = "forward")]

use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{advance, current_runtime, settle};
use turbostream::forward::{
    Confirmation, Connection, Destination, FlushError, Forwarder, Outgoing, PublishError, Rejection,
    StopReason,
};
use turbostream::{Counter, Gauge, StatsDelta};

/// What the engine does, shared with the test.
#[derive(Clone)]
pub(super) struct Engine(Arc<Mutex<Conduct>>);

pub(super) struct Conduct {
    pub(super) connection: Connection,
    /// Whether every message is to be published again.
    pub(super) retries: bool,
    /// Whether the engine takes no message at all.
    pub(super) stops: bool,
}

impl Engine {
    pub(super) fn new() -> Self {
        let connection = Connection { is_up: true, losses: 0 };
        Self(Arc::new(Mutex::new(Conduct { connection, retries: false, stops: false })))
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Conduct)) {
        change(&mut self.0.lock().expect("no panic"));
    }
}

impl Destination for Engine {
    type Receipt = Ready<Result<Confirmation, PublishError>>;

    fn publish(&mut self, message: &Outgoing) -> Self::Receipt {
        if self.0.lock().expect("no panic").stops {
            return ready(Err(PublishError::Stop(
                StopReason::BadCredentials,
                "the password is wrong".into(),
            )));
        }
        ready(match (self.0.lock().expect("no panic").retries, message.first_message()) {
            (true, _) => Err(PublishError::Retry("the disk is full".into())),
            (false, b"bad") => Err(PublishError::Reject(Rejection::new("no such subject"))),
            (false, b"again") => Ok(Confirmation::Duplicate),
            (false, _) => Ok(Confirmation::Stored),
        })
    }

    fn connection(&self) -> Connection {
        self.0.lock().expect("no panic").connection
    }
}

#[test]
fn channel_statistics_include_those_of_its_forwarders() {
    current_runtime(true).block_on(async {
        let (tx, rx) = turbostream::channel();
        let monitor = tx.monitor();
        assert_eq!(monitor.stats().forwarding, None);
        let engine = Engine::new();
        let forwarders =
            [Forwarder::new(rx.clone(), engine.clone()).spawn(), Forwarder::new(rx, engine.clone()).spawn()];
        settle().await;
        assert_eq!(monitor.stats().forwarding.map(|of| of.connected), Some(2));
        for message in ["four", "bad", "again"] {
            tx.send(message).await.expect("open");
        }
        settle().await;
        let forwarding = monitor.stats().forwarding.expect("there are forwarders");
        assert_eq!((forwarding.confirmed_messages, forwarding.duplicate_messages), (1, 1));
        assert_eq!((forwarding.confirmed_bytes, forwarding.rejected_messages), (9, 1));
        assert_eq!((forwarding.in_flight_messages, forwarding.retried_messages), (0, 0));
        assert_eq!(forwarding.latency.count(), 2);
        engine.set(|conduct| conduct.retries = true);
        tx.send("kept").await.expect("open");
        settle().await;
        let forwarding = monitor.stats().forwarding.expect("there are forwarders");
        assert_eq!((forwarding.in_flight_messages, forwarding.in_flight_bytes), (1, 4));
        advance(Duration::from_secs(1)).await;
        assert!(monitor.stats().forwarding.expect("there are forwarders").retried_messages > 0);
        engine.set(|conduct| conduct.retries = false);
        drop(tx);
        for forwarder in &forwarders {
            forwarder.join().await.expect("everything is confirmed or rejected");
        }
        let forwarding = monitor.stats().forwarding.expect("there were forwarders");
        assert_eq!((forwarding.confirmed_messages, forwarding.latency.count()), (2, 3));
        assert_eq!(
            (forwarding.in_flight_messages, forwarding.in_flight_bytes, forwarding.connected),
            (0, 0, 0)
        );
    });
}

#[test]
fn recorder_gets_the_increments_of_a_forwarder() {
    current_runtime(true).block_on(async {
        let sums = Arc::new(Mutex::new((0, 0, 0)));
        let seen = Arc::clone(&sums);
        let recorder = move |delta: &StatsDelta<'_>| {
            let mut locked = seen.lock().expect("no panic");
            let sums = &mut *locked;
            sums.0 += delta.counter(Counter::ForwardConfirmed);
            sums.1 += delta.counter(Counter::ForwardRejected);
            sums.2 += delta.gauge(Gauge::ForwardConnected);
            assert!(delta.has_forwarded() || *sums == (0, 0, 0));
        };
        let (tx, rx) = turbostream::builder().recorder(recorder).build().expect("valid");
        let monitor = tx.monitor();
        tx.send("good").await.expect("open");
        monitor.flush();
        let forwarder = Forwarder::new(rx, Engine::new()).spawn();
        forwarder.flush().await.expect("confirmed");
        monitor.flush();
        assert_eq!(*sums.lock().expect("no panic"), (1, 0, 1));
        forwarder.shutdown().await.expect("confirmed");
        monitor.flush();
        assert_eq!(*sums.lock().expect("no panic"), (1, 0, 0));
    });
}

#[cfg(feature = "prometheus")]
#[test]
fn prometheus_text_has_the_exact_names_once_there_is_a_forwarder() {
    use turbostream::PrometheusRecorder;
    current_runtime(true).block_on(async {
        let recorder = Arc::new(PrometheusRecorder::new());
        let (tx, rx) =
            turbostream::builder().name("audit").recorder(recorder.clone()).build().expect("valid");
        for message in ["four", "bad", "again"] {
            tx.send(message).await.expect("open");
        }
        tx.monitor().flush();
        let text = recorder.render().expect("text");
        assert!(!text.contains("TurboStream_forward"), "{text}");
        let forwarder = Forwarder::new(rx, Engine::new()).spawn();
        assert_eq!(forwarder.flush().await, Err(FlushError::Rejected { messages: 1 }));
        tx.monitor().flush();
        let text = recorder.render().expect("text");
        for line in [
            "# TYPE TurboStream_forward_counts_total counter",
            r#"TurboStream_forward_counts_total{channel="audit",result="confirmed"} 1"#,
            r#"TurboStream_forward_counts_total{channel="audit",result="duplicate"} 1"#,
            r#"TurboStream_forward_counts_total{channel="audit",result="rejected"} 1"#,
            r#"TurboStream_forward_sizes_total{channel="audit"} 9"#,
            r#"TurboStream_forward_retries_total{channel="audit"} 0"#,
            "# TYPE TurboStream_forward_in_flight_counts gauge",
            r#"TurboStream_forward_in_flight_counts{channel="audit"} 0"#,
            r#"TurboStream_forward_in_flight_sizes{channel="audit"} 0"#,
            r#"TurboStream_forward_connected{channel="audit"} 1"#,
            "# TYPE TurboStream_forward_latency histogram",
            r#"TurboStream_forward_latency_bucket{channel="audit",le="0.001"} 2"#,
            r#"TurboStream_forward_latency_count{channel="audit"} 2"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    });
}
