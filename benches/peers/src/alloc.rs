//! One global allocator that is either the system's or mimalloc, for the whole life of the process.
//!
//! The choice comes from the environment and is made at the first allocation, before `main`, so no block is ever
//! freed by the other allocator. After that it costs one relaxed load and one well predicted branch per call, the
//! same for every contender.

use mimalloc::MiMalloc;
use serde::{Deserialize, Serialize};
use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{CStr, c_char};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Allocator {
    System,
    Mimalloc,
}

impl Allocator {
    pub const ALL: [Self; 2] = [Self::System, Self::Mimalloc];
    /// The variable by which the driver tells a child its allocator.
    pub const VARIABLE: &str = "PEERS_ALLOCATOR";

    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Mimalloc => "mimalloc",
        }
    }
}

const UNDECIDED: u8 = 0;
const SYSTEM: u8 = 1;
const MIMALLOC: u8 = 2;

static CHOSEN: AtomicU8 = AtomicU8::new(UNDECIDED);

/// The allocator this process runs on.
pub fn current() -> Allocator {
    if use_mimalloc() { Allocator::Mimalloc } else { Allocator::System }
}

#[inline(always)]
fn use_mimalloc() -> bool {
    match CHOSEN.load(Relaxed) {
        SYSTEM => false,
        MIMALLOC => true,
        _ => decide(),
    }
}

unsafe extern "C" {
    // The C library's own: `std::env::var_os` allocates, which the allocator's first call must not.
    fn getenv(name: *const c_char) -> *const c_char;
}

#[cold]
#[inline(never)]
fn decide() -> bool {
    const NAME: &CStr = c"PEERS_ALLOCATOR";
    // SAFETY: the name is a C string; this runs at the process's first allocation, when one thread exists, and this
    // program never changes its environment. A non-null answer is a C string that stays in place.
    let wanted = unsafe {
        let value = getenv(NAME.as_ptr());
        if value.is_null() { None } else { Some(CStr::from_ptr(value)) }
    };
    let mimalloc = wanted.is_some_and(|value| value.to_bytes() == b"mimalloc");
    CHOSEN.store(if mimalloc { MIMALLOC } else { SYSTEM }, Relaxed);
    mimalloc
}

pub struct Dispatch;

// SAFETY: every call goes unchanged to one allocator, and to the same one during the whole life of the process.
unsafe impl GlobalAlloc for Dispatch {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the callee's demands.
        unsafe { if use_mimalloc() { MiMalloc.alloc(layout) } else { System.alloc(layout) } }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        unsafe { if use_mimalloc() { MiMalloc.alloc_zeroed(layout) } else { System.alloc_zeroed(layout) } }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as in `alloc`.
        unsafe {
            if use_mimalloc() { MiMalloc.dealloc(block, layout) } else { System.dealloc(block, layout) }
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as in `alloc`.
        unsafe {
            if use_mimalloc() {
                MiMalloc.realloc(block, layout, size)
            } else {
                System.realloc(block, layout, size)
            }
        }
    }
}
