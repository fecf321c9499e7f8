//! Direct gets of what vehicles have stored, on real servers: many at once and one by one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::{self, Context, stream};
use fleet_core::ErrorKind;
use fleet_core::nats::{Gets, NatsOptions, StoredMessage};
use fleet_worker::local::{NatsBuilder, NatsServer};
use futures_util::StreamExt;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::reader::poison::{blocks, jetstream_time, until_stored};
use crate::reader::{SOON, flush, open_at};
use crate::world::eventually;

/// One login may ask for everything, `single` for each message by itself only.
const LOGINS: &str = r#"authorization { users: [
    { user: all, password: x }
    { user: single, password: x, permissions: { publish: { allow: [">"], deny: ["$JS.API.DIRECT.GET.T"] } } }
] }"#;

struct World {
    server: NatsServer,
    js: Context,
}

impl World {
    /// With the stream `T` of everything, the last message per subject.
    async fn new() -> Self {
        Self::on(NatsServer::builder()).await
    }

    async fn on(server: NatsBuilder) -> Self {
        let server = server.config(LOGINS).start().await.unwrap();
        let js = jetstream::new(client(&server).await);
        let config = stream::Config {
            name: "T".into(),
            subjects: vec!["fleet.>".into()],
            max_messages_per_subject: 1,
            allow_direct: true,
            ..stream::Config::default()
        };
        js.create_stream(config).await.unwrap();
        Self { server, js }
    }

    async fn gets(&self, login: &str) -> Gets {
        Gets::connect(&NatsOptions::new(at(&self.server, login)), "test").await.unwrap()
    }

    async fn store(&self, subject: &str, payload: &str) {
        self.js.publish(subject.to_owned(), payload.to_owned().into()).await.unwrap().await.unwrap();
    }

    /// Whether that login's questions are put together into one request.
    async fn batches(&self, login: &str) -> bool {
        let reader = open_at(&at(&self.server, "all"), true).await;
        login == "all" && reader.server_version() >= (2, 15)
    }
}

fn at(server: &NatsServer, login: &str) -> String {
    format!("nats://{login}:x@127.0.0.1:{}", server.port())
}

async fn client(server: &NatsServer) -> async_nats::Client {
    fleet_core::nats::connect(&NatsOptions::new(at(server, "all")), "client", |_| {}).await.unwrap()
}

/// Every answer comes, sooner or later.
async fn last(gets: &Gets, subjects: &[String]) -> fleet_core::error::Result<Vec<Option<StoredMessage>>> {
    timeout(SOON, gets.last("T", subjects.to_vec())).await.expect("no answer at all")
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_stored_each_is_found_as_the_server_says() {
    let world = World::new().await;
    let mut vehicle = open_at(&at(&world.server, "all"), true).await;
    let mut subjects = Vec::new();
    for (n, (_, block)) in blocks().into_iter().enumerate() {
        for (word, payload) in [("on", String::new()), ("off", format!("payload {n}"))] {
            let subject = format!("fleet.0.EVIL-{n}.{word}");
            vehicle
                .publish_with_headers(&subject, Some("_INBOX.EVIL.a"), &block, payload.as_bytes())
                .unwrap();
            subjects.push((subject, Some(payload)));
            flush(&mut vehicle).await;
        }
        let good = format!("fleet.0.GOOD-{n}.off");
        world.store(&good, "good").await;
        subjects.push((good, Some("good".to_owned())));
        subjects.push((format!("fleet.0.GOOD-{n}.on"), None));
    }
    let stored = subjects.iter().filter(|(_, payload)| payload.is_some()).count();
    until_stored(&world.js, "T", stored).await;
    let times = jetstream_time(&world.js).await;
    let asked: Vec<String> = subjects.iter().map(|(subject, _)| subject.clone()).collect();
    for login in ["all", "single"] {
        let spy = client(&world.server).await;
        let mut many = spy.subscribe("$JS.API.DIRECT.GET.T").await.unwrap();
        let mut single = spy.subscribe("$JS.API.DIRECT.GET.T.>").await.unwrap();
        spy.flush().await.unwrap();
        let gets = world.gets(login).await;
        // All in one question, and each in one of its own.
        let mut found = last(&gets, &asked).await.unwrap();
        for subject in &asked {
            found.extend(last(&gets, std::slice::from_ref(subject)).await.unwrap());
        }
        let mut sequence = 0;
        for ((subject, payload), found) in subjects.iter().chain(&subjects).zip(&found) {
            let Some(payload) = payload else {
                assert_eq!(*found, None, "{subject}");
                continue;
            };
            sequence = sequence % stored as u64 + 1;
            let found = found.as_ref().unwrap_or_else(|| panic!("{subject} by {login}"));
            assert_eq!((found.sequence, found.stored), (sequence, times[&sequence]), "{subject}");
            assert_eq!(found.payload, payload.as_bytes(), "{subject}");
        }
        spy.flush().await.unwrap();
        let mut seen = [0, 0];
        for (seen, requests) in seen.iter_mut().zip([&mut many, &mut single]) {
            while timeout(Duration::from_millis(100), requests.next()).await.is_ok_and(|r| r.is_some()) {
                *seen += 1;
            }
        }
        let missing = subjects.len() - stored;
        let expected = match world.batches(login).await {
            // What a batch lacks is asked for once more.
            true => [1, missing + asked.len()],
            false => [0, 2 * asked.len()],
        };
        assert_eq!(seen, expected, "{login}");
    }
}

/// `on` is repeated all the time: there is always one, however it is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_just_replaced_is_there() {
    let world = World::new().await;
    world.store("fleet.0.CAR.on", "").await;
    world.store("fleet.0.CAR.off", "").await;
    let stop = Arc::new(AtomicBool::new(false));
    let (js, stopped) = (world.js.clone(), Arc::clone(&stop));
    let repeating = tokio::spawn(async move {
        while !stopped.load(Ordering::Relaxed) {
            let acks = (0..100).map(|_| js.publish("fleet.0.CAR.on", "".into()));
            for ack in futures_util::future::join_all(acks).await {
                ack.unwrap().await.unwrap();
            }
        }
    });
    let subjects = ["on", "off"].map(|word| format!("fleet.0.CAR.{word}"));
    for login in ["all", "single"] {
        let (gets, mut before) = (world.gets(login).await, 0);
        for _ in 0..200 {
            let found = last(&gets, &subjects).await.unwrap();
            let [Some(on), Some(off)] = &found[..] else { panic!("{found:?}") };
            assert!(on.sequence >= before && off.sequence == 2, "{found:?}");
            before = on.sequence;
        }
        assert!(before > 2, "nothing was replaced");
    }
    stop.store(true, Ordering::Relaxed);
    repeating.await.unwrap();
}

