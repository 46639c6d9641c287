//! Random bytes through `Writer` and `Reader`, split at random. The output equals the input and records stay whole, compared
//! with a plain list of records.
//!
//! Cases are made out of bytes: random ones here, and coverage-guided ones in the fuzz target of the same name, whose corpus
//! also runs here. `TURBOSTREAM_EFFORT` multiplies the number of cases.

#[path = "../common/mod.rs"]
mod common;
mod machine;
mod ops;
mod records;

use common::{corpus, effort, plain, plain_within};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};

const CASES: u32 = 500;

#[test]
fn bytes_are_read_in_the_order_written() {
    plain_within(common::LIMIT * effort() as u32, || {
        let config = Config {
            cases: CASES * effort() as u32,
            failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
                "tests/byte_streams/regressions.txt",
            ))),
            ..Config::default()
        };
        let result = TestRunner::new(config).run(&vec(any::<u8>(), 20..600), |bytes| {
            machine::run(&bytes);
            Ok(())
        });
        if let Err(failure) = result {
            panic!("{failure}");
        }
    });
}

#[test]
fn fuzz_corpus_passes() {
    plain(|| {
        let inputs = corpus("byte_streams").inspect(|bytes| machine::run(bytes)).count();
        assert!(inputs > 0);
    });
}
