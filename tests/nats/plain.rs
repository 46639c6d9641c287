//! Without failures, and duplicates.

use std::time::Duration;

use crate::common::{Found, Pipeline, config, create, effort, read, until, with_servers};
use crate::proxy::Proxy;
use crate::server::NatsServer;

#[test]
fn messages_are_stored_once_with_ids() {
    with_servers(async {
        let server = NatsServer::start("");
        let stream = create(&server, config()).await;
        let pipeline = Pipeline::start(&server.url(), |forwarder| forwarder.message_ids("host-7")).await;
        let count = effort(20_000);
        pipeline.send(0..count).await;
        pipeline.handle.flush().await.expect("all are confirmed");
        assert_eq!(pipeline.handle.stats().confirmed, count);
        let report = pipeline.handle.shutdown().await.expect("all are confirmed");
        assert_eq!((report.stats.confirmed, report.stats.duplicates, report.stats.retried), (count, 0, 0));
        assert_eq!(read(&server.url(), count).await, Found::default());
        let last = stream.get_raw_message(count).await.expect("a message");
        let id = last.headers.get("Nats-Msg-Id").expect("an id").as_str();
        assert!(id.starts_with("host-7-") && id.ends_with(&format!("-{count}")), "{id}");
        assert_eq!(last.headers.len(), 1);
    });
}

#[test]
fn messages_without_ids_have_no_headers() {
    with_servers(async {
        let server = NatsServer::start("");
        let stream = create(&server, config()).await;
        let pipeline = Pipeline::start(&server.url(), |forwarder| forwarder.without_message_ids()).await;
        pipeline.send(0..100).await;
        pipeline.handle.shutdown().await.expect("all are confirmed");
        assert_eq!(read(&server.url(), 100).await, Found::default());
        assert!(stream.get_raw_message(100).await.expect("a message").headers.is_empty());
    });
}

#[test]
fn messages_whose_answers_were_lost_are_recognised() {
    with_servers(async {
        let server = NatsServer::start("");
        let mut stream = create(&server, config()).await;
        let proxy = Proxy::start(server.port()).await;
        let pipeline = Pipeline::start(&proxy.url(), |forwarder| forwarder).await;
        pipeline.send(0..1).await;
        pipeline.confirmed(1).await;
        proxy.stall_answers();
        pipeline.send(1..500).await;
        until(async || stream.info().await.is_ok_and(|info| info.state.messages == 500)).await;
        proxy.cut();
        let report = pipeline.handle.shutdown().await.expect("all are confirmed");
        assert_eq!((report.stats.confirmed, report.stats.duplicates), (500, 499));
        assert_eq!(read(&server.url(), 500).await, Found::default());
    });
}

#[test]
fn slow_answers_fill_the_window_and_no_more() {
    with_servers(async {
        let server = NatsServer::start("");
        create(&server, config()).await;
        let proxy = Proxy::start(server.port()).await;
        let pipeline = Pipeline::start(&proxy.url(), |forwarder| forwarder.in_flight(1000, 8 << 20)).await;
        proxy.delay(Duration::from_millis(50));
        pipeline.send(0..10_000).await;
        assert!(pipeline.handle.stats().in_flight_messages <= 1000);
        let report = pipeline.handle.shutdown().await.expect("all are confirmed");
        assert_eq!((report.stats.confirmed, report.stats.retried), (10_000, 0));
        assert_eq!(read(&server.url(), 10_000).await, Found::default());
    });
}
