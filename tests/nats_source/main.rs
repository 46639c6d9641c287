//! `JetStreamSource` against a real `nats-server`.

mod delivery;
mod ends;
mod fixture;
mod processes;
mod server;
