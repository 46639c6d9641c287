//! What is done to the channel.

pub mod bursts;
pub mod channels;
pub mod empties;
pub mod held;
pub mod kills;
pub mod load;
mod receiving;
mod samples;
mod sending;
