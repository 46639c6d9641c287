mod send_many;
mod send_with;
mod blocking_send;
mod payloads;
mod errors;
