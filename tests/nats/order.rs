//! Strict order among other publishers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::stream::Config;
use turbostream::forward::Packing;

use crate::common::{
    Found, Pipeline, SUBJECT, config, connect, create, effort, message, read, read_packed, until,
    with_servers,
};
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
    with_servers(beside_another_publisher(Some(Duration::from_millis(50)), effort(10_000)));
}

#[test]
fn nothing_is_retried_in_strict_order_without_an_outage() {
    with_servers(async {
        let server = NatsServer::start("");
        create(&server, config()).await;
        let pipeline = Pipeline::start(&server.url(), |forwarder| forwarder.strict_order()).await;
        pipeline.send(0..2000).await;
        let stats = pipeline.handle.shutdown().await.expect("all are confirmed").stats;
        assert_eq!((stats.confirmed, stats.retried, stats.go_backs), (2000, 0, 0));
    });
}

#[test]
fn packs_are_taken_apart_in_order_if_the_stream_refuses_them() {
    with_servers(async {
        let server = NatsServer::start("");
        create(&server, Config { max_message_size: 300, ..config() }).await;
        let proxy = Proxy::start(server.port()).await;
        let pipeline = Pipeline::start(&proxy.url(), |forwarder| {
            forwarder.strict_order().pack(Packing::Lines, 64 << 10)
        })
        .await;
        let cuts = async {
            for round in 1..=2 {
                pipeline.confirmed(round * 600).await;
                proxy.cut();
            }
        };
        tokio::join!(pipeline.send(0..2000), cuts);
        let report = pipeline.handle.shutdown().await.expect("all are confirmed");
        assert_eq!((report.stats.confirmed, report.stats.rejected), (2000, 0));
        assert_eq!(read_packed(&server.url(), 2000).await, Found::default());
    });
}

#[test]
fn packs_keep_the_order_when_connections_are_cut() {
    with_servers(async {
        let server = NatsServer::start("");
        let mut stream = create(&server, config()).await;
        let proxy = Proxy::start(server.port()).await;
        let count = effort(100_000);
        let pipeline = Pipeline::start(&proxy.url(), |forwarder| {
            forwarder.strict_order().pack(Packing::Lines, 16 << 10)
        })
        .await;
        let cuts = async {
            for round in 1..=5 {
                pipeline.confirmed(count * round / 6).await;
                proxy.cut_after(10_000 * round + 77);
            }
        };
        tokio::join!(pipeline.send(0..count), cuts);
        let report = pipeline.handle.shutdown().await.expect("all are confirmed");
        assert_eq!((report.stats.confirmed, report.stats.rejected), (count, 0));
        assert_eq!(read_packed(&server.url(), count).await, Found::default());
        assert!(stream.info().await.expect("the stream").state.messages < count / 10);
    });
}

/// The second message, which travels alone, is lost with its connection. Those after it must not take its place.
#[test]
fn the_first_message_of_a_chain_expects_the_last_one_alone() {
    with_servers(async {
        for _ in 0..10 {
            let server = NatsServer::start("");
            create(&server, config()).await;
            let proxy = Proxy::start(server.port()).await;
            proxy.stall_requests_after(20_000);
            let pipeline = Pipeline::start(&proxy.url(), |forwarder| forwarder.strict_order()).await;
            pipeline.tx.send(message(0)).await.expect("accepted");
            pipeline.tx.send(format!("{:012}{:50000}", 1, "")).await.expect("accepted");
            until(async || proxy.has_stalled_requests()).await;
            proxy.cut();
            pipeline.send(2..100).await;
            let report = pipeline.handle.shutdown().await.expect("all are confirmed");
            assert_eq!(report.stats.confirmed, 100);
            assert_eq!(read(&server.url(), 100).await, Found::default());
        }
    });
}

#[test]
fn without_a_fault_nothing_is_published_again() {
    with_servers(async {
        let server = NatsServer::start("");
        create(&server, config()).await;
        let pipeline = Pipeline::start(&server.url(), |forwarder| forwarder.strict_order()).await;
        pipeline.send(0..1000).await;
        let report = pipeline.handle.shutdown().await.expect("all are confirmed");
        assert_eq!((report.stats.confirmed, report.stats.retried, report.stats.go_backs), (1000, 0, 0));
    });
}

