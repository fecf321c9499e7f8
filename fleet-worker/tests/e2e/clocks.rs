//! Wall clocks that are set while programs run.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fleet_worker::deployment::Deployment;
use fleet_worker::local::{NatsServer, debian_package};
use tempfile::TempDir;
use tokio::process::Command;

use crate::world::{QUICK, assert_exact, endless_fleet, eventually, finish, until_bound};

/// The library that fakes the wall clock of a process.
async fn library() -> PathBuf {
    let place = |system: &str| format!("/usr/lib/{system}-linux-gnu/faketime/libfaketimeMT.so.1");
    let places = ["x86_64", "aarch64"].map(place);
    debian_package("faketime", &places.each_ref().map(String::as_str)).await.unwrap()
}

/// The wall clock of every program that is started by it.
struct WallClock {
    folder: TempDir,
}

impl WallClock {
    async fn new() -> Self {
        let (folder, library) = (tempfile::tempdir().unwrap(), library().await);
        let clock = Self { folder };
        clock.set("+0");
        let script = format!(
            "#!/bin/sh\nexport LD_PRELOAD={library:?} FAKETIME_TIMESTAMP_FILE={:?}\n\
             export FAKETIME_NO_CACHE=1 DONT_FAKE_MONOTONIC=1\nexec {:?} \"$@\"\n",
            clock.file(),
            env!("CARGO_BIN_EXE_fleet-worker"),
        );
        std::fs::write(clock.program(), script).unwrap();
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(clock.program(), executable).unwrap();
        clock
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("offset")
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("fleet-worker")
    }

    /// In one step, so that nobody reads half of it.
    fn set(&self, offset: &str) {
        let next = self.folder.path().join("next");
        std::fs::write(&next, offset).unwrap();
        std::fs::rename(next, self.file()).unwrap();
    }

    /// What a process says that the time is, seconds since 1970.
    async fn now(&self) -> i64 {
        let script = std::fs::read_to_string(self.program()).unwrap();
        let script = script.lines().filter(|line| line.starts_with("export")).collect::<Vec<_>>().join("\n");
        let output = Command::new("sh").args(["-c", &format!("{script}\ndate +%s")]).output().await.unwrap();
        String::from_utf8_lossy(&output.stdout).trim().parse().unwrap()
    }
}

async fn start(program: &Path) -> Deployment {
    let nats = NatsServer::start().await.unwrap();
    Deployment::start_on(nats, program, QUICK, 1).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_set_an_hour_back_or_ahead_changes_nothing() {
    let clock = WallClock::new().await;
    let deployment = start(&clock.program()).await;
    let (fleet, on) = endless_fleet(&deployment, 20).await;
    until_bound(&deployment, 20, Duration::from_secs(30)).await;
    let worker = &deployment.workers[0];
    // By then no fence is under way any more that would tell the time.
    eventually("all are live", Duration::from_secs(60), async || deployment.durable_rows().await > 200).await;
    for (offset, hours) in [("-1h", -1), ("+1h", 1), ("+0", 0)] {
        clock.set(offset);
        let wall = clock.now().await - fleet_worker::clock::now() / 1_000_000;
        assert!((wall - hours * 3_600).abs() < 60, "the wall clock is {wall} s ahead, not {hours} h");
        let samples = async || worker.metric("fleet_samples_total").await.unwrap_or(0);
        let (begun, rows) = (samples().await, deployment.durable_rows().await);
        eventually("samples and rows come on", Duration::from_secs(60), async || {
            samples().await > begun + 200 && deployment.durable_rows().await > rows + 100
        })
        .await;
        for nothing in ["fleet_refused_total", "fleet_released_total", "fleet_bindings_lost_total"] {
            assert_eq!(worker.metric(nothing).await.unwrap_or(0), 0, "{nothing} at {offset}");
        }
    }
    // Those that join now are judged by the same clock.
    clock.set("-1h");
    let late = crate::world::Hand::new(&deployment, "LATE").await;
    late.send("on", "").await;
    until_bound(&deployment, 21, Duration::from_secs(30)).await;
    late.send("off", "").await;
    drop(on);
    let (_, verdict) = finish(&deployment, fleet).await;
    assert_exact(&deployment, &verdict);
}
