//! Wrong configurations, and messages that a server never takes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream::stream::Config;
use async_nats::{ConnectErrorKind, ConnectOptions, Event, Subject};
use turbostream::forward::{ForwardErrorKind, Forwarder, JetStream, JetStreamEvents, Rejection, StopReason};

use crate::common::{Found, Pipeline, SUBJECT, config, connect, create, read, until, with_servers};
use crate::server::NatsServer;

const HOUR: Duration = Duration::from_secs(3600);
const PASSWORD: &str = "correct-horse";

fn with_password() -> String {
    format!("authorization {{ user: app, password: {PASSWORD} }}\n")
}

fn credentials(password: &str) -> ConnectOptions {
    ConnectOptions::with_user_and_password("app".into(), password.into())
}

#[test]
fn a_wrong_password_is_an_error_that_does_not_repeat_it() {
    with_servers(async {
        let server = NatsServer::start(&with_password());
        let error = JetStream::connect(server.url(), credentials("wrong-battery"), SUBJECT)
            .await
            .expect_err("an error");
        assert_eq!(error.kind(), ConnectErrorKind::AuthorizationViolation);
        assert!(!format!("{error} {error:?}").contains("wrong-battery"), "{error:?}");
        JetStream::connect(server.url(), credentials(PASSWORD), SUBJECT).await.expect("connected");
    });
}

#[test]
fn credentials_that_are_refused_later_end_the_forwarder() {
    with_servers(async {
        let mut server = NatsServer::start(&with_password());
        let destination =
            JetStream::connect(server.url(), credentials(PASSWORD), SUBJECT).await.expect("connected");
        let context =
            async_nats::jetstream::new(credentials(PASSWORD).connect(server.url()).await.expect("connected"));
        context.create_stream(config()).await.expect("a stream");
        let pipeline = Pipeline::with(destination, |forwarder| forwarder);
        pipeline.send(0..100).await;
        pipeline.confirmed(100).await;
        tokio::task::block_in_place(|| server.kill());
        pipeline.send(100..110).await;
        server.reconfigure(PASSWORD, "staple");
        tokio::task::block_in_place(|| server.restart());
        let error = pipeline.handle.join().await.expect_err("an error");
        assert_eq!(error.kind(), ForwardErrorKind::Stopped(StopReason::BadCredentials), "{error}");
        assert!(!format!("{error} {error:?}").contains(PASSWORD), "{error:?}");
        let unconfirmed = error.into_unconfirmed();
        let left = unconfirmed.messages.len() + unconfirmed.receiver.expect("the receiver").len();
        assert_eq!(left, 10);
    });
}

#[test]
fn without_a_stream_the_forwarder_ends_and_says_so() {
    with_servers(async {
        let server = NatsServer::start("");
        let pipeline = Pipeline::start(&server.url(), |forwarder| forwarder).await;
        pipeline.send(0..3).await;
        let error = pipeline.handle.join().await.expect_err("an error");
        assert_eq!(error.kind(), ForwardErrorKind::Stopped(StopReason::NoStream), "{error}");
        assert!(error.to_string().contains(SUBJECT), "{error}");
        assert_eq!(
            error.into_unconfirmed().messages.first().map(|first| first[..12].to_vec()),
            Some(vec![b'0'; 12])
        );
    });
}

#[test]
fn without_jetstream_the_forwarder_ends_and_says_so() {
    with_servers(async {
        let server = NatsServer::start("# jetstream: off\n");
        let pipeline = Pipeline::start(&server.url(), |forwarder| forwarder.strict_order()).await;
        pipeline.send(0..3).await;
        let error = pipeline.handle.join().await.expect_err("an error");
        assert_eq!(error.kind(), ForwardErrorKind::Stopped(StopReason::NoStream), "{error}");
        assert!(error.to_string().contains("JetStream is not enabled"), "{error}");
    });
}

/// Sends 50 small messages, a large one, and 50 small ones.
async fn one_large_among_small(server: &NatsServer, len: usize, is_strict: bool) {
    let rejected = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&rejected);
    let pipeline = Pipeline::start(&server.url(), |forwarder| {
        let forwarder = if is_strict { forwarder.strict_order() } else { forwarder };
        forwarder.on_rejected(move |message: &[u8], rejection: &Rejection| {
            noted.lock().expect("the list").push((message.len(), rejection.to_string()));
        })
    })
    .await;
    pipeline.send(0..50).await;
    pipeline.tx.send(vec![b'x'; len]).await.expect("accepted");
    pipeline.send(50..100).await;
    let report = pipeline.handle.shutdown().await.expect("all others are confirmed");
    assert_eq!((report.stats.confirmed, report.stats.rejected), (100, 1));
    let rejected = rejected.lock().expect("the list");
    assert_eq!(rejected.len(), 1);
    assert_eq!(rejected[0].0, len);
    assert!(rejected[0].1.contains("exceed"), "{}", rejected[0].1);
}

