//! A server with the files of `examples/nats`, of which only paths and ports are changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions, Event};
use fleet_core::nats::{StreamOptions, set_up};
use fleet_core::{CellId, Schema};
use fleet_examples::nats_users;
use fleet_worker::config::Config;
use fleet_worker::local::{NatsServer, free_port};
use futures_util::StreamExt;
use nkeys::KeyPair;
use tempfile::TempDir;

use crate::ca::Ca;
use crate::world::eventually;

pub(super) fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/nats")
}

/// The configuration's files, and the programs' seeds.
pub(super) struct Files(TempDir);

impl Files {
    pub(super) fn write(ca: &Ca, vehicles: &BTreeMap<String, KeyPair>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        ca.certify(&["127.0.0.1"], folder.path());
        std::fs::copy(ca.file(), folder.path().join("ca.crt")).unwrap();
        std::fs::copy(shipped().join("accounts.conf"), folder.path().join("accounts.conf")).unwrap();
        nats_users::keys(folder.path(), &[CellId::default()]).unwrap();
        std::fs::create_dir(folder.path().join("vehicles")).unwrap();
        let files = Self(folder);
        files.list(vehicles);
        files
    }

    /// The file to start a server with that has this `server.conf`; more can follow.
    pub(super) fn server(&self, text: &str) -> PathBuf {
        let (tls, http) = (self.0.path().to_str().unwrap(), free_port());
        let name = |file: &str| format!("{file}-{http}.conf");
        std::fs::write(self.0.path().join(name("server")), text.replace("/etc/nats/tls", tls)).unwrap();
        let nats = std::fs::read_to_string(shipped().join("nats.conf")).unwrap();
        let nats = nats.replace("/etc/nats/tls", tls).replace("server.conf", &name("server"));
        let nats = nats.replace("http: 8222", &format!("http: \"127.0.0.1:{http}\""));
        let path = self.0.path().join(name("nats"));
        std::fs::write(&path, nats).unwrap();
        path
    }

    pub(super) fn seed_file(&self, login: &str) -> PathBuf {
        self.0.path().join("seeds").join(login)
    }

    pub(super) fn seed(&self, login: &str) -> String {
        std::fs::read_to_string(self.seed_file(login)).unwrap()
    }

    fn list(&self, vehicles: &BTreeMap<String, KeyPair>) {
        let line = |(id, key): (&String, &KeyPair)| format!("0,{id},{}\n", key.public_key());
        let lines: String = vehicles.iter().map(line).collect();
        let users = nats_users::vehicles(&Schema::default(), &lines).unwrap();
        std::fs::write(self.0.path().join("vehicles/vehicles.conf"), users).unwrap();
    }
}

/// The server, and everybody's seeds.
pub(super) struct Guarded {
    pub server: NatsServer,
    pub ca: Ca,
    files: Files,
    vehicles: BTreeMap<String, KeyPair>,
}

impl Guarded {
    /// With these vehicles in cell 0.
    pub(super) async fn start(vehicles: &[&str]) -> Self {
        let ca = Ca::new("fleet's");
        let vehicles = vehicles.iter().map(|&id| (id.to_owned(), KeyPair::new_user())).collect();
        let files = Files::write(&ca, &vehicles);
        let (store, name) = (files.0.path().join("store"), format!("guarded-{}", free_port()));
        let text = std::fs::read_to_string(shipped().join("server.conf")).unwrap();
        // Without a limit the server takes what the disk has left, and refuses the streams on a fairly full one.
        let text = text.replace("/data", &format!("{}\n  max_file_store: 1TB", store.display()));
        let text = text.replace("server_name: nats\n", &format!("server_name: {name}\n"));
        let server = NatsServer::builder().file(&files.server(&text), &name).start().await.unwrap();
        Self { server, ca, files, vehicles }
    }

    /// With the streams, which the operator makes.
    pub(super) async fn with_streams(vehicles: &[&str]) -> (Self, Context) {
        let guarded = Self::start(vehicles).await;
        let js = guarded.operator().await;
        streams(&js).await;
        (guarded, js)
    }

    pub(super) fn url(&self) -> String {
        format!("tls://127.0.0.1:{}", self.server.port())
    }

    pub(super) fn folder(&self) -> &Path {
        self.files.0.path()
    }

    /// The file with the seed of a program, `WORKER_0_A`.
    pub(super) fn seed_file(&self, login: &str) -> PathBuf {
        self.files.seed_file(login)
    }

    pub(super) fn seed(&self, login: &str) -> String {
        self.files.seed(login)
    }

    pub(super) fn vehicle_seed(&self, id: &str) -> String {
        self.vehicles[id].seed().unwrap()
    }

