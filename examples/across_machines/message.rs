//! The messages: which producer sent one, in which of its lives, and its number.

use std::fmt::Write as _;

/// The length of a message in bytes.
const LEN: usize = 128;

/// What a message says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) producer: usize,
    /// 0 for the first process of the producer, one more for each process that replaces a killed one.
    pub(crate) life: usize,
    /// The position of the message among those of the producer, from 0. The next life goes on with the first number
    /// that is not known to be confirmed.
    pub(crate) number: u64,
}

impl Mark {
    /// Makes the message, in the room of another one.
    pub(crate) fn write(self, message: &mut String) {
        message.clear();
        let Self { producer, life, number } = self;
        write!(message, "{producer} {life} {number} ").expect("memory takes all");
        message.extend(std::iter::repeat_n('.', LEN.saturating_sub(message.len())));
    }

    /// Reads the front of a message.
    pub(crate) fn read(message: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(message).ok()?.split(' ');
        Some(Self {
            producer: words.next()?.parse().ok()?,
            life: words.next()?.parse().ok()?,
            number: words.next()?.parse().ok()?,
        })
    }
}