#[test]
fn a_message_over_max_payload_is_rejected_alone() {
    with_servers(async {
        let server = NatsServer::start("");
        create(&server, config()).await;
        for is_strict in [false, true] {
            create(&server, config()).await.purge().await.expect("purged");
            one_large_among_small(&server, 2 << 20, is_strict).await;
            assert_eq!(read(&server.url(), 100).await, Found::default());
        }
    });
}

#[test]
fn a_message_over_the_limit_of_the_stream_is_rejected_alone() {
    with_servers(async {
        let server = NatsServer::start("");
        for is_strict in [false, true] {
            create(&server, Config { max_message_size: 1000, ..config() })
                .await
                .purge()
                .await
                .expect("purged");
            one_large_among_small(&server, 5000, is_strict).await;
            assert_eq!(read(&server.url(), 100).await, Found::default());
        }
    });
}

const PERMISSIONS: &str = "authorization { users: [\n\
    { user: admin, password: admin }\n\
    { user: app, password: app, permissions: {\n\
        publish: { deny: [\"logs.secret\", \"other.>\", \"$JS.API.STREAM.LIST\"] }\n\
        subscribe: { deny: \"other.>\" }\n\
    } }\n\
    { user: deaf, password: deaf, permissions: { subscribe: { deny: \"_INBOX.>\" } } }\n\
    { user: blind, password: blind, permissions: { publish: { deny: \"$JS.API.>\" } } }\n\
] }\n";

/// Starts a server with users, and the stream.
async fn server_with_users() -> NatsServer {
    let server = NatsServer::start(PERMISSIONS);
    let admin = ConnectOptions::with_user_and_password("admin".into(), "admin".into());
    let context = async_nats::jetstream::new(admin.connect(server.url()).await.expect("connected"));
    context.create_stream(config()).await.expect("a stream");
    server
}

fn user(name: &str) -> ConnectOptions {
    ConnectOptions::with_user_and_password(name.into(), name.into())
}

#[test]
fn messages_of_a_forbidden_subject_are_rejected_alone() {
    with_servers(async {
        let server = server_with_users().await;
        for is_strict in [false, true] {
            let subject = |message: &[u8]| {
                Subject::from_static(if message.starts_with(b"secret") { "logs.secret" } else { "logs.open" })
            };
            let destination =
                JetStream::connect(server.url(), user("app"), subject).await.expect("connected");
            let pipeline =
                Pipeline::with(
                    destination,
                    |forwarder| {
                        if is_strict { forwarder.strict_order() } else { forwarder }
                    },
                );
            for number in 0..50 {
                pipeline.send(number..number + 1).await;
                pipeline.tx.send(format!("secret {number}")).await.expect("accepted");
            }
            let report = pipeline.handle.shutdown().await.expect("all others are confirmed");
            assert_eq!((report.stats.confirmed, report.stats.rejected), (50, 50));
        }
    });
}

#[test]
fn a_forbidden_subject_of_all_messages_ends_the_forwarder() {
    with_servers(async {
        let server = server_with_users().await;
        for (name, subject) in [("app", "logs.secret"), ("deaf", "logs.open")] {
            let destination = JetStream::connect(server.url(), user(name), subject).await.expect("connected");
            // The event of the client ends it, not a time limit.
            let pipeline = Pipeline::with(destination, |forwarder| forwarder.confirm_timeout(HOUR));
            pipeline.send(0..3).await;
            let error = pipeline.handle.join().await.expect_err("an error");
            assert_eq!(error.kind(), ForwardErrorKind::Stopped(StopReason::NotPermitted), "{error}");
            assert!(error.to_string().contains("Permissions Violation"), "{error}");
            let unconfirmed = error.into_unconfirmed();
            assert_eq!(unconfirmed.messages.len() + unconfirmed.receiver.expect("the receiver").len(), 3);
        }
    });
}

#[test]
fn a_forbidden_request_of_strict_order_ends_the_forwarder() {
    with_servers(async {
        let server = server_with_users().await;
        let connect = || JetStream::connect(server.url(), user("blind"), SUBJECT);
        let pipeline = Pipeline::with(connect().await.expect("connected"), Forwarder::strict_order);
        pipeline.send(0..3).await;
        let error = pipeline.handle.join().await.expect_err("an error");
        assert_eq!(error.kind(), ForwardErrorKind::Stopped(StopReason::NotPermitted), "{error}");
        assert!(error.to_string().contains("$JS.API."), "{error}");

        // Without strict order, no request is made.
        let pipeline = Pipeline::with(connect().await.expect("connected"), |forwarder| forwarder);
        pipeline.send(0..3).await;
        assert_eq!(pipeline.handle.shutdown().await.expect("confirmed").stats.confirmed, 3);
    });
}

