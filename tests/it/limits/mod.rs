mod memory;
mod drop_policy;
mod config;
mod left_behind;
mod hostile;
