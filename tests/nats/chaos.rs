//! Faults of all kinds, one after the other, at random: with a duplicate window that is shorter than the outages.

use std::time::Duration;

use async_nats::jetstream::stream::Config;
use turbostream::forward::Packing;

use crate::common::{Found, Pipeline, config, connect, create, effort, read, read_packed, with_servers};
use crate::proxy::Proxy;
use crate::server::NatsServer;

const FAULTS: u64 = 12;

/// A xorshift generator.
struct Random(u64);

impl Random {
    /// Returns a number below `limit`.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % limit
    }
}

/// Causes one fault. Stalls last for a random time: the duplicate window passes in some, and not in others.
async fn cause_fault(random: &mut Random, server: &mut NatsServer, proxy: &Proxy) {
    let time = Duration::from_millis(random.below(500));
    match random.below(6) {
        0 => proxy.cut(),
        1 => proxy.cut_after(random.below(100_000)),
        2 => {
            proxy.stall_requests_after(random.below(100_000));
            tokio::time::sleep(time).await;
        }
        3 => {
            proxy.stall_answers();
            tokio::time::sleep(time).await;
        }
        4 => tokio::task::block_in_place(|| {
            server.kill();
            server.restart();
        }),
        _ => {
            server.pause();
            tokio::time::sleep(time).await;
            server.resume();
        }
    }
}

async fn forward_through_faults(seed: u64, is_packed: bool) {
    let mut server = NatsServer::start("");
    create(&server, Config { duplicate_window: Duration::from_millis(100), ..config() }).await;
    let proxy = Proxy::start(server.port()).await;
    let (other, _) = connect(&server.url()).await;
    let pipeline = Pipeline::start(&proxy.url(), |forwarder| {
        let forwarder = forwarder.strict_order().confirm_timeout(Duration::from_millis(300));
        if is_packed { forwarder.pack(Packing::Lines, 2000) } else { forwarder }
    })
    .await;
    let count = effort(30_000);
    let mut random = Random(seed);
    let faults = async {
        for fault in 1..=FAULTS {
            pipeline.confirmed((count * fault / (FAULTS + 2)).saturating_sub(random.below(500))).await;
            cause_fault(&mut random, &mut server, &proxy).await;
            // While the forwarder does not know what is stored, others add to the stream.
            for _ in 0..random.below(20) {
                other.publish("logs.other", "from another publisher".into()).await.expect("published");
            }
            proxy.cut();
        }
    };
    tokio::join!(pipeline.send(0..count), faults);
    let report = pipeline.handle.shutdown().await.expect("all are confirmed");
    assert_eq!((report.stats.confirmed, report.stats.rejected), (count, 0), "seed {seed}");
    let found = match is_packed {
        true => read_packed(&server.url(), count).await,
        false => read(&server.url(), count).await,
    };
    assert_eq!(found, Found::default(), "seed {seed}");
}

#[test]
fn each_message_is_stored_once_in_order_through_faults() {
    with_servers(async {
        for seed in 1..=2 {
            forward_through_faults(seed, false).await;
        }
    });
}

#[test]
fn each_pack_is_stored_once_in_order_through_faults() {
    with_servers(async {
        for seed in 3..=4 {
            forward_through_faults(seed, true).await;
        }
    });
}
