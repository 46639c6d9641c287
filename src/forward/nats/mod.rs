//! NATS JetStream.

mod source;

pub use source::{
    AckWhen, JetStreamSource, SourceEnd, SourceError, SourceErrorKind, SourceHandle, SourceRejection,
    SourceReport, SourceStats,
};
