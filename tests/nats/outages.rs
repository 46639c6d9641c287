//! Servers that are killed, stopped and full, and connections that are cut.

use std::time::Duration;

use async_nats::ConnectOptions;
use async_nats::jetstream;
use async_nats::jetstream::stream::{Config, DiscardPolicy};
use turbostream::forward::{JetStream, JetStreamEvents};

use crate::common::{
    Found, MAX_BYTES, Pipeline, SUBJECT, config, connect, create, effort, read, until, with_servers,
};
use crate::proxy::Proxy;
use crate::server::NatsServer;

/// Sends messages while the server is killed and restarted three times.
async fn kill_three_times(count: u64, server: &mut NatsServer, pipeline: Pipeline) {
    let monitor = pipeline.tx.monitor();
    let mut peak = 0;
    let sending = pipeline.send(0..count);
    let killing = async {
        for round in 1..=3 {
            pipeline.confirmed(count * round / 4).await;
            tokio::task::block_in_place(|| {
                server.kill();
                server.restart();
            });
        }
    };
    let watching = until(async || {
        let stats = monitor.stats();
        peak = peak.max(stats.active_bytes + stats.sealed_bytes + stats.lent_bytes + stats.pooled_bytes);
        pipeline.handle.stats().confirmed == count
    });
    tokio::join!(sending, killing, watching);
    let report = pipeline.handle.shutdown().await.expect("all are confirmed");
    assert_eq!(report.stats.confirmed, count);
    assert!(peak <= MAX_BYTES, "{peak} bytes");
}

#[test]
fn strict_order_is_kept_when_the_server_is_killed() {
    with_servers(async {
        let mut server = NatsServer::start("");
        create(&server, config()).await;
        let count = effort(60_000);
        let pipeline = Pipeline::start(&server.url(), |forwarder| forwarder.strict_order()).await;
        kill_three_times(count, &mut server, pipeline).await;
        assert_eq!(read(&server.url(), count).await, Found::default());
    });
}

#[test]
fn nothing_is_missing_or_twice_when_the_server_is_killed() {
    with_servers(async {
        let mut server = NatsServer::start("");
        create(&server, config()).await;
        let count = effort(60_000);
        let pipeline = Pipeline::start(&server.url(), |forwarder| forwarder).await;
        kill_three_times(count, &mut server, pipeline).await;
        let found = read(&server.url(), count).await;
        assert_eq!((found.missing, found.twice), (0, 0), "{found:?}");
    });
}

#[test]
fn a_server_that_is_away_at_the_start_is_waited_for() {
    with_servers(async {
        let mut server = NatsServer::start("");
        create(&server, config()).await;
        server.kill();
        let events = JetStreamEvents::new();
        let options = ConnectOptions::new().retry_on_initial_connect().event_callback(events.callback());
        let client = options.connect(server.url()).await.expect("it connects later");
        let destination = JetStream::new(jetstream::new(client), SUBJECT).events(events);
        let pipeline = Pipeline::with(destination, |forwarder| forwarder.strict_order());
        pipeline.send(0..1000).await;
        assert_eq!(pipeline.handle.stats().confirmed, 0);
        server.restart();
        pipeline.confirmed(1000).await;
        assert_eq!(read(&server.url(), 1000).await, Found::default());
    });
}

#[test]
fn strict_order_survives_an_outage_longer_than_the_duplicate_window() {
    with_servers(async {
        let mut server = NatsServer::start("");
        create(&server, Config { duplicate_window: Duration::from_millis(100), ..config() }).await;
        let count = effort(20_000);
        let pipeline = Pipeline::start(&server.url(), |forwarder| forwarder.strict_order()).await;
        let outages = async {
            for round in 1..=3 {
                pipeline.confirmed(count * round / 4).await;
                tokio::task::block_in_place(|| server.kill());
                // The server measures its duplicate window in real time.
                tokio::time::sleep(Duration::from_millis(400)).await;
                tokio::task::block_in_place(|| server.restart());
            }
        };
        tokio::join!(pipeline.send(0..count), outages);
        let report = pipeline.handle.shutdown().await.expect("all are confirmed");
        assert_eq!(report.stats.confirmed, count);
        assert_eq!(read(&server.url(), count).await, Found::default());
    });
}

