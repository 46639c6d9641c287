//! The `JetStream` destination against real servers.
//!
//! Without `nats-server` the tests print how to get it and pass, unless `TURBOSTREAM_REQUIRE_SERVERS=1`.
//! `TURBOSTREAM_EFFORT` multiplies the number of messages.

mod chaos;
mod cluster;
mod common;
mod errors;
mod order;
mod outages;
mod plain;
mod proxy;
#[path = "../../examples/common/nats_server.rs"]
mod server;
