mod reading;
mod batches;
mod blocking_recv;
mod safe_mode;
