//! A stream of three replicas on three servers that are killed.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, Stream};
use turbostream::forward::{Forwarder, JetStream, Packing};

use crate::common::{Found, Pipeline, SUBJECT, config, effort, read, read_packed, until, with_servers};
use crate::server::Cluster;

/// Forwards while the stream's leader is killed, and then a follower. Returns the servers.
async fn kill_leader_and_follower(
    count: u64,
    set: impl FnOnce(Forwarder<JetStream>) -> Forwarder<JetStream>,
) -> Cluster {
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
    let pipeline =
        Pipeline::with(destination, |forwarder| set(forwarder.confirm_timeout(Duration::from_secs(5))));
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
    cluster
}

#[test]
fn strict_order_is_kept_when_the_leader_and_a_follower_are_killed() {
    with_servers(async {
        let count = effort(30_000);
        let pack = |forwarder: Forwarder<_>| forwarder.strict_order().pack(Packing::Lines, 4096);
        let cluster = kill_leader_and_follower(count, pack).await;
        assert_eq!(read_packed(&cluster.servers[0].url(), count).await, Found::default());
    });
}

#[test]
fn nothing_is_missing_or_twice_when_the_leader_and_a_follower_are_killed() {
    with_servers(async {
        let count = effort(20_000);
        let cluster = kill_leader_and_follower(count, |forwarder| forwarder).await;
        let found = read(&cluster.servers[0].url(), count).await;
        assert_eq!((found.missing, found.twice), (0, 0), "{found:?}");
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
