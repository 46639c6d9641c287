//! Fuzzes a writer and a reader with the operations of `tests/byte_streams`, guided by coverage.

#![no_main]

#[path = "../../tests/common/mod.rs"]
mod common;
#[path = "../../tests/byte_streams/machine.rs"]
mod machine;
#[path = "../../tests/byte_streams/ops.rs"]
mod ops;
mod panics;
#[path = "../../tests/byte_streams/records.rs"]
mod records;

libfuzzer_sys::fuzz_target!(init: panics::install_hook(), |input: &[u8]| {
    panics::report(|| machine::run(input), || println!("{:#?}", ops::case(input)));
});
