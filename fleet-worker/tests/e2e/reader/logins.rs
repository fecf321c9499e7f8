//! Every way to log in, TLS, and what the server then refuses.

use std::path::Path;

use fleet_core::ErrorKind;
use fleet_core::error::Result;
use fleet_core::nats::reader::{Event, Read, Reader, ReaderOptions};
use fleet_core::nats::{Auth, Key, NatsOptions};
use fleet_worker::local::NatsServer;
use nkeys::KeyPair;
use serde_json::json;

use super::{flush, open, payload, reconnected, until};
use crate::ca::Ca;
use crate::sensor_c::login::{account_jwt, creds, jwt};

async fn log_in(url: &str, auth: Auth, ca: Option<&Ca>, tls_first: bool) -> Result<Reader> {
    let mut nats = NatsOptions::new(url);
    (nats.auth, nats.ca_file) = (auth, ca.map(Ca::file));
    let mut options = ReaderOptions::new(nats, "reader");
    options.nats.tls_first = tls_first;
    Reader::connect(options).await
}

/// It is in and receives what it sends.
async fn works(reader: Result<Reader>) -> Reader {
    let mut reader = reader.unwrap();
    let sid = reader.subscribe("a").unwrap();
    reader.publish("a", None, b"x").unwrap();
    assert_eq!(payload(&mut reader, sid).await, b"x");
    reader
}

/// A person has something to change, and is told no secret.
fn refused(reader: Result<Reader>, what: &str, secret: &str) {
    let error = reader.unwrap_err();
    let text = error.to_string();
    assert!(error.kind() == ErrorKind::Configuration && text.contains(what), "{text}");
    assert!(!text.contains(secret), "{text}");
}

