//! What the server says outside of answers: violated permissions and refused credentials.
use crate::sync::{AtomicBool, Ordering};

use std::collections::VecDeque;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use async_nats::{ClientError, Event, ServerError};

/// How many violations wait for the destination. The oldest is dropped when more arrive.
const MAX_VIOLATIONS: usize = 1024;

/// The server's errors that reach a client as events only: violated permissions and refused credentials.
///
/// A server does not answer a message to a subject that the credentials do not permit. It sends an error to the
/// connection, which async-nats passes to the event callback. With these events attached, [`JetStream`](super::JetStream)
/// rejects such a message at once. Without, the message waits for its confirmation until the forwarder's time limit, and
/// is published again and again.
///
/// [`JetStream::connect`](super::JetStream::connect) attaches the events by itself. For a client of one's own, pass the
/// [`callback`](Self::callback) to its options, or call [`observe`](Self::observe) in the callback that is already there:
///
/// ```no_run
/// # async fn connect() -> Result<(), Box<dyn std::error::Error>> {
/// use turbostream::forward::{JetStream, JetStreamEvents};
///
/// let events = JetStreamEvents::new();
/// let options = async_nats::ConnectOptions::new().event_callback(events.callback());
/// let client = options.connect("nats://127.0.0.1:4222").await?;
/// let destination = JetStream::new(async_nats::jetstream::new(client), "logs.audit").events(events);
/// # drop(destination);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct JetStreamEvents(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Whether an event arrived that the destination has not handled.
    has_news: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    violations: VecDeque<Violation>,
    refused_credentials: Option<String>,
    waker: Option<Waker>,
}

/// What the credentials do not permit, with the server's words.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Violation {
    Publish { subject: String, words: String },
    Subscribe { subject: String, words: String },
}

impl JetStreamEvents {
    /// Makes events that are not attached yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a callback for [`ConnectOptions::event_callback`](async_nats::ConnectOptions::event_callback).
    pub fn callback(&self) -> impl Fn(Event) -> Ready<()> + Send + Sync + 'static + use<> {
        let events = self.clone();
        move |event| {
            events.observe(&event);
            ready(())
        }
    }

    /// Takes note of an event. Call it in a callback of one's own.
    pub fn observe(&self, event: &Event) {
        let mut state = self.lock();
        match event {
            Event::Connected => state.refused_credentials = None,
            Event::ServerError(ServerError::Other(words)) => {
                let Some(violation) = read_violation(words) else { return };
                if state.violations.len() == MAX_VIOLATIONS {
                    state.violations.pop_front();
                }
                state.violations.push_back(violation);
            }
            Event::ServerError(error @ ServerError::AuthorizationViolation) => {
                state.refused_credentials = Some(error.to_string());
            }
            // The client's own words are the kind of the failure, and hold no credentials.
            Event::ClientError(ClientError::Other(words)) if words.contains("authorization violation") => {
                state.refused_credentials = Some(words.clone());
            }
            _ => return,
        }
        // ORDERING: Relaxed: the mutex orders what the destination reads after it has seen the flag.
        self.0.has_news.store(true, Ordering::Relaxed);
        if let Some(waker) = &state.waker {
            waker.wake_by_ref();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether events have arrived since the last call.
    pub(super) fn has_news(&self) -> bool {
        // ORDERING: Relaxed: see `observe`.
        self.0.has_news.load(Ordering::Relaxed) && self.0.has_news.swap(false, Ordering::Relaxed)
    }

    /// Makes the next event wake the task.
    pub(super) fn register(&self, waker: &Waker) {
        self.lock().waker = Some(waker.clone());
    }

    /// Takes the oldest violation.
    pub(super) fn next_violation(&self) -> Option<Violation> {
        self.lock().violations.pop_front()
    }

    /// Returns the server's words if it refused the credentials and has not accepted them since.
    pub(super) fn refused_credentials(&self) -> Option<String> {
        self.lock().refused_credentials.clone()
    }
}

/// Reads `Permissions Violation for Publish to "logs.x"`.
fn read_violation(words: &str) -> Option<Violation> {
    let rest = words.strip_prefix("Permissions Violation for ")?;
    let (kind, rest) = rest.split_once(" to \"")?;
    let subject = rest.split_once('"')?.0.to_owned();
    let words = words.to_owned();
    match kind {
        "Publish" => Some(Violation::Publish { subject, words }),
        "Subscription" => Some(Violation::Subscribe { subject, words }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_are_read_with_their_subject() {
        let events = JetStreamEvents::new();
        for words in [
            "Permissions Violation for Publish to \"logs.secret\"",
            "Permissions Violation for Subscription to \"_INBOX.x.*\" using queue \"q\"",
            "Maximum Connections Exceeded",
        ] {
            events.observe(&Event::ServerError(ServerError::Other(words.into())));
        }
        assert!(events.has_news() && !events.has_news());
        let next = || events.next_violation();
        assert!(matches!(next(), Some(Violation::Publish { subject, .. }) if subject == "logs.secret"));
        assert!(matches!(next(), Some(Violation::Subscribe { subject, .. }) if subject == "_INBOX.x.*"));
        assert_eq!(next(), None);
    }

    #[test]
    fn refused_credentials_are_forgotten_after_a_connection() {
        let events = JetStreamEvents::new();
        events.observe(&Event::ClientError(ClientError::Other("authorization violation".into())));
        assert!(events.refused_credentials().is_some());
        events.observe(&Event::Connected);
        assert_eq!(events.refused_credentials(), None);
    }
}
