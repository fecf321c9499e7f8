//! Links that end, fall silent or lead elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fleet_core::ErrorKind;
use fleet_core::nats::NatsOptions;
use fleet_core::nats::reader::{Event, Read, Reader, ReaderOptions, Sid};
use fleet_worker::local::{NatsServer, free_port};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

use super::{SOON, flush, open, open_at, payload, reconnected, until};
use crate::world::eventually;

/// Waits for the end of the connection; when its last bytes came.
async fn disconnected(reader: &mut Reader) -> (String, Instant) {
    let of = |read: Read<'_>| match read {
        Read::Event(Event::Disconnected { reason, heard }) => Some((reason.to_string(), heard)),
        Read::Event(Event::ConnectFailed { .. }) | Read::Message(_) => None,
        Read::Event(event) => panic!("{event:?}"),
    };
    until(reader, "the end of the connection", of).await
}

async fn arrives(reader: &mut Reader, other: &mut Reader, sid: Sid, text: &str) {
    let subject = reader.subject(sid).unwrap().to_owned();
    other.publish(&subject, None, text.as_bytes()).unwrap();
    flush(other).await;
    assert_eq!(payload(reader, sid).await, text.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_the_server_all_subscriptions_are_there_again() {
    let mut server = NatsServer::start().await.unwrap();
    let mut reader = open(&server, true).await;
    let mut sids: Vec<Sid> =
        (0..20_000).map(|n| reader.subscribe(&format!("fleet.0.V{n}.*")).unwrap()).collect();
    // Some end, and others take their places.
    for n in (0..20_000).step_by(7) {
        reader.unsubscribe(sids[n]);
        sids[n] = reader.subscribe(&format!("fleet.1.V{n}.*")).unwrap();
    }
    let subject = |n: usize| format!("fleet.{}.V{n}.speed", usize::from(n.is_multiple_of(7)));
    for round in ["before", "after"] {
        flush(&mut reader).await;
        let mut other = open(&server, true).await;
        for n in 0..20_000 {
            other.publish(&subject(n), None, format!("{round} {n}").as_bytes()).unwrap();
        }
        // To what has ended nothing comes.
        other.publish("fleet.0.V7.speed", None, b"to nobody").unwrap();
        flush(&mut other).await;
        let mut next = 0;
        let all = |read: Read<'_>| match read {
            Read::Message(message) => {
                assert_eq!((message.sid, message.subject), (sids[next], subject(next).as_bytes()));
                assert_eq!(message.payload, format!("{round} {next}").as_bytes());
                next += 1;
                (next == sids.len()).then_some(())
            }
            Read::Event(event) => panic!("{event:?}"),
        };
        until(&mut reader, "20,000 messages", all).await;
        if round == "before" {
            server.kill().await;
            disconnected(&mut reader).await;
            let refused = reader.publish("a", None, b"").unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Unavailable);
            server.start_again().await.unwrap();
            assert_eq!(reconnected(&mut reader).await, format!("127.0.0.1:{}", server.port()));
        }
    }
    assert_eq!(reader.unowned(), 0);
}

