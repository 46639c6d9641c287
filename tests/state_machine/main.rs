//! Random operations, all of the public API, against a plain queue: conservation, order, sequences, the bound on memory and
//! the figures after each step.
//!
//! `TURBOSTREAM_EFFORT` multiplies the number of cases. A case that fails is made small, and its seed written to
//! `regressions.txt`, which is tried first from then on.

#[path = "../common/mod.rs"]
mod common;
mod handles;
mod model;
mod ops;
mod pending;
mod receiving;
mod sending;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use common::{current_runtime, effort, plain_within};
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};
use tokio::task::coop::unconstrained;

use ops::{Op, Setup, ops, setups};
use world::World;

const CASES: u32 = 300;

fn config() -> Config {
    Config {
        cases: CASES * effort() as u32,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            "tests/state_machine/regressions.txt",
        ))),
        max_shrink_iters: 20_000,
        ..Config::default()
    }
}

/// All on one thread, and time stands still unless it is told to go on: what a case does depends on nothing else.
fn run(setup: &Setup, ops: &[Op]) {
    let runtime = current_runtime(true);
    // The budget is for tasks that share a thread; here it would make every 128th poll a pending one.
    runtime.block_on(unconstrained(async {
        let mut world = World::new(setup.clone());
        for op in ops {
            world.apply(op).await;
        }
        world.end().await;
    }));
}

#[test]
fn the_channel_is_a_queue() {
    plain_within(common::LIMIT * effort() as u32, || {
        let steps = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&steps);
        let result = TestRunner::new(config()).run(&(setups(), ops()), move |(setup, ops)| {
            counted.fetch_add(ops.len(), Relaxed);
            run(&setup, &ops);
            Ok(())
        });
        println!("{} operations", steps.load(Relaxed));
        if let Err(failure) = result {
            panic!("{failure}");
        }
        assert!(steps.load(Relaxed) > 0);
    });
}
