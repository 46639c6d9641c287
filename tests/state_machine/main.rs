//! Runs random operations of the whole public API against a plain queue. Checks conservation, order, sequences, the memory
//! bound and the statistics after each step.
//!
//! `TURBOSTREAM_EFFORT` multiplies the number of cases. A failing case is shrunk, and its seed is written to
//! `regressions.txt`, whose seeds run first from then on.
//!
//! The fuzz target of the same name makes its cases out of bytes. The tests here also run its corpus.

mod bytes;
mod case;
#[path = "../common/mod.rs"]
mod common;
mod handles;
mod model;
mod ops;
mod pending;
mod random;
mod receiving;
mod sending;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use common::{corpus, effort, plain, plain_within};
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};

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

#[test]
fn channel_behaves_like_a_queue() {
    plain_within(common::LIMIT * effort() as u32, || {
        let steps = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&steps);
        let result =
            TestRunner::new(config()).run(&(random::setups(), random::ops()), move |(setup, ops)| {
                counted.fetch_add(ops.len(), Relaxed);
                case::run(&setup, &ops);
                Ok(())
            });
        println!("{} operations", steps.load(Relaxed));
        if let Err(failure) = result {
            panic!("{failure}");
        }
        assert!(steps.load(Relaxed) > 0);
    });
}

#[test]
fn fuzz_corpus_passes() {
    plain(|| {
        let steps: usize = corpus("state_machine")
            .map(|bytes| {
                let (setup, ops) = bytes::case(&bytes);
                case::run(&setup, &ops);
                ops.len()
            })
            .sum();
        println!("{steps} operations");
        assert!(steps > 0);
    });
}
