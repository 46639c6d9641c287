//! Runs one case.

use tokio::task::coop::unconstrained;

use crate::common::current_runtime;
use crate::ops::{Op, Setup};
use crate::world::World;

/// Everything runs on one thread with a paused clock, so a case depends on nothing else.
pub(crate) fn run(setup: &Setup, ops: &[Op]) {
    let runtime = current_runtime(true);
    // The coop budget is for tasks that share a thread. Here it would make every 128th poll pending.
    runtime.block_on(unconstrained(async {
        let mut world = World::new(setup.clone());
        for op in ops {
            world.apply(op).await;
            if world.model.has_too_many_orders() {
                return;
            }
        }
        world.end().await;
    }));
}
