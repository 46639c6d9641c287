//! When a switch happens, and the state after a cut.

mod after_cut;
mod strategies;
mod strategy_rules;
mod strategy_timer;
