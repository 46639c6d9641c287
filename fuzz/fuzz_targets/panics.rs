//! Distinguishes expected panics of user code from the panic that fails a case.

use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};

thread_local! {
    static LATEST: RefCell<Option<(String, Backtrace)>> = const { RefCell::new(None) };
}

/// Installs a hook that stores panics without printing them.
///
/// User closures panic on purpose, often. libFuzzer's own hook would abort.
pub(crate) fn install_hook() {
    set_hook(Box::new(|panic| {
        LATEST.set(Some((panic.to_string(), Backtrace::capture())));
    }));
}

/// Runs `case`; if it panics, prints the case and the panic, and aborts.
pub(crate) fn report(case: impl FnOnce(), describe: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(case)).is_err() {
        describe();
        if let Some((panic, backtrace)) = LATEST.take() {
            eprintln!("{panic}\n{backtrace}");
        }
        std::process::abort();
    }
}
