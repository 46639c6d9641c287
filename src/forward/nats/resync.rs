//! The questions to the server when the forwarder goes back.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Subject;
use async_nats::jetstream::context::{GetStreamErrorKind, RequestErrorKind};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{RawMessageError, RawMessageErrorKind};
use async_nats::jetstream::{Context, Error, ErrorCode};

use super::answer;
use crate::forward::{PublishError, StopReason};

/// How long the server may take to answer all questions.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How many messages at the end of the stream are read to find one of the forwarder's.
const LOOK_BACK: u64 = 8;

/// The end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// The sequence of the stream's last message.
    pub(super) last_sequence: u64,
    /// The sequence that the forwarder gave to the last of its messages in the stream, if one of the last few is its own.
    pub(super) ours: Option<u64>,
    /// Whether the stream has more than one replica.
    pub(super) is_replicated: bool,
}

/// The questions.
#[derive(Default)]
pub(super) struct Questions {
    /// Whether a stream has this subject.
    pub(super) subject: Option<Subject>,
    /// What the end of this stream is.
    pub(super) stream: Option<String>,
    /// A subject of the forwarder's messages: the stream that has it is asked if no other is known.
    pub(super) own_subject: Option<Subject>,
    /// What the ids of the forwarder's messages begin with.
    pub(super) id_prefix: Option<Arc<str>>,
}

/// The answers, each present if it was asked for.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) has_stream: Option<bool>,
    /// `None` if the stream is gone, too.
    pub(super) snapshot: Option<Snapshot>,
}

/// Asks the server.
///
/// # Errors
///
/// [`PublishError::Retry`] if there is no answer in time; [`PublishError::Stop`] if JetStream is not enabled.
pub(super) async fn ask(context: Context, questions: Questions) -> Result<Answers, PublishError> {
    let answers = async {
        let mut answers = Answers::default();
        let Questions { subject, mut stream, own_subject, id_prefix } = questions;
        if let Some(subject) = &subject {
            answers.has_stream = Some(stream_of(&context, subject).await?.is_some());
        }
        if let (None, Some(subject)) = (&stream, &own_subject) {
            stream = stream_of(&context, subject).await?;
        }
        if let Some(stream) = &stream {
            answers.snapshot = snapshot(&context, stream, id_prefix.as_deref(), own_subject).await?;
        }
        Ok(answers)
    };
    tokio::time::timeout(TIMEOUT, answers).await.unwrap_or_else(|_| {
        Err(PublishError::Retry("the server did not answer a request of the JetStream API in time".into()))
    })
}

/// Returns the name of the stream that has this subject.
async fn stream_of(context: &Context, subject: &Subject) -> Result<Option<String>, PublishError> {
    let request = serde_json::json!({ "subject": subject.as_str() });
    match context.request::<_, _, serde_json::Value>("STREAM.NAMES", &request).await {
        Ok(mut answer) => match answer.get_mut("error").map(serde_json::Value::take) {
            Some(error) => Err(match serde_json::from_value::<Error>(error) {
                Ok(error) => api_error(error),
                Err(error) => PublishError::Retry(error.into()),
            }),
            None => Ok(answer.get("streams").and_then(|names| names.get(0)?.as_str()).map(str::to_owned)),
        },
        Err(error) if error.kind() == RequestErrorKind::NoResponders => {
            let info = context.client().server_info();
            Err(match info.jetstream || info.cluster.is_some() {
                true => PublishError::Retry(error.into()),
                false => {
                    PublishError::Stop(StopReason::NoStream, "JetStream is not enabled on the server".into())
                }
            })
        }
        Err(error) => Err(PublishError::Retry(error.into())),
    }
}

/// Says what an error of the JetStream API means. None of them concerns a message.
fn api_error(error: Error) -> PublishError {
    match answer::classify(error) {
        PublishError::Reject(rejection) => PublishError::Retry(Box::new(rejection)),
        other => other,
    }
}

async fn snapshot(
    context: &Context,
    name: &str,
    id_prefix: Option<&str>,
    own_subject: Option<Subject>,
) -> Result<Option<Snapshot>, PublishError> {
    let stream = match context.get_stream(name).await {
        Ok(stream) => stream,
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                return Ok(None);
            }
            GetStreamErrorKind::JetStream(error) => return Err(api_error(error)),
            _ => return Err(PublishError::Retry(error.into())),
        },
    };
    let state = &stream.cached_info().state;
    let last_sequence = state.last_sequence;
    let mut ours = None;
    if let Some(id_prefix) = id_prefix
        && state.messages > 0
    {
        let first = last_sequence.saturating_sub(LOOK_BACK - 1).max(state.first_sequence);
        for sequence in (first..=last_sequence).rev() {
            ours = own_sequence(stream.get_raw_message(sequence).await, id_prefix)?;
            if ours.is_some() {
                break;
            }
        }
        // Other publishers have added more messages: they have other subjects, perhaps.
        if let (None, Some(subject)) = (ours, own_subject) {
            let last = stream.get_last_raw_message_by_subject(&subject).await;
            ours = own_sequence(last, id_prefix)?;
        }
    }
    let is_replicated = stream.cached_info().config.num_replicas > 1;
    Ok(Some(Snapshot { last_sequence, ours, is_replicated }))
}

/// Returns the sequence that the forwarder gave to a message of the stream, if it is the forwarder's.
fn own_sequence(
    message: Result<StreamMessage, RawMessageError>,
    id_prefix: &str,
) -> Result<Option<u64>, PublishError> {
    match message {
        Ok(message) => Ok(message
            .headers
            .get(async_nats::header::NATS_MESSAGE_ID)
            .and_then(|id| id.as_str().strip_prefix(id_prefix)?.parse().ok())),
        Err(error) => match error.kind() {
            RawMessageErrorKind::NoMessageFound => Ok(None),
            RawMessageErrorKind::JetStream(error) if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => {
                Ok(None)
            }
            RawMessageErrorKind::JetStream(error) => Err(api_error(error)),
            _ => Err(PublishError::Retry(error.into())),
        },
    }
}
