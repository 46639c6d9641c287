//! Sending: `send_many`, `send_with`, `blocking_send`, payload types and errors.

mod blocking_send;
mod errors;
mod payloads;
mod send_many;
mod send_with;
