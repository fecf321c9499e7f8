//! Messages that a client library takes are read as it reads them.

use async_nats::HeaderMap;
use fleet_core::nats::reader::Read;
use fleet_worker::local::NatsServer;
use futures_util::StreamExt;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use tokio::time::timeout;

use super::{SOON, flush, open, until};

/// What is published: subject, reply, headers, payload.
#[derive(Debug, Clone)]
struct Published {
    subject: String,
    reply: Option<String>,
    headers: Vec<(String, String)>,
    payload: Vec<u8>,
}

fn published() -> impl Strategy<Value = Published> {
    let subject = "same(\\.[a-zA-Z0-9_$é-]{1,12}){1,4}";
    let headers = prop::collection::vec(("[A-Za-z][A-Za-z0-9-]{0,20}", "[!-~é]([ -~é]{0,30}[!-~])?"), 0..4);
    let payload = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..100),
        1 => prop::collection::vec(any::<u8>(), 4_000..5_000),
    ];
    (subject, prop::option::of("[a-z]{1,9}\\.[a-z]{1,9}"), headers, payload)
        .prop_map(|(subject, reply, headers, payload)| Published { subject, reply, headers, payload })
}

#[tokio::test(flavor = "multi_thread")]
async fn valid_messages_are_read_as_async_nats_reads_them() {
    let server = NatsServer::start().await.unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut theirs = client.subscribe("same.>").await.unwrap();
    client.flush().await.unwrap();
    let mut reader = open(&server, true).await;
    let sid = reader.subscribe("same.>").unwrap();
    flush(&mut reader).await;

    let mut runner = TestRunner::deterministic();
    for round in 0..40 {
        let messages = prop::collection::vec(published(), 50).new_tree(&mut runner).unwrap().current();
        for Published { subject, reply, headers, payload } in messages.clone() {
            let mut map = HeaderMap::new();
            headers.iter().for_each(|(name, value)| map.append(name.as_str(), value.as_str()));
            match (reply, headers.is_empty()) {
                (None, true) => client.publish(subject, payload.into()).await.unwrap(),
                (None, false) => client.publish_with_headers(subject, map, payload.into()).await.unwrap(),
                (Some(reply), true) => {
                    client.publish_with_reply(subject, reply, payload.into()).await.unwrap()
                }
                (Some(reply), false) => {
                    let sent = client.publish_with_reply_and_headers(subject, reply, map, payload.into());
                    sent.await.unwrap();
                }
            }
        }
        for published in messages {
            let their = timeout(SOON, theirs.next()).await.unwrap().unwrap();
            let of = |read: Read<'_>| match read {
                Read::Message(message) => {
                    assert_eq!(message.sid, sid);
                    assert_eq!(message.subject, their.subject.as_bytes());
                    assert_eq!(message.reply, their.reply.as_ref().map(|reply| reply.as_bytes()));
                    assert_eq!(message.payload, their.payload);
                    assert_eq!(message.headers.is_some(), their.headers.is_some());
                    for (name, values) in their.headers.iter().flat_map(HeaderMap::iter) {
                        let name: &str = name.as_ref();
                        let last = values.last().map(|value| value.as_str().as_bytes());
                        assert_eq!(message.headers.and_then(|headers| headers.last(name)), last, "{name}");
                    }
                    Some(())
                }
                Read::Event(event) => panic!("{event:?}"),
            };
            until(&mut reader, "a message", of).await;
            assert_eq!(
                (&published.payload, published.reply.is_some()),
                (&their.payload.to_vec(), their.reply.is_some()),
                "{round}"
            );
        }
    }
}
