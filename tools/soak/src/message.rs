//! Messages whose bytes are a function of their sender, number and length.
//!
//! ```text
//! 0        8        12     16                    24
//! │ number │ sender │ len  │ word: hash of all three │ bytes of a random table, at an offset given by the word
//! ```
//!
//! A message shorter than the header encodes its length only.

use std::sync::OnceLock;

pub const HEADER: usize = 24;
pub const EXTERNAL_FROM: usize = 32 << 10;
const LONGEST: usize = 64 << 10;
const TABLE: usize = 256 << 10;

/// The sender of a message and its number among that sender's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    pub sender: u32,
    pub number: u64,
    /// Identifies the message.
    pub word: u64,
}

pub fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn word(sender: u32, number: u64, len: usize) -> u64 {
    mix(number ^ mix(u64::from(sender) << 32 | len as u64))
}

fn table() -> &'static [u8] {
    static TABLE_OF_BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    TABLE_OF_BYTES.get_or_init(|| (0..TABLE as u64 / 8).flat_map(|at| mix(at).to_le_bytes()).collect())
}

/// Creates the table before memory is measured.
pub fn prepare() {
    table();
}

fn body(word: u64, len: usize) -> &'static [u8] {
    let start = word as usize % (TABLE - LONGEST);
    &table()[start..start + len]
}

/// The length of a message: mostly 128 bytes, some shorter than a header, some up to 2 KiB, one in 5,000 external.
pub fn len(sender: u32, number: u64) -> usize {
    let random = mix(u64::from(sender) << 56 ^ number) as usize;
    let choice = random / (LONGEST - EXTERNAL_FROM) % 5000;
    match choice {
        0 => EXTERNAL_FROM + random % (LONGEST - EXTERNAL_FROM),
        1..100 => 0,
        100..250 => random % HEADER,
        250..750 => HEADER + random % (2048 - HEADER),
        _ => 128,
    }
}

/// Fills `buf` with the message of that length.
pub fn write(sender: u32, number: u64, buf: &mut [u8]) {
    let len = buf.len();
    let Some((header, rest)) = buf.split_at_mut_checked(HEADER) else {
        buf.fill(!(len as u8));
        return;
    };
    let word = word(sender, number, len);
    header[..8].copy_from_slice(&number.to_le_bytes());
    header[8..12].copy_from_slice(&sender.to_le_bytes());
    header[12..16].copy_from_slice(&(len as u32).to_le_bytes());
    header[16..].copy_from_slice(&word.to_le_bytes());
    rest.copy_from_slice(body(word, rest.len()));
}

/// Compares every byte and returns the origin; `None` if the message has no header.
///
/// # Errors
///
/// If a byte differs from what was written.
pub fn read(bytes: &[u8]) -> Result<Option<Origin>, Torn> {
    let Some((header, rest)) = bytes.split_at_checked(HEADER) else {
        return if bytes.iter().all(|&byte| byte == !(bytes.len() as u8)) { Ok(None) } else { Err(Torn) };
    };
    let origin = origin(header);
    let is_whole = header[12..16] == (bytes.len() as u32).to_le_bytes()
        && origin.word == word(origin.sender, origin.number, bytes.len())
        && rest == body(origin.word, rest.len());
    if is_whole { Ok(Some(origin)) } else { Err(Torn) }
}

/// Decodes a header.
pub fn origin(header: &[u8]) -> Origin {
    let long = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
    Origin { number: long(0), sender: long(8) as u32, word: long(16) }
}

/// A message that differs from what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_detects_each_changed_byte() {
        for number in 0..2000 {
            let mut bytes = vec![0; len(3, number)];
            write(3, number, &mut bytes);
            let origin = read(&bytes).expect("as it was written");
            assert_eq!(origin.map(|origin| origin.number), (bytes.len() >= HEADER).then_some(number));
            for at in 0..bytes.len().min(200) {
                bytes[at] ^= 1;
                assert!(read(&bytes).is_err(), "byte {at} of {number}");
                bytes[at] ^= 1;
            }
            assert!(bytes.len() < 2 || read(&bytes[1..]).is_err(), "truncated {number}");
        }
    }

    #[test]
    fn lengths_cover_every_kind() {
        let lens: Vec<_> = (0..100_000).map(|number| len(0, number)).collect();
        let count = |range: std::ops::Range<usize>| lens.iter().filter(|len| range.contains(len)).count();
        assert!(count(0..1) > 1000 && count(1..HEADER) > 1000 && count(HEADER..2048) > 90_000);
        assert!((5..60).contains(&count(EXTERNAL_FROM..LONGEST)));
    }
}
