//! A recorder on the OpenTelemetry API.

use std::fmt;

use opentelemetry::metrics::MeterProvider;
use opentelemetry::{InstrumentationScope, global};

use super::instruments::Instruments;
use super::names::{Names, OTEL};
use crate::telemetry::recorder::{Recorder, StatsDelta};

/// Records statistics through the OpenTelemetry metrics API, with its conventions for names and units.
///
/// `docs/metrics.md` of the repository lists all instruments. The attribute `turbostream.channel.name` holds the name of
/// the channel; channels of the same name are added up. The provider decides how values are aggregated and where they are
/// exported to. The SDK keeps 2,000 series of each metric unless a view of the provider says otherwise: enough for 400 names,
/// as a channel has up to five series of one metric. It adds up the values of further channels in a series without a name.
///
/// # Examples
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use turbostream::OtelRecorder;
///
/// let provider = opentelemetry::global::meter_provider(); // or a provider of your own
/// let recorder = Arc::new(OtelRecorder::of(&*provider));
/// let (_tx, _rx) = turbostream::builder().name("orders").recorder(recorder.clone()).build()?;
/// let (_tx, _rx) = turbostream::builder().name("events").recorder(recorder).build()?;
/// # Ok(()) }
/// ```
pub struct OtelRecorder(Instruments);

impl OtelRecorder {
    /// Creates a recorder on the global provider. It uses the provider set at this moment, so set it first.
    pub fn new() -> Self {
        Self::of(&*global::meter_provider())
    }

    /// Creates a recorder on `provider`.
    pub fn of(provider: &dyn MeterProvider) -> Self {
        Self(instruments(provider, &OTEL))
    }
}

/// Makes the instruments of `names`, in the scope of this crate.
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
    fn record(&self, delta: &StatsDelta<'_>) {
        self.0.record(delta);
    }
}

impl fmt::Debug for OtelRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtelRecorder").finish_non_exhaustive()
    }
}
