//! A recorder over the API of OpenTelemetry.

use std::fmt;

use opentelemetry::metrics::MeterProvider;
use opentelemetry::{InstrumentationScope, global};

use super::instruments::Instruments;
use super::names::{Names, OTEL};
use crate::telemetry::recorder::{Recorder, StatsDelta};

/// Records figures through the metrics API of OpenTelemetry, with its conventions for names and units.
///
/// `docs/metrics.md` of the repository lists all instruments. They bear the name of their channel as the attribute
/// `turbostream.channel.name`; channels of the same name add up. What an SDK does with it, and where it sends it to, is
/// decided by the provider.
///
/// # Examples
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use turbostream::OtelRecorder;
///
/// let provider = opentelemetry_sdk::metrics::SdkMeterProvider::builder().build();
/// let recorder = Arc::new(OtelRecorder::of(&provider));
/// let (_tx, _rx) = turbostream::builder().name("orders").recorder(recorder.clone()).build()?;
/// let (_tx, _rx) = turbostream::builder().name("events").recorder(recorder).build()?;
/// # Ok(()) }
/// ```
pub struct OtelRecorder(Instruments);

impl OtelRecorder {
    /// A recorder with the global provider: the one that is set at this moment, so set it first.
    pub fn new() -> Self {
        Self::of(&*global::meter_provider())
    }

    /// A recorder with `provider`.
    pub fn of(provider: &dyn MeterProvider) -> Self {
        Self(instruments(provider, &OTEL))
    }
}

pub(super) fn instruments(provider: &dyn MeterProvider, names: &Names) -> Instruments {
    let scope = InstrumentationScope::builder("turbostream").with_version(env!("CARGO_PKG_VERSION")).build();
    Instruments::new(&provider.meter_with_scope(scope), names)
}

impl Default for OtelRecorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder for OtelRecorder {
    fn record(&self, changes: &StatsDelta<'_>) {
        self.0.record(changes);
    }
}

impl fmt::Debug for OtelRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtelRecorder").finish_non_exhaustive()
    }
}
