//! The subjects that messages are published to.

use async_nats::Subject;

/// A function that chooses the subject of a message.
type SubjectFn = Box<dyn Fn(&[u8]) -> Subject + Send>;

/// What [`JetStream`](super::JetStream) takes as a subject: a [`Subject`], a string, or a function of the message.
///
/// The function is called with the message, or with the first message of a pack. Messages travel in one pack only if
/// they have the same subject.
pub trait IntoSubjects: sealed::Sealed {}

impl<T: sealed::Sealed> IntoSubjects for T {}

pub(super) mod sealed {
    use async_nats::Subject;

    use super::Subjects;

    pub trait Sealed {
        #[doc(hidden)]
        fn into_subjects(self) -> Subjects;
    }

    impl Sealed for Subject {
        fn into_subjects(self) -> Subjects {
            Subjects::fixed(self)
        }
    }

    impl Sealed for &str {
        fn into_subjects(self) -> Subjects {
            Subjects::fixed(Subject::from(self))
        }
    }

    impl Sealed for String {
        fn into_subjects(self) -> Subjects {
            Subjects::fixed(Subject::from(self))
        }
    }

    impl<F: Fn(&[u8]) -> Subject + Send + 'static> Sealed for F {
        fn into_subjects(self) -> Subjects {
            Subjects(super::Kind::Function(Box::new(self)))
        }
    }
}

/// One subject for all messages, or a function.
pub struct Subjects(Kind);

enum Kind {
    Fixed { subject: Subject, is_valid: bool },
    Function(SubjectFn),
}

impl Subjects {
    fn fixed(subject: Subject) -> Self {
        let is_valid = subject.is_valid();
        Self(Kind::Fixed { subject, is_valid })
    }

    /// Returns the subject of a message, and whether a server takes it as one.
    pub(super) fn of(&self, message: &[u8]) -> (Subject, bool) {
        match &self.0 {
            Kind::Fixed { subject, is_valid } => (subject.clone(), *is_valid),
            Kind::Function(function) => {
                let subject = function(message);
                let is_valid = subject.is_valid();
                (subject, is_valid)
            }
        }
    }

    /// Returns the subject that all messages have.
    pub(super) fn as_fixed(&self) -> Option<&Subject> {
        match &self.0 {
            Kind::Fixed { subject, .. } => Some(subject),
            Kind::Function(_) => None,
        }
    }

    /// Returns whether two messages have the same subject.
    pub(super) fn are_same(&self, first: &[u8], next: &[u8]) -> bool {
        match &self.0 {
            Kind::Fixed { .. } => true,
            Kind::Function(function) => function(first) == function(next),
        }
    }
}
