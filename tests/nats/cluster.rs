//! A stream of three replicas on three servers that are killed.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, Stream};
use turbostream::forward::JetStream;

use crate::common::{Found, Pipeline, SUBJECT, config, effort, read, until, with_servers};
use crate::server::Cluster;

#[test]
fn strict_order_is_kept_when_the_leader_and_a_follower_are_killed() {
    with_servers(async {
        let mut cluster = tokio::task::block_in_place(|| Cluster::start(""));
        let client = async_nats::connect(cluster.urls()).await.expect("connected");
        let context = async_nats::jetstream::new(client);
        let mut stream = None;
        // The servers elect a leader first.
        until(async || {
            stream = context.create_stream(Config { num_replicas: 3, ..config() }).await.ok();
            stream.is_some()
        })
        .await;
        let stream = stream.expect("a stream");
        let options = async_nats::ConnectOptions::new();
        let destination = JetStream::connect(cluster.urls(), options, SUBJECT).await.expect("connected");
        let pipeline = Pipeline::with(destination, |forwarder| {
            forwarder.strict_order().confirm_timeout(Duration::from_secs(5))
        });
        let count = effort(30_000);
        let killing = async {
            pipeline.confirmed(count / 4).await;
            let (leader, _) = peers(&stream).await;
            tokio::task::block_in_place(|| cluster.named(&leader).kill());
            pipeline.confirmed(count / 2).await;
            tokio::task::block_in_place(|| cluster.named(&leader).restart());
            let (_, follower) = peers(&stream).await;
            tokio::task::block_in_place(|| cluster.named(&follower).kill());
            pipeline.confirmed(count * 3 / 4).await;
            tokio::task::block_in_place(|| cluster.named(&follower).restart());
        };
        tokio::join!(pipeline.send(0..count), killing);
        let report = pipeline.handle.shutdown().await.expect("all are confirmed");
        assert_eq!(report.stats.confirmed, count);
        assert_eq!(read(&cluster.servers[0].url(), count).await, Found::default());
    });
}

/// Returns the stream's leader, and a follower that has all messages, once there are both.
async fn peers(stream: &Stream) -> (String, String) {
    let mut stream = stream.clone();
    let mut names = None;
    until(async || {
        let Ok(info) = stream.info().await else { return false };
        let Some(cluster) = &info.cluster else { return false };
        let follower = cluster.replicas.iter().find(|replica| replica.current && !replica.offline);
        names = cluster.leader.clone().zip(follower.map(|follower| follower.name.clone()));
        names.is_some()
    })
    .await;
    names.expect("both are known")
}
