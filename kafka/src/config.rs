//! The settings of librdkafka: which of them the destination depends on, and what it makes of the others.

use std::fmt;
use std::io;

use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;

/// Why a [`Kafka`](crate::Kafka) cannot be made.
///
/// No variant holds a password, a secret or a key.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// A setting contradicts what the destination promises.
    Refused {
        /// The name of the setting.
        key: String,
        /// The value that was given.
        value: String,
        /// What is accepted.
        accepted: &'static str,
    },
    /// The name of the topic is empty, longer than 249 bytes, or has a character that Kafka does not accept.
    Topic(String),
    /// librdkafka refused the settings, in its own words.
    Client(String),
    /// The thread that serves the delivery reports could not be started.
    Thread(io::Error),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { key, value, accepted } => {
                write!(f, "the setting `{key}` must not be `{value}`; accepted: {accepted}")
            }
            Self::Topic(topic) => write!(
                f,
                "`{topic}` is not the name of a topic: 1 to 249 of ASCII letters, digits, `.`, `_` and `-` are"
            ),
            Self::Client(words) => write!(f, "librdkafka refused the settings: {words}"),
            Self::Thread(error) => write!(f, "no thread for the delivery reports: {error}"),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Thread(error) => Some(error),
            _ => None,
        }
    }
}

/// The names of one setting, what is accepted, and whether a value is.
type Rule = (&'static [&'static str], &'static str, fn(&str) -> bool);

const RULES: &[Rule] = &[
    (&["enable.idempotence"], "true, or unset", is_true),
    (&["acks", "request.required.acks"], "all or -1, or unset", |value| matches!(value, "all" | "-1")),
    (&["max.in.flight", "max.in.flight.requests.per.connection"], "1 to 5, or unset", |value| {
        value.parse().is_ok_and(|requests: u32| (1..=5).contains(&requests))
    }),
    (&["retries", "message.send.max.retries"], "2147483647, or unset", |value| value == "2147483647"),
    (&["message.timeout.ms", "delivery.timeout.ms"], "0 (no timeout), or unset", |value| value == "0"),
    (&["queuing.strategy"], "fifo, or unset", |value| value == "fifo"),
    (&["delivery.report.only.error"], "false, or unset", is_false),
    (&["enable.gapless.guarantee"], "unset; the forwarder's strict order sets it", |_| false),
    (&["transactional.id"], "unset", |_| false),
];

fn is_true(value: &str) -> bool {
    matches!(value, "true" | "t" | "1")
}

fn is_false(value: &str) -> bool {
    matches!(value, "false" | "f" | "0")
}

/// The settings that the destination itself follows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Records, and bytes of payload, that may be with librdkafka.
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    /// The largest record.
    pub(crate) record: usize,
    /// The largest batch.
    pub(crate) batch: usize,
}

/// Checks the settings and completes them.
pub(crate) fn prepare(config: &ClientConfig) -> Result<(ClientConfig, Limits), ConfigError> {
    for (names, accepted, is_accepted) in RULES {
        for key in *names {
            if let Some(value) = config.get(key).filter(|value| !is_accepted(value)) {
                return Err(ConfigError::Refused { key: (*key).into(), value: value.into(), accepted });
            }
        }
    }
    let mut config = config.clone();
    config.set("enable.idempotence", "true").set("message.timeout.ms", "0");
    let limits = Limits::read(&config)?;
    // The destination keeps both limits itself. librdkafka counts a record until after its delivery report was handled,
    // so its own limits would say full with no report left to wait for.
    config.set("queue.buffering.max.messages", "0").set("queue.buffering.max.kbytes", "2147483647");
    Ok((config, limits))
}

impl Limits {
    fn read(config: &ClientConfig) -> Result<Self, ConfigError> {
        let native = config.create_native_config().map_err(|error| ConfigError::Client(words(&error)))?;
        let number = |key: &str| -> Result<usize, ConfigError> {
            let value = native.get(key).map_err(|error| ConfigError::Client(words(&error)))?;
            value.parse().map_err(|_| ConfigError::Client(format!("`{key}` is `{value}`")))
        };
        let record = number("message.max.bytes")?;
        Ok(Self {
            messages: match number("queue.buffering.max.messages")? {
                0 => usize::MAX,
                messages => messages,
            },
            bytes: number("queue.buffering.max.kbytes")?.saturating_mul(1024),
            record,
            batch: number("batch.size")?.min(record),
        })
    }
}

/// Returns librdkafka's words, without the value of a setting that may be a secret.
pub(crate) fn words(error: &KafkaError) -> String {
    const SECRETS: [&str; 5] = ["password", "secret", "pem", "oauthbearer", "jaas"];
    match error {
        KafkaError::ClientConfig(_, _, key, _) if SECRETS.iter().any(|part| key.contains(part)) => {
            format!("the value of `{key}` is not accepted, or this build of librdkafka does not know it")
        }
        KafkaError::ClientConfig(_, words, ..) => words.clone(),
        KafkaError::ClientCreation(words) => words.clone(),
        other => other.to_string(),
    }
}

/// Returns whether Kafka accepts the name.
pub(crate) fn is_topic(name: &str) -> bool {
    let is_accepted = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && !matches!(name, "." | "..") && name.bytes().all(is_accepted)
}
