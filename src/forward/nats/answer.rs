//! What the server answers to a published message.

use std::fmt;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use async_nats::{Message, StatusCode};

use crate::forward::{Confirmation, PublishError, Rejection, StopReason};

/// A message that the stream has taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ack<'a> {
    /// The stream's name, if the answer gives it without escapes.
    pub(super) stream: Option<&'a str>,
    /// The message's sequence in the stream.
    pub(super) sequence: u64,
    pub(super) confirmation: Confirmation,
}

/// No stream has subscribed to the subject, or the server that would take the message is not there now.
#[derive(Debug)]
pub(super) struct NoResponders;

impl fmt::Display for NoResponders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no stream answered for the subject")
    }
}

impl std::error::Error for NoResponders {}

/// Reads an answer.
pub(super) fn read(message: &Message) -> Result<Ack<'_>, PublishError> {
    if let Some(ack) = read_plain_ack(&message.payload) {
        return Ok(ack);
    }
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Err(PublishError::Retry(Box::new(NoResponders)));
    }
    match serde_json::from_slice::<Response<PublishAck>>(&message.payload) {
        Ok(Response::Ok(ack)) => {
            let confirmation = if ack.duplicate { Confirmation::Duplicate } else { Confirmation::Stored };
            Ok(Ack { stream: None, sequence: ack.sequence, confirmation })
        }
        Ok(Response::Err { error }) => Err(classify(error)),
        Err(error) => Err(PublishError::Retry(format!("the answer cannot be read: {error}").into())),
    }
}

/// Reads `{"stream":"NAME", "seq":N}` and `{"stream":"NAME", "seq":N,"duplicate": true}`, which nearly all answers are.
fn read_plain_ack(payload: &[u8]) -> Option<Ack<'_>> {
    let rest = payload.strip_prefix(br#"{"stream":""#)?;
    let end = memchr::memchr2(b'"', b'\\', rest)?;
    let stream = std::str::from_utf8(&rest[..end]).ok()?;
    let rest = trim(rest[end..].strip_prefix(b"\",")?);
    let mut rest = trim(rest.strip_prefix(br#""seq":"#)?);
    let mut sequence: u64 = 0;
    while let [digit @ b'0'..=b'9', tail @ ..] = rest {
        sequence = sequence.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
        rest = tail;
    }
    let confirmation = match rest {
        b"}" => Confirmation::Stored,
        b",\"duplicate\": true}" | b",\"duplicate\":true}" => Confirmation::Duplicate,
        _ => return None,
    };
    Some(Ack { stream: Some(stream), sequence, confirmation })
}

fn trim(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b" ").unwrap_or(bytes)
}

/// Says what an error of JetStream means for a message.
pub(super) fn classify(error: async_nats::jetstream::Error) -> PublishError {
    match error.error_code() {
        ErrorCode::STREAM_WRONG_LAST_SEQUENCE
        | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT
        | ErrorCode::STREAM_WRONG_LAST_MESSAGE_ID => PublishError::OutOfOrder(error.into()),
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM | ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM => {
            PublishError::Reject(Rejection::new(error))
        }
        ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT
        | ErrorCode::NO_ACCOUNT
        | ErrorCode::STREAM_SEALED
        | ErrorCode::NO_LIMITS => PublishError::Stop(StopReason::Other, error.into()),
        // These have the status of a bad request, but pass when there is room again.
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
        | ErrorCode::INSUFFICIENT_RESOURCES
        | ErrorCode::MEMORY_RESOURCES_EXCEEDED
        | ErrorCode::STORAGE_RESOURCES_EXCEEDED => PublishError::Retry(error.into()),
        _ if error.code() == 400 => PublishError::Reject(Rejection::new(error)),
        _ => PublishError::Retry(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(payload: &'static str) -> Message {
        Message {
            subject: "inbox.1".into(),
            reply: None,
            payload: payload.into(),
            headers: None,
            status: None,
            description: None,
            length: 0,
        }
    }

    #[test]
    fn plain_acks_are_read_with_and_without_spaces() {
        for (payload, confirmation) in [
            (r#"{"stream":"LOGS", "seq":42}"#, Confirmation::Stored),
            (r#"{"stream":"LOGS","seq":42}"#, Confirmation::Stored),
            (r#"{"stream":"LOGS", "seq":42,"duplicate": true}"#, Confirmation::Duplicate),
            (r#"{"stream":"LOGS","seq":42,"duplicate":true}"#, Confirmation::Duplicate),
        ] {
            let expected = Ack { stream: Some("LOGS"), sequence: 42, confirmation };
            assert_eq!(read_plain_ack(payload.as_bytes()), Some(expected), "{payload}");
        }
    }

    #[test]
    fn other_acks_take_the_slow_path() {
        let plain = message(r#"{"stream":"LOGS", "domain":"hub", "seq":7, "duplicate":true}"#);
        assert!(read_plain_ack(&plain.payload).is_none());
        let ack = read(&plain).expect("an ack");
        assert_eq!((ack.sequence, ack.confirmation), (7, Confirmation::Duplicate));

        let escaped = message(r#"{"stream":"a\"b","seq":8}"#);
        assert!(read_plain_ack(&escaped.payload).is_none());
        assert_eq!(read(&escaped).expect("an ack").sequence, 8);

        let huge = message(r#"{"stream":"LOGS","seq":99999999999999999999999}"#);
        assert!(matches!(read(&huge), Err(PublishError::Retry(_))));
        assert!(matches!(read(&message("")), Err(PublishError::Retry(_))));
    }

    #[test]
    fn errors_are_told_apart() {
        let kind = |code: u32, err_code: u32| {
            let payload = format!(
                r#"{{"error":{{"code":{code},"err_code":{err_code},"description":"words of the server"}},"stream":"S","seq":0}}"#
            );
            let answer = Message { payload: payload.into(), ..message("") };
            let error = read(&answer).expect_err("an error");
            assert!(error.to_string().contains("words of the server"), "{error}");
            match error {
                PublishError::Retry(_) => "retry",
                PublishError::OutOfOrder(_) => "out of order",
                PublishError::Reject(_) => "reject",
                PublishError::Stop(..) => "stop",
            }
        };
        assert_eq!(kind(503, 10077), "retry"); // maximum bytes exceeded
        assert_eq!(kind(400, 10002), "retry"); // resource limits exceeded for account
        assert_eq!(kind(503, 10008), "retry"); // JetStream system temporarily unavailable
        assert_eq!(kind(400, 10071), "out of order");
        assert_eq!(kind(400, 10070), "out of order");
        assert_eq!(kind(400, 10054), "reject"); // message size exceeds maximum allowed
        assert_eq!(kind(500, 10054), "reject");
        assert_eq!(kind(400, 99999), "reject"); // a bad request of another kind
        assert_eq!(kind(500, 99999), "retry");
        assert_eq!(kind(503, 10039), "stop"); // JetStream not enabled for account
    }

    #[test]
    fn no_responders_is_a_retry_that_can_be_recognised() {
        let answer = Message { status: Some(StatusCode::NO_RESPONDERS), ..message("") };
        let Err(PublishError::Retry(error)) = read(&answer) else { panic!("not a retry") };
        assert!(error.is::<NoResponders>());
    }
}
