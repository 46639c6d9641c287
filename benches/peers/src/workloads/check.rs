//! Holds what a receiver gets against what was sent, so that nobody is fast by losing.

use super::message::Source;
use std::marker::PhantomData;

/// Counts messages and holds each against what it must be: a lone receiver's next of its sender, a competing
/// receiver's any later one.
pub struct Check<S> {
    /// By sender, the index that follows the latest message.
    due: Vec<u64>,
    /// By sender, the indices that came, where other receivers get the rest.
    came: Option<Vec<Bits>>,
    wrong: Option<String>,
    source: PhantomData<fn() -> S>,
}

impl<S: Source> Check<S> {
    /// For the only receiver.
    pub fn alone(senders: usize) -> Self {
        Self { due: vec![0; senders], came: None, wrong: None, source: PhantomData }
    }

    /// For one of several receivers.
    pub fn competing(senders: usize) -> Self {
        Self { came: Some(vec![Bits::default(); senders]), ..Self::alone(senders) }
    }

    /// Looks at a message and tells its index among those of its sender.
    #[inline]
    pub fn look(&mut self, message: &[u8]) -> u64 {
        let Some(stamp) = S::stamp(message) else { return self.note(message) };
        let (sender, index) = (stamp.sender(), stamp.index());
        match (self.due.get_mut(sender), &mut self.came) {
            (Some(due), None) if index == *due % S::DIFFERENT => {
                *due += 1;
                *due - 1
            }
            (Some(due), Some(came)) if index >= *due => {
                *due = index + 1;
                came[sender].set(index);
                index
            }
            _ => self.note(message),
        }
    }

    #[cold]
    fn note(&mut self, message: &[u8]) -> u64 {
        self.wrong.get_or_insert_with(|| match S::stamp(message) {
            None => format!("a message of {} bytes is torn or was never sent", message.len()),
            Some(stamp) => {
                let (sender, index) = (stamp.sender(), stamp.index());
                let due = self.due.get(sender);
                format!("message {index} of sender {sender} came where {due:?} was due")
            }
        });
        u64::MAX
    }

    /// Whether nothing was wrong so far.
    #[inline]
    pub fn is_right(&self) -> bool {
        self.wrong.is_none()
    }

    /// Whether all receivers together got `each` messages of every sender, each once.
    pub fn finish(receivers: Vec<Self>, each: u64) -> Result<(), String> {
        let mut came: Option<Vec<Bits>> = None;
        for receiver in receivers {
            if let Some(wrong) = receiver.wrong {
                return Err(wrong);
            }
            match (receiver.came, &mut came) {
                (None, _) => return complete(receiver.due.into_iter(), each),
                (Some(own), None) => came = Some(own),
                (Some(own), Some(all)) => {
                    all.iter_mut().zip(own).try_for_each(|(all, own)| all.add(&own))?;
                }
            }
        }
        complete(came.unwrap_or_default().iter().map(Bits::count), each)
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

    /// Adds another's, which must all be new.
    fn add(&mut self, other: &Self) -> Result<(), String> {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            if *word & more != 0 {
                return Err("a message went to two receivers".to_string());
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

    fn alone(messages: &[Vec<u8>]) -> Result<(), String> {
        let mut check = Check128::alone(1);
        for message in messages {
            check.look(message);
        }
        Check128::finish(vec![check], 3)
    }

    #[test]
    fn a_lone_receiver_gets_everything_once_and_in_order() {
        let [a, b, c] = messages(0, 3).try_into().unwrap();
        let torn = [&a[..120], &b[120..]].concat();
        assert_eq!(alone(&[a.clone(), b.clone(), c.clone()]), Ok(()));
        assert!(alone(&[a.clone(), b.clone()]).unwrap_err().contains("2 were received"));
        assert!(alone(&[a.clone(), c.clone(), b.clone()]).unwrap_err().contains("came where"));
        assert!(alone(&[a.clone(), b.clone(), b.clone(), c.clone()]).unwrap_err().contains("came where"));
        assert!(alone(&[torn, b.clone(), c.clone()]).unwrap_err().contains("torn"));
        assert!(alone(&[a[..127].to_vec(), b, c]).unwrap_err().contains("torn"));
    }

    #[test]
    fn competing_receivers_share_without_loss_duplicate_or_disorder() {
        let sent = [messages(0, 3), messages(1, 3)].concat();
        let competing = |first: &[usize], second: &[usize]| {
            let checks = [first, second].map(|taken| {
                let mut check = Check128::competing(2);
                for &at in taken {
                    check.look(&sent[at]);
                }
                check
            });
            Check128::finish(checks.into(), 3)
        };
        assert_eq!(competing(&[0, 4, 2], &[3, 1, 5]), Ok(()));
        assert!(competing(&[0, 4, 2], &[3, 1]).unwrap_err().contains("2 were received"));
        assert!(competing(&[0, 4, 2], &[3, 1, 4, 5]).unwrap_err().contains("two receivers"));
        assert!(competing(&[2, 0, 4], &[3, 1, 5]).unwrap_err().contains("came where"));
    }
}
