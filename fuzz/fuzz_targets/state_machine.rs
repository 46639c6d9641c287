//! Fuzzes a channel against a plain queue with the operations of `tests/state_machine`, guided by coverage.

#![no_main]

#[path = "../../tests/state_machine/bytes.rs"]
mod bytes;
#[path = "../../tests/state_machine/case.rs"]
mod case;
#[path = "../../tests/common/mod.rs"]
mod common;
#[path = "../../tests/state_machine/handles.rs"]
mod handles;
#[path = "../../tests/state_machine/model.rs"]
mod model;
#[path = "../../tests/state_machine/ops.rs"]
mod ops;
mod panics;
#[path = "../../tests/state_machine/pending.rs"]
mod pending;
#[path = "../../tests/state_machine/receiving.rs"]
mod receiving;
#[path = "../../tests/state_machine/sending.rs"]
mod sending;
#[path = "../../tests/state_machine/world.rs"]
mod world;

libfuzzer_sys::fuzz_target!(init: panics::install_hook(), |input: &[u8]| {
    let (setup, ops) = bytes::case(input);
    panics::report(|| case::run(&setup, &ops), || println!("{setup:#?}\n{ops:#?}"));
});
