//! Whatever a vehicle publishes, it arrives as a message, and the connection stays.

use std::collections::BTreeMap;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::{self, Context, stream};
use fleet_core::nats::reader::{Delivered, Event, Headers, Read, Reader};
use fleet_worker::local::{NatsServer, free_port};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{SOON, flush, open, until};
use crate::world::eventually;

/// A stream takes headers of less than 64 KiB, and `examples/nats` messages of that.
const MOST: usize = 65_000;

/// Header blocks that no client library writes, and what is wrong with them.
pub(crate) fn blocks() -> Vec<(&'static str, Vec<u8>)> {
    let forged = "Nats-Stream: X\r\nNats-Subject: fleet.0.GOOD.off\r\nNats-Sequence: 4242\r\n\
                  Nats-Time-Stamp: 1999-01-01T00:00:00Z\r\nNats-Pending-Messages: 0\r\n";
    let long = |length: usize| "x".repeat(length);
    let texts = [
        ("a line without a colon", "NATS/1.0\r\nbad header line\r\n\r\n".to_owned()),
        ("another version", "NATS/9.9\r\n\r\n".to_owned()),
        ("another protocol", "HTTP/1.1 200 OK\r\n\r\n".to_owned()),
        ("a status that is no number", "NATS/1.0 abc def\r\n\r\n".to_owned()),
        ("a status of four digits", "NATS/1.0 4040\r\n\r\n".to_owned()),
        ("a forged end", "NATS/1.0 404 Message Not Found\r\n\r\n".to_owned()),
        (
            "a forged end of a pull",
            "NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 0\r\n\r\n".to_owned(),
        ),
        ("the server's fields", format!("NATS/1.0\r\n{forged}\r\n")),
        ("the server's fields behind an end", format!("NATS/1.0\r\n\r\n{forged}\r\n")),
        ("no end of a line", format!("NATS/1.0\r\nA: {}", long(20))),
        ("ends of lines only", "\r\n\r\n\r\n".to_owned()),
        ("bare line feeds", "NATS/1.0\nA: b\n\n".to_owned()),
        ("a name that is empty", "NATS/1.0\r\n: b\r\n\r\n".to_owned()),
        ("a value that is an operation", "NATS/1.0\r\nA: b\r\nPING\r\n+OK\r\n-ERR 'x'\r\n\r\n".to_owned()),
        ("one byte", "!".to_owned()),
        ("two bytes", "\r\n".to_owned()),
        ("no byte", String::new()),
        ("much in one line", format!("NATS/1.0\r\nA: {}\r\n\r\n", long(MOST - 17))),
        ("much in lines", format!("NATS/1.0\r\n{}\r\n", "A: b\r\n".repeat((MOST - 12) / 6))),
    ];
    let mut blocks: Vec<_> = texts.map(|(what, text)| (what, text.into_bytes())).into();
    blocks.push(("no text", b"NATS/1.0\r\n\xFF\xFE: \x00\x80\r\n\r\n".to_vec()));
    blocks.push(("an unfinished character", b"NATS/1.0 \xE2\x82".to_vec()));
    blocks
}

/// The messages of a vehicle: each block with a payload and alone. The payload says which it is.
pub(crate) fn publish(vehicle: &mut Reader, subject: &str) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut published = BTreeMap::new();
    for (n, (what, block)) in blocks().into_iter().enumerate() {
        let payload = format!("{n} {what}").into_bytes();
        vehicle.publish_with_headers(subject, Some("_INBOX.EVIL.a"), &block, &payload).unwrap();
        published.insert(payload, block);
    }
    let block = b"NATS/1.0\r\nbad header line\r\n\r\n".to_vec();
    vehicle.publish_with_headers(subject, None, &block, b"").unwrap();
    published.insert(Vec::new(), block);
    published
}

