//! `JetStreamSource` against a real `nats-server`.
//!
//! Without one the tests print how to get it and pass, unless `TURBOSTREAM_REQUIRE_SERVERS=1`.

mod delivery;
mod ends;
mod first;
mod fixture;
mod outages;
mod processes;
#[path = "../../examples/common/nats_server.rs"]
#[expect(dead_code, reason = "only the tests of the destination use clusters and other configurations")]
mod server;