    /// Who may do everything in the fleet's account.
    pub(super) async fn operator(&self) -> Context {
        jetstream::new(self.log_in(&self.seed("OPERATOR_A"), "operator").await.unwrap().0)
    }

    /// Logs in by a program's seed as that connection.
    pub(super) async fn program(&self, login: &str, connection: &str) -> (Client, Refusals) {
        self.log_in(&self.seed(login), connection).await.unwrap()
    }

    pub(super) async fn vehicle(&self, id: &str) -> (Client, Refusals) {
        self.log_in(&self.vehicle_seed(id), id).await.unwrap()
    }

    /// `name` is also what its inboxes are named by.
    pub(super) async fn log_in(
        &self,
        seed: &str,
        name: &str,
    ) -> Result<(Client, Refusals), async_nats::ConnectError> {
        self.log_in_at(&self.url(), seed, name).await
    }

    pub(super) async fn log_in_at(
        &self,
        url: &str,
        seed: &str,
        name: &str,
    ) -> Result<(Client, Refusals), async_nats::ConnectError> {
        log_in(&self.ca, url, seed, name).await
    }

    /// The configuration of a program of ours, which logs in by `FLEET_NATS__NKEY_FILE`.
    pub(super) fn config(&self, more: &str) -> PathBuf {
        let (url, ca, path) = (self.url(), self.ca.file(), self.folder().join("fleet.toml"));
        let text = format!("{more}\n[nats]\nurl = {url:?}\nca_file = {ca:?}\n");
        std::fs::write(&path, &text).unwrap();
        assert!(Config::load(Some(&path), std::iter::empty(), &[]).is_ok(), "{text}");
        path
    }

    /// Gives a vehicle another key; the server knows after [`reload`](Self::reload).
    pub(super) fn renew(&mut self, id: &str) {
        self.vehicles.insert(id.to_owned(), KeyPair::new_user());
        self.files.list(&self.vehicles);
    }

    /// Has the server read its files again, as `nats-server --signal reload` does.
    pub(super) async fn reload(&self) {
        let reloaded = || self.server.process().logs().matches("Reloaded server configuration").count();
        let before = reloaded();
        self.server.process().hang_up().unwrap();
        eventually("the server has reloaded", Duration::from_secs(10), async || reloaded() > before).await;
    }
}

/// Logs in by TLS; `name` is also what the inboxes are named by.
pub(super) async fn log_in(
    ca: &Ca,
    url: &str,
    seed: &str,
    name: &str,
) -> Result<(Client, Refusals), async_nats::ConnectError> {
    let options = ConnectOptions::with_nkey(seed.to_owned()).name(name);
    let options = options.add_root_certificates(ca.file()).require_tls(true);
    connect(options.custom_inbox_prefix(format!("_INBOX.{name}")), url).await
}

/// Everybody's streams of cell 0.
pub(super) async fn streams(js: &Context) {
    let names = fleet_core::nats::Names::new(&CellId::default());
    set_up(js, &names, &Schema::default(), &StreamOptions::default()).await.unwrap();
}

/// What the server would not do.
#[derive(Clone, Default)]
pub(super) struct Refusals(Arc<Mutex<Vec<String>>>);

impl Refusals {
    pub(super) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// Waits until this subject's was told.
    pub(super) async fn of(&self, word: &str, subject: &str) {
        let wanted = format!("Permissions Violation for {word} to \"{subject}\"");
        let told = async || self.all().iter().any(|said| said.contains(&wanted));
        eventually(&format!("{wanted}, but {:?}", self.all()), Duration::from_secs(5), told).await;
    }
}

/// Connects and listens to what is refused.
pub(super) async fn connect(
    options: ConnectOptions,
    url: &str,
) -> Result<(Client, Refusals), async_nats::ConnectError> {
    let refusals = Refusals::default();
    let told = refusals.clone();
    let options = options.event_callback(move |event| {
        if let Event::ServerError(error) = event {
            told.0.lock().unwrap().push(error.to_string());
        }
        async {}
    });
    Ok((options.connect(url).await?, refusals))
}

/// The subjects of all messages of a stream with their payloads.
pub(super) async fn stored(js: &Context, stream: &str) -> Vec<(String, String)> {
    let stream = js.get_stream(stream).await.unwrap();
    let mut subjects = stream.info_with_subjects(">").await.unwrap();
    let mut found = Vec::new();
    while let Some(subject) = subjects.next().await {
        let (subject, _) = subject.unwrap();
        let message = stream.get_last_raw_message_by_subject(&subject).await.unwrap();
        found.push((subject, String::from_utf8_lossy(&message.payload).into_owned()));
    }
    found.sort();
    found
}
