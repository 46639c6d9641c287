//! Random bytes through `Writer` and `Reader`, cut up at random: the same bytes come out, records whole, against a plain
//! list of records.
//!
//! Cases are made out of bytes, here at random, and in the fuzz target of the same name by what they reach; what that has
//! gathered is tried here, too. `TURBOSTREAM_EFFORT` multiplies the number of cases.

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
fn bytes_come_out_as_they_went_in() {
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
fn what_the_fuzzer_has_gathered_holds() {
    plain(|| {
        let inputs = corpus("byte_streams").inspect(|bytes| machine::run(bytes)).count();
        assert!(inputs > 0);
    });
}
