//! What forwards: loops written by hand around a channel of Tokio, and turbostream.

mod by_hand;
mod turbostream;

use async_nats::jetstream::Context;

/// The subject of all messages.
pub const SUBJECT: &str = "bench.messages";
/// The number of tasks that send.
const PRODUCERS: u64 = 4;

pub struct Contender {
    pub name: &'static str,
    pub about: &'static str,
    pub kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Each message is published after the acknowledgement of the one before.
    Awaited,
    /// A window of messages is in flight.
    Pipelined {
        ids: bool,
    },
    Turbostream(Settings),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    pub ids: bool,
    pub packed: bool,
    pub strict_order: bool,
}

pub const AWAITED: &str = "mpsc-awaited";
pub const PIPELINED: &str = "mpsc-pipelined";
pub const PIPELINED_NO_IDS: &str = "mpsc-pipelined-no-ids";
pub const OURS: &str = "turbostream";
pub const OURS_NO_IDS: &str = "turbostream-no-ids";
pub const OURS_PACKED: &str = "turbostream-packed";

const DEFAULT: Settings = Settings { ids: true, packed: false, strict_order: false };

pub static ALL: [Contender; 7] = [
    Contender { name: OURS, about: "Forwarder with JetStream", kind: Kind::Turbostream(DEFAULT) },
    Contender {
        name: OURS_NO_IDS,
        about: "Forwarder with JetStream, without_message_ids",
        kind: Kind::Turbostream(Settings { ids: false, ..DEFAULT }),
    },
    Contender {
        name: OURS_PACKED,
        about: "Forwarder with JetStream, pack(LengthDelimited, 64 KiB)",
        kind: Kind::Turbostream(Settings { packed: true, ..DEFAULT }),
    },
    Contender {
        name: "turbostream-strict-order",
        about: "Forwarder with JetStream, strict_order",
        kind: Kind::Turbostream(Settings { strict_order: true, ..DEFAULT }),
    },
    Contender {
        name: PIPELINED,
        about: "tokio mpsc, recv_many, send_publish with Nats-Msg-Id, a queue of PublishAckFuture",
        kind: Kind::Pipelined { ids: true },
    },
    Contender {
        name: PIPELINED_NO_IDS,
        about: "tokio mpsc, recv_many, publish, a queue of PublishAckFuture",
        kind: Kind::Pipelined { ids: false },
    },
    Contender { name: AWAITED, about: "tokio mpsc, publish(..).await?.await?", kind: Kind::Awaited },
];

/// Finds a contender by its name.
pub fn find(name: &str) -> Result<&'static Contender, String> {
    ALL.iter().find(|contender| contender.name == name).ok_or_else(|| {
        let known: Vec<_> = ALL.iter().map(|contender| contender.name).collect();
        format!("no contender {name}; there are {}", known.join(", "))
    })
}

impl Contender {
    pub fn is_ours(&self) -> bool {
        matches!(self.kind, Kind::Turbostream(_))
    }

    pub fn packs(&self) -> bool {
        matches!(self.kind, Kind::Turbostream(Settings { packed: true, .. }))
    }
}

/// What a run does.
#[derive(Clone, Copy)]
pub struct Job {
    pub contender: &'static Contender,
    /// Bytes of a message.
    pub size: usize,
    pub messages: u64,
    /// The most messages in flight.
    pub window: usize,
    /// Of the channel: messages of Tokio's, bytes (`max_bytes`) of turbostream's.
    pub capacity: usize,
}

impl Job {
    /// Sends messages through a new channel into the stream. Returns when all are confirmed.
    pub async fn forward(&self, context: &Context, messages: u64) -> Result<(), String> {
        match self.contender.kind {
            Kind::Awaited => by_hand::forward(self, messages, by_hand::Awaited(context.clone())).await,
            Kind::Pipelined { ids } => {
                let loop_ = by_hand::Pipelined::new(context.clone(), self.window, ids);
                by_hand::forward(self, messages, loop_).await
            }
            Kind::Turbostream(settings) => turbostream::forward(self, context, messages, settings).await,
        }
    }
}

/// The messages of one producer: each is a buffer that changes with each message.
struct Messages {
    buffer: Vec<u8>,
    sent: u64,
    count: u64,
}

impl Messages {
    /// Returns the messages of each producer.
    fn of_producers(size: usize, messages: u64) -> impl Iterator<Item = Self> {
        (0..PRODUCERS).map(move |producer| {
            let mut state = producer + 1;
            let bytes = (0..size).map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            });
            let count = messages / PRODUCERS + u64::from(producer < messages % PRODUCERS);
            Self { buffer: bytes.collect(), sent: 0, count }
        })
    }

    fn next(&mut self) -> Option<&[u8]> {
        if self.sent == self.count {
            return None;
        }
        self.buffer[..8].copy_from_slice(&self.sent.to_le_bytes());
        self.sent += 1;
        Some(&self.buffer)
    }
}
