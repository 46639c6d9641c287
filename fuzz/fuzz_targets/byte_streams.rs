//! Bytes through a writer and a reader, as in `tests/byte_streams`, but chosen by what they reach.

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

libfuzzer_sys::fuzz_target!(init: panics::expect(), |input: &[u8]| {
    panics::tell(|| machine::run(input), || println!("{:#?}", ops::case(input)));
});
