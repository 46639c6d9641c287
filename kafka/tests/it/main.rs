//! The destination against librdkafka's mock cluster and against a real broker.

mod broker;
mod config;
mod delivery;
mod errors;
mod forwarder;
mod order;
mod support;