fn given(secret: &str) -> Key {
    Key::Given(secret.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_by_options_or_url_and_a_token() {
    let server = NatsServer::builder().config("authorization { user: o\"d, password: \"s3/cr@t\" }");
    let server = server.start().await.unwrap();
    let password = |password: &str| Auth::Password { user: "o\"d".to_owned(), password: given(password) };
    works(log_in(&server.url(), password("s3/cr@t"), None, false).await).await;
    let url = format!("nats://o%22d:s3%2Fcr%40t@127.0.0.1:{}", server.port());
    works(log_in(&url, Auth::None, None, false).await).await;
    let said = "refuses this login: Authorization Violation";
    refused(log_in(&server.url(), password("wr0ng"), None, false).await, said, "wr0ng");
    refused(log_in(&url.replace("s3", "wr0ng"), Auth::None, None, false).await, said, "wr0ng");
    refused(log_in(&server.url(), Auth::None, None, false).await, said, "s3/cr@t");

    let server = NatsServer::builder().config("authorization { token: t0ken }").start().await.unwrap();
    works(log_in(&server.url(), Auth::Token(given("t0ken")), None, false).await).await;
    works(log_in(&server.url().replace("//", "//t0ken@"), Auth::None, None, false).await).await;
    refused(log_in(&server.url(), Auth::Token(given("wr0ng")), None, false).await, said, "wr0ng");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_nkey_is_read_anew_for_each_connection_and_a_refusal_has_its_subject() {
    let keys = [KeyPair::new_user(), KeyPair::new_user()];
    let users = [("a", &keys[0]), ("b", &keys[1])].map(|(may, key)| {
        format!(
            "{{ nkey: {}, permissions: {{ publish: \"{may}.>\", subscribe: \"{may}.>\" }} }}",
            key.public_key()
        )
    });
    let config = format!("authorization {{ users: [ {} ] }}", users.join(", "));
    let mut server = NatsServer::builder().config(&config).start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("seed");
    std::fs::write(&file, keys[0].seed().unwrap()).unwrap();
    let mut reader = log_in(&server.url(), Auth::Nkey(Key::File(file.clone())), None, false).await.unwrap();
    let sids = ["a.x", "b.x"].map(|subject| reader.subscribe(subject).unwrap());
    for (mine, other) in [(0, 1), (1, 0)] {
        let subjects = ["a.x", "b.x"];
        let mut refused = Vec::new();
        let of = |read: Read<'_>| {
            match read {
                Read::Event(Event::SubscriptionRefused { subject }) => refused.push(("subscribe", subject)),
                Read::Event(Event::PublishRefused { subject }) => refused.push(("publish", subject)),
                read => panic!("{read:?}"),
            }
            (refused.len() == 2).then(|| std::mem::take(&mut refused))
        };
        reader.publish(subjects[other], None, b"").unwrap();
        let wanted = ["subscribe", "publish"].map(|what| (what, subjects[other].to_owned()));
        assert_eq!(until(&mut reader, "two refusals", of).await, wanted);
        reader.publish(subjects[mine], None, b"mine").unwrap();
        assert_eq!(payload(&mut reader, sids[mine]).await, b"mine");
        if mine == 0 {
            std::fs::write(&file, keys[1].seed().unwrap()).unwrap();
            server.kill().await;
            server.start_again().await.unwrap();
            reconnected(&mut reader).await;
        }
    }
    let stranger = KeyPair::new_user().seed().unwrap();
    let login = log_in(&server.url(), Auth::Nkey(given(&stranger)), None, false).await;
    self::refused(login, "refuses this login", &stranger);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creds_file_lets_in() {
    let (operator, system, account) =
        (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account());
    let own = jwt(&operator, &operator.public_key(), json!({"type": "operator", "version": 2}));
    let server = NatsServer::builder().config(&format!(
        "operator: {own}\nsystem_account: {system}\nresolver: MEMORY\n\
         resolver_preload: {{ {system}: {}, {account}: {} }}",
        account_jwt(&operator, &system, 0, json!({})),
        account_jwt(&operator, &account, -1, json!({})),
        system = system.public_key(),
        account = account.public_key(),
    ));
    let server = server.start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("creds");
    for (issuer, lets_in) in [(&account, true), (&KeyPair::new_account(), false)] {
        let key = KeyPair::new_user();
        let limits = json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1});
        std::fs::write(&file, creds(&jwt(issuer, &key.public_key(), limits), &key)).unwrap();
        let reader = log_in(&server.url(), Auth::Credentials(file.clone()), None, false).await;
        if lets_in {
            works(reader).await;
        } else {
            refused(reader, "refuses this login", &key.seed().unwrap());
        }
    }
    std::fs::remove_file(&file).unwrap();
    refused(
        log_in(&server.url(), Auth::Credentials(file), None, false).await,
        "creds can't be read",
        "-----",
    );
}

/// A server with TLS and a certificate for this name.
async fn encrypted(ca: &Ca, name: &str, more: &str) -> NatsServer {
    let (cert, key) = ca.certify(&[name], ca.folder());
    let tls = format!("tls {{ cert_file: {cert:?}, key_file: {key:?}, {more} }}");
    NatsServer::builder().config(&tls).start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_verified_whoever_asks_for_it() {
    let (ca, other) = (Ca::new("ours"), Ca::new("another"));
    let server = encrypted(&ca, "127.0.0.1", "").await;
    let at = |scheme: &str, host: &str| format!("{scheme}://{host}:{}", server.port());
    works(log_in(&at("nats", "127.0.0.1"), Auth::None, Some(&ca), false).await).await;
    works(log_in(&at("tls", "127.0.0.1"), Auth::None, Some(&ca), false).await).await;
    let fails = "TLS to the NATS server";
    refused(log_in(&at("nats", "127.0.0.1"), Auth::None, Some(&other), false).await, fails, "BEGIN");
    refused(log_in(&at("nats", "127.0.0.1"), Auth::None, None, false).await, fails, "BEGIN");
    refused(log_in(&at("tls", "localhost"), Auth::None, Some(&ca), false).await, fails, "BEGIN");
    let by_name = encrypted(&ca, "localhost", "").await;
    works(log_in(&format!("tls://localhost:{}", by_name.port()), Auth::None, Some(&ca), false).await).await;

    // Half a second later the server greets in plain, as the look whether it is there needs.
    let first = encrypted(&ca, "127.0.0.1", "handshake_first: 500ms").await;
    works(log_in(&first.url(), Auth::None, Some(&ca), true).await).await;

    let plain = NatsServer::start().await.unwrap();
    let url = plain.url().replace("nats://", "tls://u:s3cret@");
    refused(log_in(&url, Auth::None, Some(&ca), false).await, "offers no TLS", "s3cret");
    let error = log_in(&url, Auth::None, Some(&ca), true).await.unwrap_err().to_string();
    assert!(error.contains(fails) && !error.contains("s3cret"), "{error}");
    let missing = NatsOptions {
        ca_file: Some(Path::new("/nowhere/ca.pem").to_owned()),
        ..NatsOptions::new(server.url())
    };
    refused(Reader::connect(ReaderOptions::new(missing, "reader")).await, "ca_file /nowhere/ca.pem", "BEGIN");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_message_comes_by_tls_and_a_larger_one_is_not_sent() {
    let ca = Ca::new("ours");
    let server = encrypted(&ca, "127.0.0.1", "").await;
    let mut reader = works(log_in(&server.url(), Auth::None, Some(&ca), false).await).await;
    let sid = reader.subscribe("large").unwrap();
    let large: Vec<u8> = (0..1_u32 << 18).flat_map(u32::to_be_bytes).collect();
    reader.publish("large", None, &large).unwrap();
    assert!(payload(&mut reader, sid).await == large);
    let error = reader.publish("large", None, &[&large[..], &[0]].concat()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert_eq!(error.to_string(), "the NATS server takes messages of 1048576 bytes at most, not of 1048577");
    flush(&mut reader).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_echo_only_what_others_publish_comes() {
    let server = NatsServer::start().await.unwrap();
    let mut options = ReaderOptions::new(NatsOptions::new(server.url()), "reader");
    options.echo = false;
    let mut reader = Reader::connect(options).await.unwrap();
    let sid = reader.subscribe("a").unwrap();
    reader.publish("a", None, b"own").unwrap();
    flush(&mut reader).await;
    let mut other = open(&server, true).await;
    other.publish("a", None, b"another's").unwrap();
    flush(&mut other).await;
    assert_eq!(payload(&mut reader, sid).await, b"another's");
}