/// So many at once that they wait for one another.
#[tokio::test(flavor = "multi_thread")]
async fn however_many_ask_each_has_its_answer() {
    let world = World::new().await;
    for n in 0..50 {
        world.store(&format!("fleet.0.CAR-{n}.on"), &n.to_string()).await;
    }
    for login in ["all", "single"] {
        let gets = world.gets(login).await;
        let mut asking = JoinSet::new();
        for n in 0..3_000 {
            let gets = gets.clone();
            asking.spawn(async move {
                let subjects = ["on", "off"].map(|word| format!("fleet.0.CAR-{}.{word}", n % 50));
                (n % 50, last(&gets, &subjects).await)
            });
        }
        while let Some(found) = asking.join_next().await {
            let (n, found) = found.unwrap();
            let found = found.unwrap();
            assert_eq!(found[0].as_ref().unwrap().payload, n.to_string().as_bytes());
            assert_eq!(found[1], None);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_question_is_answered_while_the_server_goes_and_comes() {
    // It keeps what it acknowledged even if it is killed.
    let mut world = World::on(NatsServer::builder().jetstream("sync_interval: always")).await;
    let subjects: Vec<String> = (0..40).map(|n| format!("fleet.0.CAR-{n}.on")).collect();
    for subject in &subjects {
        world.store(subject, subject).await;
    }
    let right = |found: &[Option<StoredMessage>]| {
        let payloads = found.iter().flatten().map(|message| message.payload.to_vec());
        payloads.eq(subjects.iter().map(|subject| subject.clone().into_bytes()))
    };
    for login in ["all", "single"] {
        let gets = world.gets(login).await;
        let stop = Arc::new(AtomicBool::new(false));
        let mut asking = JoinSet::new();
        for _ in 0..16 {
            let (gets, subjects, stop) = (gets.clone(), subjects.clone(), Arc::clone(&stop));
            asking.spawn(async move {
                let mut answers = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    answers.push(last(&gets, &subjects).await);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                answers
            });
        }
        // A server that says nothing, one that is gone, and one that is there again.
        world.server.process().pause().unwrap();
        let said = last(&gets, &subjects).await.unwrap_err();
        assert_eq!(said.kind(), ErrorKind::Unavailable, "{said}");
        world.server.process().resume().unwrap();
        eventually("answers come", SOON, async || last(&gets, &subjects).await.is_ok()).await;
        world.server.kill().await;
        let said = last(&gets, &subjects).await.unwrap_err();
        assert_eq!(said.kind(), ErrorKind::Unavailable, "{said}");
        world.server.start_again().await.unwrap();
        eventually("answers come", SOON, async || last(&gets, &subjects).await.is_ok()).await;
        world.server.kill().await;
        world.server.start_again().await.unwrap();
        eventually("answers come", SOON, async || last(&gets, &subjects).await.is_ok()).await;
        stop.store(true, Ordering::Relaxed);
        let mut ok = 0;
        while let Some(answers) = asking.join_next().await {
            for answer in answers.unwrap() {
                match answer {
                    Ok(found) => {
                        assert!(right(&found), "{found:?}");
                        ok += 1;
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
                }
            }
        }
        assert!(ok > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_group_without_an_answer_costs_the_others_nothing() {
    let world = World::new().await;
    world.store("fleet.0.CAR.on", "x").await;
    let gets = world.gets("all").await;
    let groups = [vec!["fleet.0.CAR.on".to_owned()], vec!["no subject".to_owned()], Vec::new()];
    let found = timeout(SOON, gets.last_of_groups("T", groups.to_vec())).await.unwrap();
    assert_eq!(found[0].as_ref().unwrap()[0].as_ref().unwrap().payload, "x");
    assert!(found[1].as_ref().unwrap_err().to_string().contains("is no subject"), "{found:?}");
    assert_eq!(found[2].as_ref().unwrap(), &[]);
    let nowhere = timeout(SOON, gets.last_of_groups("NOWHERE", groups.to_vec())).await.unwrap();
    let said = nowhere[0].as_ref().unwrap_err().to_string();
    assert!(said.contains("stream NOWHERE") && said.contains("no such stream"), "{said}");
}
