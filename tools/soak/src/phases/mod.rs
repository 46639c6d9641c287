//! The phases of a soak run.

pub mod bursts;
pub mod channels;
pub mod empty_messages;
pub mod load;
mod receivers;
pub mod retained;
mod samples;
mod senders;
pub mod shutdowns;
