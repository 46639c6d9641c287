//! Compares received with sent messages, so that a contender cannot be fast by losing messages.

use super::message::Source;
use std::marker::PhantomData;

/// Counts messages and checks their order.
///
/// An exclusive receiver must receive the next message of each sender, a competing receiver any later one.
pub struct Check<S> {
    /// By sender, the next expected index.
    expected: Vec<u64>,
    /// By sender, the received indices; only for competing receivers.
    received: Option<Vec<Bits>>,
    error: Option<String>,
    source: PhantomData<fn() -> S>,
}

impl<S: Source> Check<S> {
    /// For a single receiver.
    pub fn exclusive(senders: usize) -> Self {
        Self { expected: vec![0; senders], received: None, error: None, source: PhantomData }
    }

    /// For one of several receivers.
    pub fn competing(senders: usize) -> Self {
        Self { received: Some(vec![Bits::default(); senders]), ..Self::exclusive(senders) }
    }

    /// Checks a message; returns its index among those of its sender.
    #[inline]
    pub fn verify(&mut self, message: &[u8]) -> u64 {
        let Some(stamp) = S::stamp(message) else { return self.fail(message) };
        let (sender, index) = (stamp.sender(), stamp.index());
        match (self.expected.get_mut(sender), &mut self.received) {
            (Some(expected), None) if index == *expected % S::DISTINCT => {
                *expected += 1;
                *expected - 1
            }
            (Some(expected), Some(received)) if index >= *expected => {
                *expected = index + 1;
                received[sender].set(index);
                index
            }
            _ => self.fail(message),
        }
    }

    #[cold]
    fn fail(&mut self, message: &[u8]) -> u64 {
        self.error.get_or_insert_with(|| match S::stamp(message) {
            None => format!("a message of {} bytes is torn or was never sent", message.len()),
            Some(stamp) => {
                let (sender, index) = (stamp.sender(), stamp.index());
                let expected = self.expected.get(sender);
                format!("message {index} of sender {sender} received, {expected:?} expected")
            }
        });
        u64::MAX
    }

    /// Whether all messages so far were correct.
    #[inline]
    pub fn is_ok(&self) -> bool {
        self.error.is_none()
    }

    /// Checks that all receivers together received `each` messages of every sender, each once.
    pub fn finish(receivers: Vec<Self>, each: u64) -> Result<(), String> {
        let mut total: Option<Vec<Bits>> = None;
        for receiver in receivers {
            if let Some(error) = receiver.error {
                return Err(error);
            }
            match (receiver.received, &mut total) {
                (None, _) => return complete(receiver.expected.into_iter(), each),
                (Some(own), None) => total = Some(own),
                (Some(own), Some(all)) => {
                    all.iter_mut().zip(own).try_for_each(|(all, own)| all.add(&own))?;
                }
            }
        }
        complete(total.unwrap_or_default().iter().map(Bits::count), each)
    }
}

fn complete(counts: impl Iterator<Item = u64>, each: u64) -> Result<(), String> {
    for (sender, count) in counts.enumerate() {
        if count != each {
            return Err(format!("sender {sender} sent {each} messages, {count} were received"));
        }
    }
    Ok(())
}

/// A set of indices.
#[derive(Clone, Default)]
struct Bits(Vec<u64>);

impl Bits {
    #[inline]
    fn set(&mut self, index: u64) {
        let word = (index / 64) as usize;
        if word >= self.0.len() {
            self.0.resize(word + 1024, 0);
        }
        self.0[word] |= 1 << (index % 64);
    }

    /// Adds the indices of another set, which must be disjoint.
    fn add(&mut self, other: &Self) -> Result<(), String> {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            if *word & more != 0 {
                return Err("two receivers received the same message".to_string());
            }
            *word |= more;
        }
        Ok(())
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::Copied;
    use super::*;

    type Check128 = Check<Copied<128>>;

    fn messages(sender: usize, count: u64) -> Vec<Vec<u8>> {
        let mut source = Copied::<128>::new(sender);
        (0..count).map(|index| source.stamped(index).to_vec()).collect()
    }

    fn exclusive(messages: &[Vec<u8>]) -> Result<(), String> {
        let mut check = Check128::exclusive(1);
        for message in messages {
            check.verify(message);
        }
        Check128::finish(vec![check], 3)
    }

    #[test]
    fn exclusive_receiver_must_receive_all_once_in_order() {
        let [a, b, c] = messages(0, 3).try_into().unwrap();
        let torn = [&a[..120], &b[120..]].concat();
        assert_eq!(exclusive(&[a.clone(), b.clone(), c.clone()]), Ok(()));
        assert!(exclusive(&[a.clone(), b.clone()]).unwrap_err().contains("2 were received"));
        assert!(exclusive(&[a.clone(), c.clone(), b.clone()]).unwrap_err().contains("expected"));
        assert!(exclusive(&[a.clone(), b.clone(), b.clone(), c.clone()]).unwrap_err().contains("expected"));
        assert!(exclusive(&[torn, b.clone(), c.clone()]).unwrap_err().contains("torn"));
        assert!(exclusive(&[a[..127].to_vec(), b, c]).unwrap_err().contains("torn"));
    }

    #[test]
    fn competing_receivers_must_not_lose_duplicate_or_reorder() {
        let sent = [messages(0, 3), messages(1, 3)].concat();
        let competing = |first: &[usize], second: &[usize]| {
            let checks = [first, second].map(|taken| {
                let mut check = Check128::competing(2);
                for &at in taken {
                    check.verify(&sent[at]);
                }
                check
            });
            Check128::finish(checks.into(), 3)
        };
        assert_eq!(competing(&[0, 4, 2], &[3, 1, 5]), Ok(()));
        assert!(competing(&[0, 4, 2], &[3, 1]).unwrap_err().contains("2 were received"));
        assert!(competing(&[0, 4, 2], &[3, 1, 4, 5]).unwrap_err().contains("two receivers"));
        assert!(competing(&[2, 0, 4], &[3, 1, 5]).unwrap_err().contains("expected"));
    }
}
