//! Does what the plan says.

use std::time::Duration;

use fleet_core::nats::{Names, NatsOptions};
use fleet_worker::local::{LocalError, NatsServer, Postgres};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::clock;
use crate::hostile::{Attack, attack};
use crate::journal::Journal;
use crate::plan::{Blow, Fault, Planned, Track};
use crate::pods::clock_file;
use crate::stage::Stage;

/// All tracks at once, each on targets of its own.
pub(crate) async fn strike(stage: &mut Stage, plan: Vec<Planned>, seed: u64, journal: &Journal) {
    let of = |track: Track| plan.iter().copied().filter(|p| p.fault.track() == track).collect::<Vec<_>>();
    let urls: Vec<String> = stage.servers.iter().map(NatsServer::url).collect();
    let (servers, postgres, pods, links) =
        (&mut stage.servers, &mut stage.postgres, &stage.pods, &stage.links);
    let folder = stage.folder.path();
    let programs = journal.follow(of(Track::Programs), async |fault, on| match fault {
        Fault::Program(pod, blow) => pods.set(pod, blow, on).await,
        _ => Ok(()),
    });
    let nats = journal.follow(of(Track::Nats), async |fault, on| match fault {
        Fault::Nats(n, blow) => strike_nats(&mut servers[n], blow, on).await,
        _ => Ok(()),
    });
    let postgres = journal.follow(of(Track::Postgres), async |fault, on| match fault {
        Fault::Postgres(blow) => strike_postgres(postgres, blow, on).await,
        _ => Ok(()),
    });
    let set_link = async |fault, on: bool| {
        if let Fault::Link(link, harm) = fault {
            links.set(link, on.then_some(harm));
        }
        Ok(())
    };
    let nats_links = journal.follow(of(Track::NatsLinks), set_link);
    let postgres_links = journal.follow(of(Track::PostgresLinks), set_link);
    let clocks = journal.follow(of(Track::Clocks), async |fault, on| match fault {
        Fault::Clock(pod, by) => clock::step(&clock_file(folder, pod), if on { by } else { 0 }),
        _ => Ok(()),
    });
    let mut attackers = Attackers { urls, names: Names::new(&stage.config.cells[0]), seed, running: None };
    let attacks = journal.follow(of(Track::Attacks), async |fault, on| match fault {
        Fault::Attack(kind) if on => {
            attackers.begin(kind);
            Ok(())
        }
        _ => attackers.end().await,
    });
    tokio::join!(programs, nats, postgres, nats_links, postgres_links, clocks, attacks);
}

/// Who attacks now.
struct Attackers {
    urls: Vec<String>,
    names: Names,
    seed: u64,
    running: Option<(oneshot::Sender<()>, JoinHandle<u64>)>,
}

impl Attackers {
    fn begin(&mut self, kind: Attack) {
        // Each has vehicles of its own.
        self.seed = self.seed.wrapping_add(1);
        let (nats, names, seed) = (NatsOptions::new(self.urls.join(",")), self.names.clone(), self.seed);
        let (over, ended) = oneshot::channel();
        let task = tokio::spawn(async move {
            attack(kind, kind.pace(), nats, &names, seed, async { drop(ended.await) }).await
        });
        self.running = Some((over, task));
    }

    async fn end(&mut self) -> Result<(), String> {
        let Some((over, task)) = self.running.take() else { return Ok(()) };
        let _ = over.send(());
        let ended = timeout(Duration::from_secs(30), task).await.map_err(|_| "it does not end")?;
        ended.map(drop).map_err(|e| e.to_string())
    }
}

/// Does something to a NATS server, or lets it be well again.
async fn strike_nats(server: &mut NatsServer, blow: Blow, on: bool) -> Result<(), String> {
    let text = |e: LocalError| e.to_string();
    match (blow, on) {
        (Blow::Stop, true) => server.process().pause().map_err(text),
        (Blow::Stop, false) => server.process().resume().map_err(text),
        (Blow::Kill, true) => {
            server.kill().await;
            Ok(())
        }
        (Blow::Terminate, true) => {
            let ended = server.stop().await.map_err(text);
            // It is to be down, even if it does not end as it should.
            server.kill().await;
            ended
        }
        (_, false) => {
            let mut last = String::new();
            for _ in 0..3 {
                match server.start_again().await {
                    Ok(()) => return Ok(()),
                    Err(error) => last = error.to_string(),
                }
            }
            Err(last)
        }
    }
}

/// Does something to PostgreSQL, or lets it be well again.
async fn strike_postgres(server: &mut Postgres, blow: Blow, on: bool) -> Result<(), String> {
    let done = match (blow, on) {
        (Blow::Stop, on) => {
            let process = server.process().ok_or("PostgreSQL does not run")?;
            if on { process.pause_all() } else { process.resume_all() }
        }
        (Blow::Terminate, true) => server.stop().await,
        (_, true) => server.crash().await,
        (_, false) => server.start_again().await,
    };
    done.map_err(|e| e.to_string())
}
