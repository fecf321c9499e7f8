//! SIGTERM and SIGINT end a program at any time, and cleanly.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use fleet_worker::deployment::Deployment;
use fleet_worker::local::Process;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use crate::world::{deployment, eventually};

/// A server that takes connections and says nothing.
struct Silent(TcpListener);

impl Silent {
    async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }
}

/// A program with its log.
struct Started {
    process: Process,
    folder: TempDir,
}

impl Started {
    fn new(arguments: &[&str], nats: &str, database: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_fleet-worker")));
        command.args(arguments).args(["--nats-url", nats, "--database-url", database]);
        command.env("FLEET_ADMIN__LISTEN", "127.0.0.1:0").env("FLEET_NATS__MAX_BYTES", "64MiB");
        Self::by(command, folder)
    }

    fn by(command: Command, folder: TempDir) -> Self {
        let process = Process::start("fleet-worker", command, &folder.path().join("log")).unwrap();
        Self { process, folder }
    }

    fn of(deployment: &Deployment, arguments: &[&str]) -> Self {
        Self::new(arguments, &deployment.nats.url(), &deployment.postgres.url())
    }

    /// Waits until it handles SIGTERM, which the system's own start of a program precedes.
    async fn until_handling(&self) {
        let handles = async || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id().unwrap()));
            let caught = status.unwrap().lines().find_map(|l| l.strip_prefix("SigCgt:").map(str::to_owned));
            let caught = u64::from_str_radix(caught.unwrap().trim(), 16).unwrap();
            caught >> (Signal::TERM.as_raw() - 1) & 1 == 1
        };
        eventually("SIGTERM is handled", Duration::from_secs(60), handles).await;
    }

    async fn ends(mut self, code: i32, said: &str) {
        let ended = self.process.wait(Duration::from_secs(60)).await.unwrap();
        let logs = self.process.logs();
        assert_eq!(ended.0.code(), Some(code), "{:?}: {logs}", ended.0);
        assert!(logs.contains(said), "{said:?} in {logs}");
    }
}

const INTERRUPTED: &str = "fleet-worker: interrupted: ";

/// What runs until it is stopped has ended as asked; a job is not done.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_waits_for_a_server_to_start_with_can_be_stopped() {
    let real = deployment(0).await;
    let folder = tempfile::tempdir().unwrap();
    let login = folder.path().join("login");
    std::fs::write(&login, nkeys::KeyPair::new_user().seed().unwrap()).unwrap();
    let login = login.to_str().unwrap();
    let mut signals = 0;
    for (arguments, code, said) in [
        (&["run"][..], 0, ""),
        (&["setup"], 69, INTERRUPTED),
        (&["setup", "--dry-run"], 69, INTERRUPTED),
        (&["erase", "--vehicle", "CAR-1"], 69, INTERRUPTED),
        (&["replay", "--from", "1h"], 69, INTERRUPTED),
        (&["discover"], 0, ""),
        (&["simulate"], 0, ""),
        (&["check", "--vehicle", "CAR-1", "--login", login], 69, INTERRUPTED),
    ] {
        let needs_no_database = ["simulate", "check"].contains(&arguments[0]);
        for silent in ["nats", "postgres"].into_iter().take(if needs_no_database { 1 } else { 2 }) {
            let server = Silent::start().await;
            let started = if silent == "nats" {
                Started::new(arguments, &format!("nats://{}", server.address()), &real.postgres.url())
            } else {
                let url = format!("postgres://fleet@{}/fleet?sslmode=disable", server.address());
                Started::new(arguments, &real.nats.url(), &url)
            };
            let Ok(_connection) = timeout(Duration::from_secs(60), server.0.accept()).await else {
                panic!("{arguments:?} does not ask {silent}: {}", started.process.logs())
            };
            signals += 1;
            let process = &started.process;
            if signals % 2 == 0 {
                process.terminate().unwrap()
            } else {
                process.interrupt().unwrap()
            }
            started.ends(code, said).await;
        }
    }
}

/// The configuration may be slow to read, and as a container's first process a program without a handler does
/// not even notice the signal.
#[tokio::test(flavor = "multi_thread")]
async fn signals_are_handled_before_anything_else() {
    for (subcommand, code) in [("run", 0), ("discover", 0), ("simulate", 0), ("setup", 69)] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("fleet.toml");
        let made = Command::new("mkfifo").arg(&file).status().await.unwrap();
        assert!(made.success());
        let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_fleet-worker")));
        command.args([subcommand, "--config"]).arg(&file);
        let started = Started::by(command, folder);
        started.until_handling().await;
        started.process.terminate().unwrap();
        let text = "[nats]\nurl = \"nats://127.0.0.1:9\"\n[sink.timescale]\nurl = \"postgres://fleet@127.0.0.1:9/fleet\"\n";
        std::fs::write(started.folder.path().join("fleet.toml"), text).unwrap();
        started.ends(code, "").await;
    }
}

/// Every 40 ms of the first second.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_stopped_at_any_moment_of_its_start_ends_as_asked() {
    let deployment = deployment(0).await;
    for moment in 0..25 {
        let moment = Duration::from_millis(40 * moment);
        let stopped = ["run", "discover", "simulate"].map(|subcommand| {
            let started = Started::of(&deployment, &[subcommand]);
            async move {
                started.until_handling().await;
                sleep(moment).await;
                started.process.terminate().unwrap();
                started.ends(0, "").await;
            }
        });
        futures_util::future::join_all(stopped).await;
    }
}

/// At once, after a while, and when it has said a line: then its servers run and nothing is stored yet.
#[tokio::test(flavor = "multi_thread")]
async fn the_demo_can_be_stopped_while_it_starts() {
    let moments = [("", 0), ("", 700), ("", 3_000), ("workers are up", 0), ("watch it: ", 0)];
    for (said, after) in moments {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_fleet-worker")));
        command.args(["demo", "--vehicles", "10"]);
        let started = Started::by(command, folder);
        started.until_handling().await;
        eventually(said, Duration::from_secs(60), async || started.process.logs().contains(said)).await;
        sleep(Duration::from_millis(after)).await;
        started.process.terminate().unwrap();
        started.ends(0, "").await;
    }
}