#[test]
fn a_forbidden_subject_that_others_publish_to_ends_no_forwarder() {
    with_servers(async {
        let server = server_with_users().await;
        let events = JetStreamEvents::new();
        let (observe, refusals) = (events.callback(), Arc::new(Mutex::new(0)));
        let counted = Arc::clone(&refusals);
        let options = user("app").event_callback(move |event| {
            *counted.lock().expect("the count") += u32::from(matches!(event, Event::ServerError(_)));
            observe(event)
        });
        let client = options.connect(server.url()).await.expect("connected");
        let context = async_nats::jetstream::new(client.clone());
        let pipeline = Pipeline::with(JetStream::new(context, SUBJECT).events(events), |forwarder| forwarder);
        pipeline.send(0..10).await;
        pipeline.confirmed(10).await;
        for subject in ["other.a", "$JS.API.STREAM.LIST"] {
            client.publish(subject, "".into()).await.expect("written");
        }
        let _refused = client.subscribe("other.a").await.expect("written");
        until(async || *refusals.lock().expect("the count") == 3).await;
        pipeline.send(10..20).await;
        pipeline.confirmed(20).await;
        let report = pipeline.handle.shutdown().await.expect("all are confirmed");
        assert_eq!((report.stats.confirmed, report.stats.rejected), (20, 0));
    });
}

#[test]
fn a_message_to_a_subject_without_a_stream_is_rejected_if_a_function_chose_it() {
    with_servers(async {
        let server = NatsServer::start("");
        create(&server, config()).await;
        for is_strict in [false, true] {
            let (context, _) = connect(&server.url()).await;
            let destination = JetStream::new(context, |message: &[u8]| match message {
                b"elsewhere" => Subject::from_static("elsewhere"),
                b"invalid" => Subject::from_static("logs. x"),
                _ => Subject::from_static(SUBJECT),
            });
            let pipeline =
                Pipeline::with(
                    destination,
                    |forwarder| {
                        if is_strict { forwarder.strict_order() } else { forwarder }
                    },
                );
            pipeline.send(0..10).await;
            pipeline.tx.send("elsewhere").await.expect("accepted");
            pipeline.send(10..20).await;
            pipeline.tx.send("invalid").await.expect("accepted");
            pipeline.send(20..30).await;
            let limit = Duration::from_secs(60);
            let report = pipeline.handle.shutdown_timeout(limit).await.expect("all others are confirmed");
            assert_eq!((report.stats.confirmed, report.stats.rejected), (30, 2));
        }
    });
}

#[test]
fn a_max_payload_that_is_lowered_rejects_large_messages_alone() {
    with_servers(async {
        for is_strict in [false, true] {
            let server = NatsServer::start("max_payload: 200000\n");
            let mut stream = create(&server, config()).await;
            let pipeline =
                Pipeline::start(
                    &server.url(),
                    |forwarder| {
                        if is_strict { forwarder.strict_order() } else { forwarder }
                    },
                )
                .await;
            let sending = async {
                for number in 0..2000 {
                    pipeline.send(number..number + 1).await;
                    if number % 10 == 0 {
                        pipeline.tx.send(vec![b'x'; 20_000]).await.expect("accepted");
                    }
                }
            };
            let lowering = async {
                pipeline.confirmed(1000).await;
                server.reconfigure("max_payload: 200000", "max_payload: 10000");
                server.reload();
            };
            tokio::join!(sending, lowering);
            let report = pipeline.handle.shutdown().await.expect("the small ones are confirmed");
            assert_eq!(report.stats.confirmed + report.stats.rejected, 2200);
            // A large message may have been stored, lost its confirmation with the connection, and be too large by then.
            // After the reload the server may have no responder for a moment.
            until(async || stream.info().await.is_ok()).await;
            let stored = stream.cached_info().state.messages;
            assert!((report.stats.confirmed..=2200).contains(&stored), "{stored} stored, {report:?}");
            assert!(report.stats.rejected <= 200, "only large ones: {report:?}");
            let found = read(&server.url(), 2000).await;
            assert_eq!((found.missing, found.twice), (0, 0), "{found:?}");
            assert!(!is_strict || found.out_of_order == 0, "{found:?}");
        }
    });
}
