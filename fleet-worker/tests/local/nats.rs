//! NATS.

use std::time::Duration;

use async_nats::jetstream::{self, stream};
use fleet_worker::local::{NatsServer, Sources};

use crate::runs;

async fn jetstream_of(server: &NatsServer) -> jetstream::Context {
    jetstream::new(async_nats::connect(server.url()).await.unwrap())
}

async fn publish(server: &NatsServer, text: &'static str) {
    let js = jetstream_of(server).await;
    let config = stream::Config {
        name: "POSITIONS".into(),
        subjects: vec!["positions.>".into()],
        ..stream::Config::default()
    };
    js.get_or_create_stream(config).await.unwrap();
    js.publish("positions.V1", text.into()).await.unwrap().await.unwrap();
}

async fn last(server: &NatsServer) -> String {
    let stream = jetstream_of(server).await.get_stream("POSITIONS").await.unwrap();
    let message = stream.get_last_raw_message_by_subject("positions.V1").await.unwrap();
    String::from_utf8(message.payload.to_vec()).unwrap()
}

#[tokio::test]
async fn a_stream_survives_kill_and_stop() {
    let mut server = NatsServer::start().await.unwrap();
    let url = server.url();
    publish(&server, "one").await;
    server.kill().await;
    assert!(async_nats::connect(&url).await.is_err());
    server.start_again().await.unwrap();
    assert_eq!((server.url(), last(&server).await), (url, "one".to_owned()));
    publish(&server, "two").await;
    server.stop().await.unwrap();
    assert!(server.stop().await.unwrap_err().to_string().contains("has ended already"));
    server.start_again().await.unwrap();
    assert_eq!(last(&server).await, "two");
}

#[tokio::test]
async fn two_share_nothing() {
    let (one, two) = (tokio::spawn(NatsServer::start()), tokio::spawn(NatsServer::start()));
    let (one, two) = (one.await.unwrap().unwrap(), two.await.unwrap().unwrap());
    assert_ne!(one.port(), two.port());
    publish(&one, "one").await;
    publish(&two, "two").await;
    assert_eq!((last(&one).await, last(&two).await), ("one".to_owned(), "two".to_owned()));
}

#[tokio::test]
async fn nothing_is_left_after_drop() {
    let server = NatsServer::start().await.unwrap();
    let pid = server.process().id().unwrap();
    assert!(runs(pid));
    drop(server);
    assert!(!runs(pid));
}

#[tokio::test]
async fn a_paused_server_answers_when_resumed() {
    let server = NatsServer::start().await.unwrap();
    publish(&server, "one").await;
    server.process().pause().unwrap();
    let patience = Duration::from_millis(300);
    assert!(tokio::time::timeout(patience, last(&server)).await.is_err());
    server.process().resume().unwrap();
    assert_eq!(last(&server).await, "one");
}

#[tokio::test]
async fn configuration_counts_and_mistakes_in_it_are_shown() {
    let users = "authorization { user: ann, password: secret }";
    let server = NatsServer::builder().config(users).start().await.unwrap();
    assert!(async_nats::connect(server.url()).await.is_err());
    let options = async_nats::ConnectOptions::with_user_and_password("ann".into(), "secret".into());
    options.connect(server.url()).await.unwrap();

    let error = NatsServer::builder().config("nonsense: 1").start().await.unwrap_err().to_string();
    assert!(error.contains("nats-server ended") && error.contains("unknown field \"nonsense\""), "{error}");
}

#[tokio::test]
async fn on_a_machine_that_has_nothing_it_is_fetched() {
    let server = NatsServer::builder().sources(Sources::Fetched).start().await.unwrap();
    publish(&server, "one").await;
    assert_eq!(last(&server).await, "one");
}
