//! One global allocator that is either the system's or mimalloc, for the whole life of the process, and that counts
//! the bytes in use where a run asks for it.
//!
//! Both choices come from the environment and are made at the first allocation, before `main`, so no block is ever
//! freed by the other allocator or counted only once. After that they cost one relaxed load and one well predicted
//! branch per call, the same for every contender.

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
    /// The variable by which the driver tells a child its allocator.
    pub const VARIABLE: &str = "PEERS_ALLOCATOR";
    /// The variable by which the driver has a child count what it has allocated, if it is set.
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

/// The system's allocator, unless [`MIMALLOC`], uncounted, unless [`COUNTED`].
static CHOSEN: AtomicU8 = AtomicU8::new(UNDECIDED);
static IN_USE: AtomicI64 = AtomicI64::new(0);

/// The allocator this process runs on.
pub fn current() -> Allocator {
    if use_mimalloc(0) { Allocator::Mimalloc } else { Allocator::System }
}

/// The bytes that were asked for and not yet freed; nothing where they are not counted.
pub fn bytes_in_use() -> Option<i64> {
    (CHOSEN.load(Relaxed) & COUNTED != 0).then(|| IN_USE.load(Relaxed))
}

/// Whether the call that makes `growth` more bytes be in use goes to mimalloc.
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
    // The C library's own: `std::env::var_os` allocates, which the allocator's first call must not.
    fn getenv(name: *const c_char) -> *const c_char;
}

fn decide() -> u8 {
    const ALLOCATOR: &CStr = c"PEERS_ALLOCATOR";
    const COUNT: &CStr = c"PEERS_COUNT_HEAP";
    // SAFETY: the names are C strings; this runs at the process's first allocation, when one thread exists, and this
    // program never changes its environment. A non-null answer is a C string that stays in place.
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

// SAFETY: every call goes unchanged to one allocator, and to the same one during the whole life of the process.
unsafe impl GlobalAlloc for Dispatch {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mimalloc = use_mimalloc(layout.size() as isize);
        // SAFETY: the caller's promises are the callee's demands.
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
