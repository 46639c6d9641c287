//! What librdkafka's errors mean for the forwarder.

use std::fmt;

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use turbostream::forward::{PublishError, Rejection, StopReason};

/// A record that was not stored, in the words of librdkafka or of the broker.
#[derive(Clone, Debug)]
pub struct DeliveryError {
    topic: String,
    error: KafkaError,
}

impl DeliveryError {
    pub(crate) fn new(topic: impl Into<String>, error: KafkaError) -> Self {
        Self { topic: topic.into(), error }
    }

    /// Returns the topic that the record was for.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Returns librdkafka's error.
    pub fn kafka_error(&self) -> &KafkaError {
        &self.error
    }
}

impl fmt::Display for DeliveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.error.rdkafka_error_code() {
            Some(code) => write!(f, "topic `{}`: {code}", self.topic),
            None => write!(f, "topic `{}`: {}", self.topic, self.error),
        }
    }
}

impl std::error::Error for DeliveryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// What the broker refuses of a batch, and how the record at fault is told from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The batch is too large: half of the size may do.
    Size,
    /// A record of the batch is not valid: each has to be sent alone.
    Content,
}

/// Returns why a broker refuses a batch as a whole, if it does.
pub(crate) fn refusal(code: Code) -> Option<Refusal> {
    match code {
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => {
            Some(Refusal::Size)
        }
        Code::InvalidRecord | Code::InvalidTimestamp | Code::PolicyViolation => Some(Refusal::Content),
        _ => None,
    }
}

/// Returns whether a producer that got this error stores nothing more: librdkafka or the broker has given up its id.
pub(crate) fn is_end_of_producer(code: Code) -> bool {
    matches!(
        code,
        Code::Fatal
            | Code::GaplessGuarantee
            | Code::Fenced
            | Code::ProducerFenced
            | Code::InvalidProducerEpoch
            | Code::UnknownProducerId
            | Code::OutOfOrderSequenceNumber
    )
}

/// Returns what the forwarder does about a record that was sent alone.
pub(crate) fn publish_error(error: DeliveryError, has_one_topic: bool) -> PublishError {
    let Some(code) = error.error.rdkafka_error_code() else {
        // The name of the topic has a NUL byte.
        return PublishError::Reject(Rejection::new(error));
    };
    match code {
        _ if refusal(code).is_some() => PublishError::Reject(Rejection::new(error)),
        Code::TopicAuthorizationFailed | Code::InvalidTopic | Code::InvalidArgument if !has_one_topic => {
            PublishError::Reject(Rejection::new(error))
        }
        _ => match stop_reason(code) {
            Some(reason) => PublishError::Stop(reason, error.into()),
            None => PublishError::Retry(error.into()),
        },
    }
}

/// Returns why the brokers take no message at all, if that is what the error says.
pub(crate) fn stop_reason(code: Code) -> Option<StopReason> {
    match code {
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition | Code::InvalidTopic => {
            Some(StopReason::NoStream)
        }
        Code::Authentication | Code::SaslAuthenticationFailed => Some(StopReason::BadCredentials),
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => Some(StopReason::NotPermitted),
        Code::InvalidArgument
        | Code::UnsupportedFeature
        | Code::UnsupportedSASLMechanism
        | Code::UnsupportedForMessageFormat => Some(StopReason::Other),
        _ => None,
    }
}
