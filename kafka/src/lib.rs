#![doc = include_str!("../README.md")]

mod config;
mod failure;
mod kafka;
mod producer;
mod record;
mod shared;

pub use config::ConfigError;
pub use failure::DeliveryError;
pub use kafka::Kafka;
pub use rdkafka;
pub use record::Receipt;

/// The header of a record that holds the id of the message: UTF-8, as `host-7-<run>-<sequence>`.
///
/// A consumer that remembers the ids it has seen recognises a record that was stored twice.
pub const ID_HEADER: &str = "turbostream-id";
