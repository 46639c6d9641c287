//! Limits: configuration ranges, the memory bound, drop policies and segment retirement.

mod config;
mod drop_policy;
mod growth;
mod memory;
mod segment_retirement;
