//! Tests of whole channels on the crate's own code: loom models, end-to-end runs under shuttle, and unit tests.

#[cfg(not(any(turbostream_loom, turbostream_shuttle)))]
mod inside;
#[cfg(turbostream_loom)]
mod loom;
#[cfg(turbostream_shuttle)]
mod shuttle;
#[cfg(not(any(turbostream_loom, turbostream_shuttle)))]
mod stalls;