#[test]
fn a_stopped_server_delays_messages_only() {
    with_servers(async {
        let server = NatsServer::start("");
        create(&server, config()).await;
        let count = effort(20_000);
        let pipeline = Pipeline::start(&server.url(), |forwarder| forwarder.strict_order()).await;
        let stop = async {
            pipeline.confirmed(count / 4).await;
            server.pause();
            // A stopped process gives no sign: what is tested is the time itself.
            tokio::time::sleep(Duration::from_secs(effort(3).clamp(3, 10))).await;
            server.resume();
        };
        tokio::join!(pipeline.send(0..count), stop);
        let report = pipeline.handle.shutdown().await.expect("all are confirmed");
        assert_eq!(report.stats.confirmed, count);
        assert_eq!(read(&server.url(), count).await, Found::default());
    });
}

#[test]
fn connections_are_cut_in_the_middle_of_messages() {
    with_servers(async {
        let server = NatsServer::start("");
        create(&server, config()).await;
        let proxy = Proxy::start(server.port()).await;
        let count = effort(40_000);
        let pipeline = Pipeline::start(&proxy.url(), |forwarder| forwarder.strict_order()).await;
        let cuts = async {
            for round in 1..=8 {
                pipeline.confirmed(count * round / 10).await;
                proxy.cut_after(1000 * round + 77);
            }
        };
        tokio::join!(pipeline.send(0..count), cuts);
        let report = pipeline.handle.shutdown().await.expect("all are confirmed");
        assert_eq!(report.stats.confirmed, count);
        assert!(report.stats.retried > 0);
        assert_eq!(read(&server.url(), count).await, Found::default());
    });
}

#[test]
fn a_full_stream_is_waited_for() {
    with_servers(async {
        let server = NatsServer::start("");
        let full = Config { max_messages: 1000, discard: DiscardPolicy::New, ..config() };
        let mut stream = create(&server, full).await;
        let pipeline = Pipeline::start(&server.url(), |forwarder| forwarder.strict_order()).await;
        pipeline.send(0..1500).await;
        pipeline.confirmed(1000).await;
        until(async || pipeline.handle.stats().go_backs > 1).await;
        assert_eq!(pipeline.handle.stats().confirmed, 1000);
        assert_eq!(read(&server.url(), 1000).await, Found::default());
        stream.purge().await.expect("purged");
        let report = pipeline.handle.shutdown().await.expect("all are confirmed");
        assert_eq!((report.stats.confirmed, report.stats.rejected), (1500, 0));
        let state = stream.info().await.expect("the stream").state.clone();
        assert_eq!((state.messages, state.last_sequence), (500, 1500));
    });
}

#[test]
fn a_stream_that_is_gone_for_a_moment_is_waited_for() {
    with_servers(async {
        for is_strict in [false, true] {
            let server = NatsServer::start("");
            create(&server, config()).await;
            let (context, _) = connect(&server.url()).await;
            let pipeline =
                Pipeline::start(
                    &server.url(),
                    |forwarder| {
                        if is_strict { forwarder.strict_order() } else { forwarder }
                    },
                )
                .await;
            pipeline.send(0..100).await;
            pipeline.confirmed(100).await;
            context.delete_stream("LOGS").await.expect("deleted");
            pipeline.send(100..200).await;
            until(async || pipeline.handle.stats().go_backs >= 4 || pipeline.handle.is_finished()).await;
            context.create_stream(config()).await.expect("created");
            let report = pipeline.handle.shutdown().await.expect("all are confirmed");
            assert_eq!(report.stats.confirmed, 200);
            // What was confirmed before is gone with the stream.
            let found = read(&server.url(), 200).await;
            assert_eq!((found.missing, found.twice), (100, 0), "{found:?}");
        }
    });
}

/// What the client sends is held up, while what the server sends arrives.
#[test]
fn a_connection_that_is_dead_in_one_direction_delays_messages_only() {
    with_servers(async {
        let server = NatsServer::start("");
        create(&server, config()).await;
        let proxy = Proxy::start(server.port()).await;
        let pipeline = Pipeline::start(&proxy.url(), |forwarder| {
            forwarder.strict_order().confirm_timeout(Duration::from_millis(100))
        })
        .await;
        let count = effort(20_000);
        let stalls = async {
            for round in 1..=3 {
                pipeline.confirmed(count * round / 5).await;
                let go_backs = pipeline.handle.stats().go_backs;
                proxy.stall_requests_after(round * 1111);
                until(async || pipeline.handle.stats().go_backs > go_backs).await;
                proxy.cut();
            }
        };
        tokio::join!(pipeline.send(0..count), stalls);
        let report = pipeline.handle.shutdown().await.expect("all are confirmed");
        assert_eq!(report.stats.confirmed, count);
        assert_eq!(read(&server.url(), count).await, Found::default());
    });
}
