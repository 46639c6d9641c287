//! Loom models, and end-to-end runs under shuttle.

#[cfg(turbostream_loom)]
mod loom;
#[cfg(turbostream_shuttle)]
mod shuttle;