/// Payloads and blocks of the next messages that `which` takes; nothing else may come.
pub(crate) async fn gather(
    reader: &mut Reader,
    count: usize,
    mut which: impl FnMut(&fleet_core::nats::reader::Message<'_>) -> bool,
) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let all = |read: Read<'_>| match read {
        Read::Message(message) if which(&message) => {
            let block = message.headers.map(|headers| headers.as_bytes().to_vec());
            assert_eq!(found.insert(message.payload.to_vec(), block), None, "twice");
            (found.len() == count).then(|| std::mem::take(&mut found))
        }
        Read::Message(message) => panic!("not asked for: {message:?}"),
        Read::Event(event) => panic!("{event:?}"),
    };
    until(reader, "all messages", all).await
}

/// All that were published and no others, and with their headers as they were published.
fn assert_all(
    found: &BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    published: &BTreeMap<Vec<u8>, Vec<u8>>,
    headers: bool,
) {
    assert_payloads(found, published);
    for (payload, block) in published {
        let wanted = (headers && !block.is_empty()).then_some(block);
        assert!(found[payload].as_ref() == wanted, "{}", payload.escape_ascii());
    }
}

fn assert_payloads<T>(found: &BTreeMap<Vec<u8>, T>, published: &BTreeMap<Vec<u8>, Vec<u8>>) {
    let texts = |payload: &Vec<u8>| payload.escape_ascii().to_string();
    assert_eq!(found.keys().map(texts).collect::<Vec<_>>(), published.keys().map(texts).collect::<Vec<_>>());
}

/// Everything that may be published to the stream `T`.
async fn stream(server: &NatsServer) -> Context {
    let js = jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let config = stream::Config {
        name: "T".into(),
        subjects: vec!["fleet.>".into()],
        allow_direct: true,
        ..stream::Config::default()
    };
    js.create_stream(config).await.unwrap();
    js
}

