//! One case, from beginning to end.

use tokio::task::coop::unconstrained;

use crate::common::current_runtime;
use crate::ops::{Op, Setup};
use crate::world::World;

/// All on one thread, and time stands still unless it is told to go on: what a case does depends on nothing else.
pub(crate) fn run(setup: &Setup, ops: &[Op]) {
    let runtime = current_runtime(true);
    // The budget is for tasks that share a thread; here it would make every 128th poll a pending one.
    runtime.block_on(unconstrained(async {
        let mut world = World::new(setup.clone());
        for op in ops {
            world.apply(op).await;
            if world.model.has_lost_track() {
                return;
            }
        }
        world.end().await;
    }));
}