/// Goes between a client and the server of that port, until it is told to be silent: then it passes on nothing,
/// and closes nothing.
async fn proxy(port: u16, silent: Arc<AtomicBool>) -> u16 {
    async fn pass(
        mut from: impl AsyncReadExt + Unpin,
        mut to: impl AsyncWriteExt + Unpin,
        silent: Arc<AtomicBool>,
    ) {
        let mut chunk = vec![0; 65_536];
        let mut deaf = false;
        while let Ok(got) = from.read(&mut chunk).await {
            deaf |= silent.load(Ordering::Relaxed);
            if deaf {
                // The other side must not notice either.
                continue;
            }
            if got == 0 || to.write_all(&chunk[..got]).await.is_err() {
                return;
            }
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::spawn(pass(from_client, to_server, Arc::clone(&silent)));
            tokio::spawn(pass(from_server, to_client, Arc::clone(&silent)));
        }
    });
    address.port()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_falls_silent_is_noticed_and_replaced() {
    let server = NatsServer::start().await.unwrap();
    let silent = Arc::new(AtomicBool::new(false));
    let port = proxy(server.port(), Arc::clone(&silent)).await;
    let mut reader = open_at(&format!("nats://127.0.0.1:{port}"), true).await;
    let mut other = open(&server, true).await;
    let sid = reader.subscribe("a").unwrap();
    flush(&mut reader).await;
    arrives(&mut reader, &mut other, sid, "one").await;

    let before = Instant::now();
    silent.store(true, Ordering::Relaxed);
    let (reason, heard) = disconnected(&mut reader).await;
    assert_eq!(reason, "the NATS server has said nothing for 9 s");
    assert!(heard <= before + Duration::from_secs(1), "what came since then is not known to have come");
    silent.store(false, Ordering::Relaxed);
    reconnected(&mut reader).await;
    flush(&mut reader).await;
    flush(&mut other).await;
    arrives(&mut reader, &mut other, sid, "two").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_traffic_is_no_silent_one() {
    let server = NatsServer::start().await.unwrap();
    let mut reader = open(&server, true).await;
    let end = Instant::now() + Duration::from_secs(15);
    while Instant::now() < end {
        sleep(Duration::from_millis(20)).await;
        assert!(reader.read().next().is_none());
    }
}

/// A server that stands still is not read either, but its kernel takes what is sent.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_servers_that_stands_still_is_left_for_the_other() {
    let (one, two) = (NatsServer::start().await.unwrap(), NatsServer::start().await.unwrap());
    let mut reader = open_at(&format!("{},{}", one.url(), two.url()), true).await;
    let sid = reader.subscribe("a").unwrap();
    flush(&mut reader).await;
    let mut of_one = open(&one, true).await;
    of_one.publish("a", None, b"from one").unwrap();
    let mut of_two = open(&two, true).await;
    of_two.publish("a", None, b"from two").unwrap();
    flush(&mut of_one).await;
    flush(&mut of_two).await;
    let on_one = payload(&mut reader, sid).await == b"from one";
    let (still, goes, of_other) = if on_one { (&one, &two, &mut of_two) } else { (&two, &one, &mut of_one) };
    still.process().pause().unwrap();
    disconnected(&mut reader).await;
    assert_eq!(reconnected(&mut reader).await, format!("127.0.0.1:{}", goes.port()));
    flush(&mut reader).await;
    flush(of_other).await;
    arrives(&mut reader, of_other, sid, "again").await;
    still.process().resume().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_in_lame_duck_mode_is_left_for_one_that_it_has_announced() {
    let ports = [free_port(), free_port()];
    let mut servers = Vec::new();
    for n in 0..2 {
        let (listen, route) = (ports[n], ports[1 - n]);
        let cluster = format!(
            "cluster {{ name: c, listen: \"127.0.0.1:{listen}\", routes: [\"nats://127.0.0.1:{route}\"] }}\n\
             lame_duck_duration: 30s\nlame_duck_grace_period: 1s"
        );
        servers.push(NatsServer::builder().config(&cluster).start().await.unwrap());
    }
    let routed = async || servers.iter().all(|s| s.process().logs().contains("Route connection created"));
    eventually("the servers know each other", SOON, routed).await;
    // Only the first is configured.
    let mut reader = open(&servers[0], true).await;
    let sid = reader.subscribe("a").unwrap();
    flush(&mut reader).await;
    let id = servers[0].process().id().and_then(|id| Pid::from_raw(id.cast_signed())).unwrap();
    kill_process(id, Signal::USR2).unwrap();
    let lame = |read: Read<'_>| match read {
        Read::Event(Event::LameDuck { server }) => Some(server),
        read => panic!("{read:?}"),
    };
    let server = until(&mut reader, "the server's farewell", lame).await;
    assert_eq!(server, format!("127.0.0.1:{}", servers[0].port()));
    reader.reconnect();
    disconnected(&mut reader).await;
    assert_eq!(reconnected(&mut reader).await, format!("127.0.0.1:{}", servers[1].port()));
    let mut other = open(&servers[1], true).await;
    flush(&mut reader).await;
    arrives(&mut reader, &mut other, sid, "moved").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_ends_after_its_messages() {
    let server = NatsServer::start().await.unwrap();
    let mut reader = open(&server, true).await;
    let (some, all) = (reader.subscribe_for("a", 3).unwrap(), reader.subscribe("a").unwrap());
    for n in 0..5_u8 {
        reader.publish("a", None, &[n]).unwrap();
    }
    let mut found = Vec::new();
    let mut both = |read: Read<'_>| match read {
        Read::Message(message) => {
            found.push((message.sid, message.payload[0]));
            (message.sid == all && message.payload == [4]).then(|| std::mem::take(&mut found))
        }
        Read::Event(event) => panic!("{event:?}"),
    };
    let found = until(&mut reader, "all messages", &mut both).await;
    let of = |sid: Sid| found.iter().filter(|(whose, _)| *whose == sid).map(|(_, n)| *n).collect::<Vec<_>>();
    assert_eq!((of(some), of(all)), (vec![0, 1, 2], vec![0, 1, 2, 3, 4]));
    assert_eq!((reader.subject(some), reader.unowned()), (None, 0));
}

/// Each says one of these as soon as somebody connects, and then closes or waits.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_nats_server_is_said_in_one_line() {
    let info = "INFO {\"max_payload\":1024}\r\n";
    let pong = format!("{info}PONG\r\n");
    for (said, wanted) in [
        ("HTTP/1.1 400 Bad Request\r\n".to_owned(), "speaks another protocol"),
        ("SSH-2.0-OpenSSH\r\n".to_owned(), "speaks another protocol"),
        (format!("INFO {}", "x".repeat(70_000)), "a line has more than 65536 bytes"),
        ("INFO {}x\r\n".to_owned(), "is not understood"),
        ("PING\r\n".to_owned(), "does not begin with INFO"),
        (format!("{info}-ERR 'Authorization Violation'\r\n"), "refuses this login: Authorization Violation"),
        (format!("{info}-ERR 'maximum connections exceeded'\r\n"), "maximum connections exceeded"),
        (format!("{info}MSG a 1"), "ends the connection"),
    ] {
        let error = Reader::connect(ReaderOptions::new(NatsOptions::new(&says(said).await), "reader")).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains(wanted) && error.lines().count() == 1, "{error}");
    }
    for (said, wanted) in [
        ("MSG a 1 999999999999\r\n", "a message of 999999999999 bytes"),
        ("MSG a 1 1\r\nxyz", "does not end where its length says"),
        ("MSG a\r\n", "without the right arguments"),
        ("INFO [\r\n", "is not understood"),
        ("MSG a 1 10\r\nx", "is lost"),
    ] {
        let mut reader = open_at(&says(format!("{pong}{said}")).await, true).await;
        let (reason, _) = disconnected(&mut reader).await;
        assert!(reason.contains(wanted) && reason.lines().count() == 1, "{said:?}: {reason}");
    }
}

/// A listener that says this to everybody and closes once the other side has said something.
async fn says(text: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            // Who closes first loses what it has not read, and the other what it was sent.
            let _ = client.write_all(text.as_bytes()).await;
            let _ = client.read(&mut [0; 4_096]).await;
            let _ = client.shutdown().await;
            let _ = client.read(&mut [0; 4_096]).await;
        }
    });
    format!("nats://{address}")
}
