//! A global allocator that is either the system's or mimalloc for the lifetime of the process.
//! Optionally counts the bytes in use.
//!
//! The environment determines both choices at the first allocation, before `main`. So each block is freed by the
//! allocator that allocated it, and counted on both occasions. The cost is one relaxed load and one well-predicted branch
//! per call, the same for every contender.

use mimalloc::MiMalloc;
use serde::{Deserialize, Serialize};
use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{CStr, c_char};
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering::Relaxed};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Allocator {
    System,
    Mimalloc,
}

impl Allocator {
    pub const ALL: [Self; 2] = [Self::System, Self::Mimalloc];
    /// The environment variable that selects a child's allocator.
    pub const VARIABLE: &str = "PEERS_ALLOCATOR";
    /// The environment variable that enables counting in a child.
    pub const COUNT_VARIABLE: &str = "PEERS_COUNT_HEAP";

    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Mimalloc => "mimalloc",
        }
    }
}

const MIMALLOC: u8 = 1;
const COUNTED: u8 = 2;
const UNDECIDED: u8 = 4;

/// A bit set of [`MIMALLOC`] and [`COUNTED`], or [`UNDECIDED`].
static CHOSEN: AtomicU8 = AtomicU8::new(UNDECIDED);
static IN_USE: AtomicI64 = AtomicI64::new(0);

/// The allocator of this process.
pub fn current() -> Allocator {
    if use_mimalloc(0) { Allocator::Mimalloc } else { Allocator::System }
}

/// Bytes that were allocated and not freed yet; `None` if they are not counted.
pub fn bytes_in_use() -> Option<i64> {
    (CHOSEN.load(Relaxed) & COUNTED != 0).then(|| IN_USE.load(Relaxed))
}

/// Adds `growth` to the bytes in use; returns whether the call goes to mimalloc.
#[inline(always)]
fn use_mimalloc(growth: isize) -> bool {
    let chosen = CHOSEN.load(Relaxed);
    if chosen <= MIMALLOC { chosen == MIMALLOC } else { decide_or_count(chosen, growth) }
}

#[cold]
#[inline(never)]
fn decide_or_count(chosen: u8, growth: isize) -> bool {
    let chosen = if chosen == UNDECIDED { decide() } else { chosen };
    if chosen & COUNTED != 0 {
        IN_USE.fetch_add(growth as i64, Relaxed);
    }
    chosen & MIMALLOC != 0
}

unsafe extern "C" {
    // From the C library: `std::env::var_os` allocates, which the allocator must not.
    fn getenv(name: *const c_char) -> *const c_char;
}

fn decide() -> u8 {
    const ALLOCATOR: &CStr = c"PEERS_ALLOCATOR";
    const COUNT: &CStr = c"PEERS_COUNT_HEAP";
    // SAFETY: the names are C strings; this runs at the first allocation, when one thread exists, and this program
    // never changes its environment. A non-null result is a C string that stays valid.
    let [allocator, count] = unsafe {
        [ALLOCATOR, COUNT].map(|name| {
            let value = getenv(name.as_ptr());
            if value.is_null() { None } else { Some(CStr::from_ptr(value)) }
        })
    };
    let mimalloc = if allocator.is_some_and(|name| name.to_bytes() == b"mimalloc") { MIMALLOC } else { 0 };
    let counted = if count.is_some() { COUNTED } else { 0 };
    CHOSEN.store(mimalloc | counted, Relaxed);
    mimalloc | counted
}

pub struct Dispatch;

// SAFETY: every call is forwarded unchanged to one allocator, the same one for the lifetime of the process.
unsafe impl GlobalAlloc for Dispatch {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mimalloc = use_mimalloc(layout.size() as isize);
        // SAFETY: the caller meets the contract of `alloc`.
        unsafe { if mimalloc { MiMalloc.alloc(layout) } else { System.alloc(layout) } }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let mimalloc = use_mimalloc(layout.size() as isize);
        // SAFETY: as in `alloc`.
        unsafe { if mimalloc { MiMalloc.alloc_zeroed(layout) } else { System.alloc_zeroed(layout) } }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let mimalloc = use_mimalloc(-(layout.size() as isize));
        // SAFETY: as in `alloc`.
        unsafe { if mimalloc { MiMalloc.dealloc(block, layout) } else { System.dealloc(block, layout) } }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let mimalloc = use_mimalloc(size as isize - layout.size() as isize);
        // SAFETY: as in `alloc`.
        unsafe {
            if mimalloc { MiMalloc.realloc(block, layout, size) } else { System.realloc(block, layout, size) }
        }
    }
}