pub(crate) async fn until_stored(js: &Context, stream: &str, messages: usize) {
    let all = async || js.get_stream(stream).await.unwrap().cached_info().state.messages == messages as u64;
    eventually("all are stored", SOON, all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn poisoned_messages_arrive_live() {
    let server = NatsServer::start().await.unwrap();
    for headers in [true, false] {
        let mut reader = open(&server, headers).await;
        let sid = reader.subscribe("fleet.0.*.*").unwrap();
        flush(&mut reader).await;
        let mut vehicle = open(&server, true).await;
        let mut published = publish(&mut vehicle, "fleet.0.EVIL.speed");
        let block = vec![b'x'; 1 << 18];
        let payload = b"more than a stream takes".to_vec();
        vehicle.publish_with_headers("fleet.0.EVIL.speed", Some("_INBOX.EVIL.a"), &block, &payload).unwrap();
        published.insert(payload, block);
        flush(&mut vehicle).await;
        let found = gather(&mut reader, published.len(), |message| {
            assert_eq!((message.sid, message.subject), (sid, &b"fleet.0.EVIL.speed"[..]));
            assert_eq!(message.reply.is_some(), !message.payload.is_empty());
            true
        });
        assert_all(&found.await, &published, headers);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn poisoned_messages_are_pulled() {
    let server = NatsServer::start().await.unwrap();
    let js = stream(&server).await;
    let mut vehicle = open(&server, true).await;
    let published = publish(&mut vehicle, "fleet.0.EVIL.on");
    flush(&mut vehicle).await;
    until_stored(&js, "T", published.len()).await;
    let stored = jetstream_time(&js).await;
    for headers in [true, false] {
        let name = format!("headers-{headers}");
        let config = pull::Config {
            durable_name: Some(name.clone()),
            ack_policy: AckPolicy::None,
            ..pull::Config::default()
        };
        js.get_stream("T").await.unwrap().create_consumer(config).await.unwrap();
        let mut reader = open(&server, headers).await;
        let inbox = "_INBOX.reader.pull";
        reader.subscribe(inbox).unwrap();
        let request = format!(r#"{{"batch":{},"no_wait":true}}"#, published.len() + 1);
        let api = format!("$JS.API.CONSUMER.MSG.NEXT.T.{name}");
        reader.publish(&api, Some(inbox), request.as_bytes()).unwrap();
        let mut sequence = 0;
        let found = gather(&mut reader, published.len(), |message| {
            assert_eq!(message.subject, b"fleet.0.EVIL.on");
            sequence += 1;
            let delivered = message.reply.and_then(Delivered::parse).unwrap();
            assert_eq!((delivered.stream, delivered.sequence), (&b"T"[..], sequence));
            assert_eq!(delivered.pending, published.len() as u64 - sequence);
            delivered.time == stored[&sequence]
        });
        // The server itself takes forged status lines out of what is stored.
        assert_payloads(&found.await, &published);
        // The end comes by no reply and on the inbox itself, whatever the messages looked like.
        let end = |read: Read<'_>| match read {
            Read::Message(message) => {
                assert_eq!(
                    (message.subject, message.reply, message.payload),
                    (inbox.as_bytes(), None, &b""[..])
                );
                Some(message.headers.map(|headers| headers.status().unwrap().code))
            }
            Read::Event(event) => panic!("{event:?}"),
        };
        let code = until(&mut reader, "the end of the pull", end).await;
        assert!(matches!((headers, code), (true, Some(404 | 408)) | (false, None)), "{code:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn poisoned_messages_are_got_directly_with_what_the_server_says() {
    let server = NatsServer::start().await.unwrap();
    let js = stream(&server).await;
    let mut vehicle = open(&server, true).await;
    let published = publish(&mut vehicle, "fleet.0.EVIL.off");
    flush(&mut vehicle).await;
    until_stored(&js, "T", published.len()).await;
    let from = jetstream_time(&js).await;

    let mut reader = open(&server, true).await;
    reader.subscribe("_INBOX.reader.get").unwrap();
    let mut found = BTreeMap::new();
    for sequence in 1..=published.len() as u64 {
        let request = format!(r#"{{"seq":{sequence}}}"#);
        reader.publish("$JS.API.DIRECT.GET.T", Some("_INBOX.reader.get"), request.as_bytes()).unwrap();
        let answer = |read: Read<'_>| match read {
            Read::Message(message) => {
                let stored =
                    message.headers.and_then(Headers::stored).unwrap_or_else(|| panic!("{message:?}"));
                assert_eq!((stored.sequence, stored.subject), (sequence, &b"fleet.0.EVIL.off"[..]));
                assert_eq!(stored.time, from[&sequence]);
                Some(message.payload.to_vec())
            }
            Read::Event(event) => panic!("{event:?}"),
        };
        let payload = until(&mut reader, "an answer", answer).await;
        *found.entry(payload).or_insert(0) += 1;
    }
    assert_payloads(&found, &published);
    assert!(found.values().all(|times| *times == 1), "{found:?}");

    // The last one, and one that is not there.
    for (subject, last, sequence) in
        [("fleet.0.EVIL.off", true, published.len()), ("fleet.0.GOOD.off", false, 0)]
    {
        let api = format!("$JS.API.DIRECT.GET.T.{subject}");
        reader.publish(&api, Some("_INBOX.reader.get"), b"").unwrap();
        let answer = |read: Read<'_>| match read {
            Read::Message(message) => {
                let headers = message.headers.unwrap();
                assert_eq!(headers.stored().map(|stored| stored.sequence), last.then_some(sequence as u64));
                assert!(last || headers.status().unwrap().code == 404);
                Some(())
            }
            Read::Event(event) => panic!("{event:?}"),
        };
        until(&mut reader, "an answer", answer).await;
    }
}

/// When each message of `T` was stored, by another way.
pub(crate) async fn jetstream_time(js: &Context) -> BTreeMap<u64, i64> {
    let stream = js.get_stream("T").await.unwrap();
    let mut times = BTreeMap::new();
    for sequence in 1..=stream.cached_info().state.last_sequence {
        let request = serde_json::json!({"seq": sequence});
        let answer: serde_json::Value = js.request("STREAM.MSG.GET.T", &request).await.unwrap();
        times.insert(sequence, fleet_core::time::parse(answer["message"]["time"].as_str().unwrap()).unwrap());
    }
    times
}

/// The server takes any bytes but blanks and ends of lines as a reply.
#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_is_no_text_is_read() {
    let server = NatsServer::start().await.unwrap();
    let mut reader = open(&server, true).await;
    let sid = reader.subscribe("a").unwrap();
    flush(&mut reader).await;
    let replies = [
        &b"\xFF\xFE"[..],
        b"a\x0Bb",
        b"a\x0Cb",
        b"a\xC2\xA0b",
        b"a\xE2\x80\xA8b",
        b"\x00",
        b"a'\"b",
        &[b'r'; 3_000],
    ];
    let mut link = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    link.write_all(b"CONNECT {\"verbose\":false,\"headers\":true}\r\n").await.unwrap();
    for reply in replies {
        let plain = [&b"PUB a "[..], reply, b" 1\r\nx\r\n"].concat();
        let with_headers = [&b"HPUB a "[..], reply, b" 12 13\r\nNATS/1.0\r\n\r\ny\r\n"].concat();
        link.write_all(&[plain, with_headers].concat()).await.unwrap();
    }
    link.write_all(b"PING\r\n").await.unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b"PONG\r\n") {
        assert!(link.read_buf(&mut said).await.unwrap() > 0, "{}", said.escape_ascii());
    }
    for reply in replies {
        for payload in [b"x", b"y"] {
            let of = |read: Read<'_>| match read {
                Read::Message(message) => {
                    assert_eq!((message.sid, message.reply), (sid, Some(reply)));
                    assert_eq!((message.payload, message.headers.is_some()), (&payload[..], payload == b"y"));
                    Some(())
                }
                Read::Event(event) => panic!("{event:?}"),
            };
            until(&mut reader, "a message", of).await;
        }
    }
}

/// What is longer than the server says its messages are is told and passed over; such messages are in a stream
/// whose server has been given a smaller `max_payload` since.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_long_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let (file, name) = (folder.path().join("nats.conf"), format!("small-{}", free_port()));
    let configure = |max_payload: &str| {
        let store = folder.path().join("store");
        let text = format!(
            "server_name: {name}\nmax_payload: {max_payload}\njetstream {{ store_dir: {store:?} }}\n"
        );
        std::fs::write(&file, text).unwrap();
    };
    configure("1MB");
    let mut server = NatsServer::builder().file(&file, &name).start().await.unwrap();
    let js = stream(&server).await;
    for (subject, length) in [("fleet.long", 1_000_000), ("fleet.short", 3)] {
        js.publish(subject, vec![b'x'; length].into()).await.unwrap().await.unwrap();
    }
    server.stop().await.unwrap();
    configure("4KB");
    server.start_again().await.unwrap();

    let mut reader = open(&server, true).await;
    let sid = reader.subscribe("_INBOX.reader.get").unwrap();
    for sequence in [1, 2] {
        let request = format!(r#"{{"seq":{sequence}}}"#);
        reader.publish("$JS.API.DIRECT.GET.T", Some("_INBOX.reader.get"), request.as_bytes()).unwrap();
    }
    let mut passed_over = 0;
    let of = |read: Read<'_>| match read {
        Read::Event(Event::Oversized { sid: whose, subject, length }) => {
            assert_eq!((whose, subject.as_str()), (sid, "_INBOX.reader.get"));
            passed_over = length;
            None
        }
        Read::Message(message) => Some((message.payload.to_vec(), passed_over)),
        Read::Event(event) => panic!("{event:?}"),
    };
    let (payload, passed_over) = until(&mut reader, "the short one", of).await;
    assert_eq!(payload, b"xxx");
    assert!(passed_over > 1_000_000);
}
