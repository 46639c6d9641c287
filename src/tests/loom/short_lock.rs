//! The lock of the head, which is the checker's mutex in all other models.

use loom::thread;

use super::explore_within;
use crate::sync::Arc;
use crate::sync::short_lock::real::ShortLock;

/// Two threads change a value under the lock; loom finds each access that the lock does not order.
#[test]
fn owner_acquires_what_the_owner_before_did() {
    explore_within(3, "owner_acquires_what_the_owner_before_did", || {
        let lock = Arc::new(ShortLock::new(0));
        let other = thread::spawn({
            let lock = Arc::clone(&lock);
            move || *lock.lock() += 1
        });
        *lock.lock() += 1;
        other.join().unwrap();
        assert_eq!(*lock.lock(), 2);
    });
}
