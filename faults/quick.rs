//! The tests that are quick and look at everything, in one binary: it is built and linked anew for every mutant.
#![allow(clippy::duplicate_mod, reason = "each of them brings its `common`")]

#[path = "../tests/batches.rs"]
mod batches;
#[path = "../tests/behind_the_cut.rs"]
mod behind_the_cut;
#[path = "../tests/drained.rs"]
mod drained;
#[path = "../tests/given_up.rs"]
mod given_up;
#[path = "../tests/hostile.rs"]
mod hostile;
#[path = "../tests/left_behind.rs"]
mod left_behind;
#[path = "../tests/lifecycle.rs"]
mod lifecycle;
#[path = "../tests/memory.rs"]
mod memory;
#[path = "../tests/overflow.rs"]
mod overflow;
#[path = "../tests/payloads.rs"]
mod payloads;
#[path = "../tests/reading.rs"]
mod reading;
#[path = "../tests/recorder.rs"]
mod recorder;
#[path = "../tests/regressions.rs"]
mod regressions;
#[path = "../tests/safe_mode.rs"]
mod safe_mode;
#[path = "../tests/send_many.rs"]
mod send_many;
#[path = "../tests/send_with.rs"]
mod send_with;
#[path = "../tests/strategies.rs"]
mod strategies;
#[path = "../tests/waiters.rs"]
mod waiters;
