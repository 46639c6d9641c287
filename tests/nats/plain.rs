//! Without failures, and duplicates.

use std::time::Duration;

use async_nats::Subject;
use turbostream::forward::{Forwarder, IntoSubjects, JetStream, Packing, unpack};

use crate::common::{
    Found, MAX_BYTES, Pipeline, SUBJECT, config, connect, create, effort, message, read, read_packed, until,
    with_servers,
};
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

/// Forwards messages in packs of up to 1 MiB. All of them are there when the forwarder starts.
async fn forward_packed(
    server: &NatsServer,
    subjects: impl IntoSubjects,
    messages: impl Iterator<Item = String>,
) -> u64 {
    let (tx, rx) = turbostream::builder().max_bytes(MAX_BYTES).build().expect("valid settings");
    messages.for_each(|message| tx.try_send(message).expect("room"));
    let destination = JetStream::new(connect(&server.url()).await.0, subjects);
    let handle = Forwarder::new(rx, destination).pack(Packing::Lines, 1 << 20).spawn();
    drop(tx);
    let stats = handle.join().await.expect("all are confirmed").stats;
    assert_eq!(stats.rejected, 0);
    stats.confirmed
}

#[test]
fn packs_stay_below_the_max_payload_of_the_server() {
    with_servers(async {
        let server = NatsServer::start("max_payload: 65536\n");
        let mut stream = create(&server, config()).await;
        assert_eq!(forward_packed(&server, SUBJECT, (0..2000).map(message)).await, 2000);
        assert_eq!(read_packed(&server.url(), 2000).await, Found::default());
        // A pack that the server refuses would be published again, one message at a time.
        let payloads = stream.info().await.expect("the stream").state.messages;
        assert!((4..=10).contains(&payloads), "{payloads} payloads");
    });
}

#[test]
fn packs_contain_messages_of_one_subject() {
    with_servers(async {
        let server = NatsServer::start("");
        let mut stream = create(&server, config()).await;
        let names = ["logs.a", "logs.b", "logs.c"];
        let subject = |message: &[u8]| Subject::from(std::str::from_utf8(message).expect("a name"));
        // Runs of ten.
        let messages = (0..300).map(|number| names[number / 10 % 3].to_owned());
        assert_eq!(forward_packed(&server, subject, messages).await, 300);
        let payloads = stream.info().await.expect("the stream").state.messages;
        assert!((30..=60).contains(&payloads), "{payloads} payloads");
        let mut lines = 0;
        for sequence in 1..=payloads {
            let stored = stream.get_raw_message(sequence).await.expect("a message");
            for line in unpack(Packing::Lines, &stored.payload) {
                assert_eq!(line.expect("a line"), stored.subject.as_bytes());
                lines += 1;
            }
        }
        assert_eq!(lines, 300);
    });
}
