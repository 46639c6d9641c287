//! Looks that are repeated for a moment before something slower is done: for microseconds at most, and never on one core,
//! where the other side could not run meanwhile.

use crate::sync::{spin_limit, spin_loop};

/// Looks again and again; true once `done` is.
pub(crate) fn look_until(mut done: impl FnMut() -> bool) -> bool {
    done()
        || (0..spin_limit()).any(|_| {
            spin_loop();
            done()
        })
}

/// Looks after `pause` turns, and then each time after twice as many, as each look takes a cache line away from whoever may be
/// writing it; true once `done` is.
pub(crate) fn look_seldom_until(mut pause: usize, mut done: impl FnMut() -> bool) -> bool {
    while pause <= 2 * spin_limit() {
        (0..pause).for_each(|_| spin_loop());
        if done() {
            return true;
        }
        pause *= 2;
    }
    false
}

/// Whether spinning is of any use here.
pub(crate) fn is_possible() -> bool {
    spin_limit() > 0
}
