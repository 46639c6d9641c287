//! The settings that are refused, and those that are completed.

use rdkafka::config::ClientConfig;
use turbostream_kafka::{ConfigError, Kafka};

#[test]
fn a_contradicting_setting_is_refused_by_name() {
    let refused = [
        ("enable.idempotence", "false", "true"),
        ("acks", "1", "all"),
        ("request.required.acks", "0", "all"),
        ("max.in.flight.requests.per.connection", "6", "1 to 5"),
        ("max.in.flight", "0", "1 to 5"),
        ("retries", "3", "2147483647"),
        ("message.timeout.ms", "30000", "0"),
        ("delivery.timeout.ms", "30000", "0"),
        ("queuing.strategy", "lifo", "fifo"),
        ("delivery.report.only.error", "true", "false"),
        ("enable.gapless.guarantee", "true", "unset"),
        ("transactional.id", "t", "unset"),
    ];
    for (key, value, accepted) in refused {
        let error = Kafka::new(ClientConfig::new().set(key, value), "events").expect_err("refused");
        let words = error.to_string();
        let ConfigError::Refused { key: its_key, value: its_value, accepted: its_accepted } = error else {
            panic!("{key}: {error:?}")
        };
        assert_eq!((its_key.as_str(), its_value.as_str()), (key, value));
        assert!(its_accepted.starts_with(accepted), "{key}: {its_accepted}");
        assert!(words.contains(key) && words.contains(value) && words.contains(accepted), "{words}");
    }
}

#[test]
fn settings_that_agree_are_taken() {
    let mut config = ClientConfig::new();
    config
        .set("enable.idempotence", "true")
        .set("acks", "-1")
        .set("max.in.flight", "1")
        .set("retries", "2147483647")
        .set("message.timeout.ms", "0")
        .set("linger.ms", "50")
        .set("batch.size", "16384");
    assert!(Kafka::new(&config, "events").is_ok());
}

#[test]
fn what_librdkafka_refuses_is_told_in_its_words_without_secrets() {
    let error = Kafka::new(ClientConfig::new().set("no.such.setting", "1"), "events").expect_err("refused");
    assert!(matches!(error, ConfigError::Client(_)));
    assert!(error.to_string().contains("no.such.setting"), "{error}");
    let error =
        Kafka::new(ClientConfig::new().set("compression.codec", "brotli"), "events").expect_err("refused");
    assert!(error.to_string().contains("compression.codec"), "{error}");
    for key in ["no.such.password", "ssl.key.password", "ssl.key.pem", "sasl.oauthbearer.client.secret"] {
        let Err(error) = Kafka::new(ClientConfig::new().set(key, "opensesame\n"), "events") else { continue };
        assert!(!format!("{error} {error:?}").contains("opensesame"), "{key}: {error:?}");
    }
}

#[test]
fn a_name_that_is_no_topic_is_given_back() {
    for name in ["", ".", "..", "a b", "a\0", "ä", &"x".repeat(250)] {
        let error = Kafka::new(&ClientConfig::new(), name).expect_err("refused");
        let ConfigError::Topic(given_back) = error else { panic!("{name}: {error:?}") };
        assert_eq!(given_back, name);
    }
}
