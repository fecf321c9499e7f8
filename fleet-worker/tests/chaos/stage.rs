//! Servers, programs and the links between them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fleet_core::nats::{Discovery, Names, NatsOptions};
use fleet_worker::cli::SetupArgs;
use fleet_worker::commands::setup::setup;
use fleet_worker::config::Config;
use fleet_worker::local::{NatsServer, Postgres};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::plan::{Harm, Link, Pod, Scene};
use crate::pods::{Pods, Start};
use crate::proxy::Proxy;

/// A grid of a second, and a window that no outage of the plan is longer than.
const CONFIG: &str = r#"
interval = "1s"
window = "120s"
patience = "2s"

[worker]
ack_wait = "6s"
save_interval = "1s"
round_interval = "500ms"
idle_timeout = "90s"
first_sample_timeout = "20s"
shutdown_deadline = "10s"
"#;

/// All of it; ends with the value.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) servers: Vec<NatsServer>,
    pub(crate) postgres: Postgres,
    pub(crate) pods: Pods,
    pub(crate) links: Links,
    pub(crate) config: Config,
    /// Asks how it stands, over no link that is harmed.
    pub(crate) asked: Discovery,
    pub(crate) folder: TempDir,
}

/// Every link, by whose it is; to NATS one for each server.
#[derive(Debug)]
pub(crate) struct Links(BTreeMap<String, Vec<Proxy>>);

impl Links {
    async fn lead(workers: usize, nats: &[u16], postgres: u16) -> std::io::Result<Self> {
        let mut links = BTreeMap::new();
        let pods = (0..workers).map(Pod::Worker).chain([Pod::Discovery]);
        for link in pods.map(Link::Nats).chain([Link::Vehicles]) {
            let mut proxies = Vec::new();
            for port in nats {
                proxies.push(Proxy::to(*port).await?);
            }
            links.insert(format!("{link:?}"), proxies);
        }
        for n in 0..workers {
            links.insert(format!("{:?}", Link::Postgres(n)), vec![Proxy::to(postgres).await?]);
        }
        Ok(Self(links))
    }

    fn of(&self, link: Link) -> &[Proxy] {
        self.0.get(&format!("{link:?}")).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn set(&self, link: Link, harm: Option<Harm>) {
        self.of(link).iter().for_each(|proxy| proxy.set(harm));
    }

    /// The URL of NATS for whoever has this link.
    pub(crate) fn nats(&self, link: Link) -> String {
        let urls = self.of(link).iter().map(|proxy| format!("nats://127.0.0.1:{}", proxy.port()));
        urls.collect::<Vec<_>>().join(",")
    }
}

impl Stage {
    pub(crate) async fn start(scene: &Scene, faketime: Option<PathBuf>) -> Result<Self, String> {
        let text = |e: &dyn std::fmt::Display| e.to_string();
        let builder = NatsServer::builder().jetstream("sync_interval: always");
        let servers = match scene.servers {
            1 => builder.start().await.map(|server| vec![server]),
            _ => builder.start_cluster().await,
        };
        let servers = servers.map_err(|e| text(&e))?;
        let postgres = Postgres::builder().setting("max_connections", "100").start().await;
        let postgres = postgres.map_err(|e| text(&e))?;
        let folder = tempfile::Builder::new().prefix("fleet-chaos-").tempdir().map_err(|e| text(&e))?;
        let file = folder.path().join("fleet.toml");
        let urls = servers.iter().map(NatsServer::url).collect::<Vec<_>>().join(",");
        let database = postgres.url();
        let toml = format!(
            "{CONFIG}\n[nats]\nurl = {urls:?}\nreplicas = {}\nmax_bytes = \"4GiB\"\n\n[sink.timescale]\nurl = {database:?}\n",
            scene.servers
        );
        std::fs::write(&file, toml).map_err(|e| text(&e))?;
        let config = Config::load(Some(&file), std::iter::empty(), &[])
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
        set_up(&config).await?;

        let ports: Vec<u16> = servers.iter().map(NatsServer::port).collect();
        let links = Links::lead(scene.workers, &ports, postgres.port()).await.map_err(|e| text(&e))?;
        let start = |pod: Pod| Start {
            program: Path::new(env!("CARGO_BIN_EXE_fleet-worker")).to_owned(),
            config: file.clone(),
            folder: folder.path().to_owned(),
            nats: links.nats(Link::Nats(pod)),
            postgres: match pod {
                Pod::Worker(n) => {
                    let port = links.of(Link::Postgres(n)).first().map_or(0, Proxy::port);
                    database.replace(&format!(":{}/", postgres.port()), &format!(":{port}/"))
                }
                Pod::Discovery => database.clone(),
            },
            faketime: faketime.clone(),
        };
        let pods = (0..scene.workers).map(Pod::Worker).chain([Pod::Discovery]);
        let pods = Pods::launch(pods.map(|pod| (pod, start(pod))).collect())?;
        let names = Names::new(&config.cells[0]);
        let asked = Discovery::connect(&config.nats.options(), &names, config.nats.max_age).await;
        Ok(Self { servers, postgres, pods, links, config, asked: asked.map_err(|e| text(&e))?, folder })
    }

    /// NATS as the good vehicles reach it.
    pub(crate) fn vehicles(&self) -> NatsOptions {
        NatsOptions::new(self.links.nats(Link::Vehicles))
    }

    /// Waits until no vehicle is bound or waiting and no `on` is unread.
    pub(crate) async fn until_released(&self, within: Duration) -> Result<(), String> {
        let deadline = Instant::now() + within;
        loop {
            // Asked first: what is read meanwhile is in the queue.
            let unread = self.asked.unread().await.ok();
            let bindings = self.asked.bindings().await.ok();
            if unread == Some(0) && bindings.is_some_and(|b| b.active == 0) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!(
                    "{within:?} after the last fault vehicles are still held: {bindings:?}, {unread:?} `on` unread\n{}",
                    self.pods.tails().await
                ));
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// Leaves the logs behind; where.
    pub(crate) fn keep_logs(self) -> PathBuf {
        for (n, server) in self.servers.iter().enumerate() {
            let _ = std::fs::write(self.folder.path().join(format!("nats-{n}.log")), server.process().logs());
        }
        let _ = std::fs::write(self.folder.path().join("postgres.log"), self.postgres.logs());
        self.folder.keep()
    }
}

/// A cluster elects its leader first.
async fn set_up(config: &Config) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        match setup(config, &SetupArgs::default()).await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() >= deadline => return Err(error.to_string()),
            Err(_) => sleep(Duration::from_millis(500)).await,
        }
    }
}
