//! Panics that belong to a case, and one that ends it.

use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};

thread_local! {
    static LATEST: RefCell<Option<(String, Backtrace)>> = const { RefCell::new(None) };
}

/// Has panics noted and not told: closures of the user panic on purpose, all the time. libFuzzer's own hook would abort.
pub(crate) fn expect() {
    set_hook(Box::new(|panic| {
        LATEST.set(Some((panic.to_string(), Backtrace::capture())));
    }));
}

/// Runs `case`, and tells of a panic that comes out of it, and of the case.
pub(crate) fn tell(case: impl FnOnce(), describe: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(case)).is_err() {
        describe();
        if let Some((panic, backtrace)) = LATEST.take() {
            eprintln!("{panic}\n{backtrace}");
        }
        std::process::abort();
    }
}
