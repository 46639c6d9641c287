//! Strict order among other publishers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::common::{Found, Pipeline, config, connect, create, effort, read, with_servers};
use crate::proxy::Proxy;
use crate::server::NatsServer;

/// Forwards in strict order while another client publishes to the same stream, and the connection is cut.
async fn beside_another_publisher(pause: Option<Duration>, count: u64) {
    let server = NatsServer::start("");
    create(&server, config()).await;
    let proxy = Proxy::start(server.port()).await;
    let (context, _) = connect(&server.url()).await;
    let is_done = AtomicBool::new(false);
    let other = async {
        let mut published = 0_u64;
        while !is_done.load(Ordering::Relaxed) {
            let ack =
                context.publish("logs.other", "from another publisher".into()).await.expect("published");
            ack.await.expect("acknowledged");
            published += 1;
            match pause {
                // The other publisher's rate is what is tested.
                Some(pause) => tokio::time::sleep(pause).await,
                None => tokio::task::yield_now().await,
            }
        }
        published
    };
    let pipeline = Pipeline::start(&proxy.url(), |forwarder| forwarder.strict_order()).await;
    let forwarding = async {
        let cuts = async {
            for round in 1..=2 {
                pipeline.confirmed(count * round / 3).await;
                proxy.cut();
            }
        };
        tokio::join!(pipeline.send(0..count), cuts);
        let report = pipeline.handle.shutdown().await.expect("all are confirmed");
        is_done.store(true, Ordering::Relaxed);
        report
    };
    let (report, published) = tokio::join!(forwarding, other);
    assert_eq!(report.stats.confirmed, count);
    assert!(published > 0);
    assert_eq!(read(&server.url(), count).await, Found::default());
}

#[test]
fn order_is_kept_beside_a_publisher_that_never_pauses() {
    with_servers(beside_another_publisher(None, effort(2_000)));
}

#[test]
fn order_is_kept_beside_a_publisher_that_pauses() {
    with_servers(beside_another_publisher(Some(Duration::from_millis(20)), effort(20_000)));
}
