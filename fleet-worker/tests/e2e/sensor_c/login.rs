//! The C client logging in with an nkey, and with a JWT of an operator's account.

use std::path::PathBuf;

use async_nats::jetstream;
use data_encoding::BASE64URL_NOPAD;
use fleet_worker::local::NatsServer;
use nkeys::KeyPair;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{create_stream, log_in, misused, programs, publishes, refused, stored, try_one};

/// A file with that text beside the programs.
fn file(programs: &TempDir, text: &str) -> PathBuf {
    let path = programs.path().join("login");
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn an_nkey_lets_in_its_own_seed_only() {
    let programs = programs(&["sensor-tls"]).await;
    let (right, wrong) = (KeyPair::new_user(), KeyPair::new_user());
    let server = NatsServer::builder().config(&format!(
        "authorization {{ timeout: 60, users: [ {{ nkey: {} }}, {{ user: car, password: s3cret }} ] }}",
        right.public_key()
    ));
    let server = server.start().await.unwrap();
    let js = log_in(&server).await;
    create_stream(&js).await;

    let seed = wrong.seed().unwrap();
    let login = file(&programs, &seed);
    let options = ["--creds", login.to_str().unwrap()];
    let sensor = try_one(&programs, "sensor-tls", &options, &server.url());
    let said = refused(sensor, "the server says 'Authorization Violation'").await;
    assert!(!said.contains(&seed[2..]), "the seed is in what is said: {said}");
    assert!(stored(&js).await.is_empty());

    file(&programs, &format!("{}\n", right.seed().unwrap()));
    publishes(&programs, "sensor-tls", &options, &server.url(), &js).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_with_quotes_and_backslashes_lets_in() {
    let programs = programs(&["sensor"]).await;
    let config = r#"authorization { timeout: 60, users: [
        { user: car, password: s3cret }, { user: "o\"d\\d", password: "a\"\\\"b\\" } ] }"#;
    let server = NatsServer::builder().config(config).start().await.unwrap();
    let js = log_in(&server).await;
    create_stream(&js).await;
    let url = format!(r#"nats://o"d\d:a"\"b\@127.0.0.1:{}"#, server.port());
    publishes(&programs, "sensor", &[], &url, &js).await;
}

#[tokio::test]
async fn what_is_no_seed_of_a_user_is_told_so_without_showing_it() {
    let programs = programs(&["sensor-tls"]).await;
    let seed = KeyPair::new_user().seed().unwrap();
    // A wrong letter is found by the checksum.
    let other = if seed.ends_with('A') { 'B' } else { 'A' };
    let misspelt = format!("{}{other}{}", &seed[..30], &seed[31..]);
    let misspelt = if misspelt == seed { seed.to_lowercase() } else { misspelt };
    let account = KeyPair::new_account().seed().unwrap();
    for text in [misspelt.as_str(), &account, &seed[..40], "", "-----BEGIN NATS USER JWT-----\n"] {
        let login = file(&programs, text);
        let options = ["--creds", login.to_str().unwrap()];
        let said = misused(try_one(&programs, "sensor-tls", &options, "nats://127.0.0.1:1")).await;
        assert!(said.contains("no user's nkey seed") || said.contains("should be its JWT"), "{said}");
        assert!(text.len() < 8 || !said.contains(&text[2..]), "{said}");
    }
}

/// A JWT as NATS wants it: what `issuer` says of `subject`.
pub(crate) fn jwt(issuer: &KeyPair, subject: &str, nats: Value) -> String {
    jwt_of(issuer, subject, "test", nats)
}

/// The same with the subject's name.
pub(crate) fn jwt_of(issuer: &KeyPair, subject: &str, name: &str, nats: Value) -> String {
    let encode = |value: Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let head = encode(json!({"typ": "JWT", "alg": "ed25519-nkey"}));
    let claims = json!({"jti": subject, "iat": 1_735_689_600, "iss": issuer.public_key(), "name": name,
                        "sub": subject, "nats": nats});
    let text = format!("{head}.{}", encode(claims));
    let signature = BASE64URL_NOPAD.encode(&issuer.sign(text.as_bytes()).unwrap());
    format!("{text}.{signature}")
}

pub(crate) fn account_jwt(operator: &KeyPair, account: &KeyPair, store: i64, more: Value) -> String {
    let limits = json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
                        "conn": -1, "leaf": -1, "mem_storage": store, "disk_storage": store, "streams": store,
                        "consumer": store});
    let mut nats = json!({"type": "account", "version": 2, "limits": limits});
    nats.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    jwt(operator, &account.public_key(), nats)
}

/// The text of a .creds file.
pub(crate) fn creds(jwt: &str, user: &KeyPair) -> String {
    let seed = user.seed().unwrap();
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creds_file_lets_in() {
    let programs = programs(&["sensor-tls"]).await;
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
    let user = |issuer: &KeyPair| {
        let key = KeyPair::new_user();
        let limits = json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1});
        creds(&jwt(issuer, &key.public_key(), limits), &key)
    };
    let car = user(&account);
    let options = async_nats::ConnectOptions::with_credentials(&car).unwrap();
    let js = jetstream::new(options.connect(server.url()).await.unwrap());
    create_stream(&js).await;

    // Signed by an account that the operator doesn't know.
    let stranger = user(&KeyPair::new_account());
    let login = file(&programs, &stranger);
    let options = ["--creds", login.to_str().unwrap()];
    let sensor = try_one(&programs, "sensor-tls", &options, &server.url());
    let said = refused(sensor, "the server says 'Authorization Violation'").await;
    assert!(stranger.lines().all(|line| line.len() < 40 || !said.contains(line)), "{said}");
    assert!(stored(&js).await.is_empty());

    file(&programs, &car);
    publishes(&programs, "sensor-tls", &options, &server.url(), &js).await;
}
