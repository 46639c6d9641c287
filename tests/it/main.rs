//! The crate's behaviour through its public API, by topic.

#![cfg(not(any(turbostream_loom, turbostream_shuttle)))]

#[path = "../common/mod.rs"]
mod common;

mod adapters;
mod go_port_regressions;
mod lifecycle;
mod limits;
mod panics;
mod recv;
mod send;
mod structure;
mod switch;
mod telemetry;
mod wait;