/// Loses the answers to messages from `first` to `count`, for longer than the duplicate window, while another publisher
/// adds messages.
async fn lose_answers(first: u64, count: u64, stored: u64, others: u64) {
    let server = NatsServer::start("");
    let short = Config { duplicate_window: Duration::from_millis(100), ..config() };
    let mut stream = create(&server, short).await;
    let proxy = Proxy::start(server.port()).await;
    let pipeline = Pipeline::start(&proxy.url(), |forwarder| forwarder.strict_order()).await;
    pipeline.send(0..first).await;
    pipeline.confirmed(first).await;
    proxy.stall_answers();
    pipeline.send(first..count).await;
    until(async || stream.info().await.is_ok_and(|info| info.state.messages == stored)).await;
    let (context, _) = connect(&server.url()).await;
    for _ in 0..others {
        let ack = context.publish("logs.other", "from another publisher".into()).await.expect("published");
        ack.await.expect("acknowledged");
    }
    // The server measures its duplicate window in real time.
    tokio::time::sleep(Duration::from_millis(400)).await;
    proxy.cut();
    let report = pipeline.handle.shutdown().await.expect("all are confirmed");
    assert_eq!(report.stats.confirmed, count);
    assert_eq!(read(&server.url(), count).await, Found::default());
}

#[test]
fn the_first_message_is_found_after_the_duplicate_window() {
    with_servers(lose_answers(0, 100, 1, 0));
}

#[test]
fn messages_are_found_before_those_of_another_publisher() {
    with_servers(lose_answers(100, 200, 200, 50));
}

/// The last message was deleted, or all messages of the subject were.
#[test]
fn messages_that_were_deleted_are_passed_over() {
    with_servers(async {
        for is_purged in [false, true] {
            let server = NatsServer::start("");
            let mut stream = create(&server, config()).await;
            let proxy = Proxy::start(server.port()).await;
            let pipeline = Pipeline::start(&proxy.url(), |forwarder| forwarder.strict_order()).await;
            pipeline.send(0..100).await;
            pipeline.confirmed(100).await;
            proxy.stall_answers();
            pipeline.send(100..200).await;
            until(async || stream.info().await.is_ok_and(|info| info.state.messages == 200)).await;
            if is_purged {
                let (context, _) = connect(&server.url()).await;
                for _ in 0..50 {
                    let ack = context.publish("logs.other", "".into()).await.expect("published");
                    ack.await.expect("acknowledged");
                }
                stream.purge().filter(SUBJECT).await.expect("purged");
            } else {
                assert!(stream.delete_message(200).await.expect("an answer"));
            }
            proxy.cut();
            pipeline.send(200..300).await;
            let report = pipeline.handle.shutdown().await.expect("all are confirmed");
            assert_eq!((report.stats.confirmed, report.stats.rejected), (300, 0));
            let missing = if is_purged { 200 } else { 1 };
            assert_eq!(read(&server.url(), 300).await, Found { missing, ..Found::default() });
        }
    });
}

#[test]
fn a_stream_of_another_name_takes_over() {
    with_servers(async {
        let server = NatsServer::start("");
        create(&server, config()).await;
        let pipeline = Pipeline::start(&server.url(), |forwarder| forwarder.strict_order()).await;
        pipeline.send(0..100).await;
        pipeline.confirmed(100).await;
        let (context, _) = connect(&server.url()).await;
        context.delete_stream("LOGS").await.expect("deleted");
        let mut other = create(&server, Config { name: "OTHER".into(), ..config() }).await;
        pipeline.send(100..200).await;
        let report = pipeline.handle.shutdown().await.expect("all are confirmed");
        assert_eq!((report.stats.confirmed, report.stats.rejected), (200, 0));
        assert_eq!(other.info().await.expect("the stream").state.messages, 100);
        for number in 0..100 {
            let stored = other.get_raw_message(number + 1).await.expect("a message");
            assert_eq!(stored.payload, message(100 + number));
        }
    });
}

/// The ids are so long that packs exceed `max_payload` with them: the destination rejects packs, but not the small ones.
#[test]
fn no_message_of_a_rejected_pack_counts_as_stored() {
    with_servers(async {
        let server = NatsServer::start("max_payload: 65536\n");
        create(&server, config()).await;
        let pipeline = Pipeline::start(&server.url(), |forwarder| {
            forwarder.strict_order().message_ids("n".repeat(600)).pack(Packing::Lines, 64 << 10)
        })
        .await;
        pipeline.send(0..3000).await;
        let report = pipeline.handle.shutdown().await.expect("all are confirmed");
        assert_eq!((report.stats.confirmed, report.stats.rejected), (3000, 0));
        assert_eq!(read_packed(&server.url(), 3000).await, Found::default());
    });
}
