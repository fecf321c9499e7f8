//! What is wrong with a deployment is one line in the pod's log, and no ready pod.

use std::path::Path;
use std::time::Duration;

use async_nats::jetstream;
use fleet_core::time::SECOND;
use fleet_worker::clock::now;
use fleet_worker::deployment::Deployment;
use fleet_worker::local::{Process, free_port, http_get};
use tokio::process::Command;

use crate::permissions::Job;
use crate::world::{Hand, deployment, eventually, last_words};

/// A program that was started but need not get ready.
pub(crate) struct Started {
    pub(crate) process: Process,
    pub(crate) admin: String,
    _log: tempfile::TempDir,
}

impl Started {
    pub(crate) fn new(mut command: Command) -> Self {
        let (admin, log) = (format!("127.0.0.1:{}", free_port()), tempfile::tempdir().unwrap());
        command.env("FLEET_ADMIN__LISTEN", &admin);
        let process = Process::start("fleet-worker", command, &log.path().join("log")).unwrap();
        Self { process, admin, _log: log }
    }

    /// Waits for its end with that code. The line that says why has all of these parts.
    pub(crate) async fn refuses(mut self, code: i32, parts: &[&str]) -> String {
        let ended = self.process.wait(Duration::from_secs(60)).await.unwrap();
        let logs = self.process.logs();
        assert_eq!(ended.0.code(), Some(code), "{logs}");
        let says = |line: &str| parts.iter().all(|part| line.contains(part));
        let lines = last_words(&logs);
        assert!(lines.len() == 1 && says(&lines[0]), "{parts:?} in {logs}");
        logs
    }

    /// Waits for these words in its log.
    pub(crate) async fn says(&self, words: &str) {
        let said = async || self.process.logs().contains(words);
        eventually(&format!("{words:?} in the log"), Duration::from_secs(20), said).await;
    }

    /// Waits for what `/readyz` says.
    pub(crate) async fn until(&self, status: u16, said: &str) {
        let what = format!("{status} {said:?}; {}", self.process.tail());
        let answered = async || {
            let answer = http_get(&self.admin, "/readyz").await;
            answer.is_some_and(|(found, body)| found == status && body.contains(said))
        };
        eventually(&what, Duration::from_secs(40), answered).await;
    }
}

fn program(deployment: &Deployment, arguments: &[&str]) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_fleet-worker")));
    command.args(arguments).args(["--nats-url", &deployment.nats.url()]);
    command.args(["--database-url", &deployment.postgres.url()]);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_is_named_with_its_file() {
    for (variable, key) in [
        ("FLEET_NATS__NKEY_FILE", "nats.nkey_file: "),
        ("FLEET_NATS__CREDS", "nats.creds: "),
        ("FLEET_NATS__TOKEN_FILE", "nats.token_file: "),
        ("FLEET_NATS__CA_FILE", "nats.ca_file: "),
        ("FLEET_SINK__TIMESCALE__URL_FILE", "sink.timescale.url_file: "),
    ] {
        let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_fleet-worker")));
        // The file's absence is all that is wrong.
        command.arg("discover").env(variable, "/etc/fleet/login/secret");
        let logs = Started::new(command).refuses(64, &[key, "/etc/fleet/login/secret can't be read"]).await;
        assert!(logs.lines().all(|line| line.starts_with('{')), "not in the log's form: {logs}");
    }
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_fleet-worker")));
    command.arg("run").env_remove("FLEET_SINK__TIMESCALE__URL");
    Started::new(command).refuses(64, &["sink.timescale.url: is missing"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cell_that_is_no_name_or_was_never_set_up_is_said() {
    let deployment = deployment(0).await;
    Started::new(program(&deployment, &["run", "--cell", "a.b"])).refuses(64, &["cell: ", "\"a.b\""]).await;
    let worker = Started::new(program(&deployment, &["run", "--cell", "9"]));
    worker.refuses(69, &["no stream TELEMETRY_9: run `setup` first"]).await;

    // Discovery waits for it, and gets ready by itself.
    let discovery = Started::new(program(&deployment, &["discover", "--cell", "9"]));
    discovery.until(503, "not ready: on signals").await;
    discovery.says("no consumer discovery on LIFECYCLE_9: run `setup`").await;
    let mut setup = program(&deployment, &["setup", "--cell", "9"]);
    let setup = setup.env("FLEET_NATS__MAX_BYTES", "64MiB").output().await.unwrap();
    assert!(setup.status.success(), "{setup:?}");
    discovery.until(200, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cell_that_a_login_is_not_for_is_said() {
    let job = Job::start(&[]).await;
    let mut command = job.command("run", "WORKER_0_A");
    command.env("FLEET_CELL", "1");
    let logs = Started::new(command).refuses(69, &["no answer for the stream TELEMETRY_1"]).await;
    let refusal = "Permissions Violation for Publish to \\\"$JS.API.STREAM.INFO.TELEMETRY_1\\\"";
    assert_eq!(logs.lines().filter(|line| line.contains(refusal)).count(), 1, "{logs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_gone_makes_a_running_worker_unready() {
    let deployment = deployment(0).await;
    let worker = Started::new(program(&deployment, &["run"]));
    worker.until(200, "").await;
    let js = jetstream::new(async_nats::connect(deployment.nats.url()).await.unwrap());
    js.delete_consumer_from_stream("workers", "BINDINGS_0").await.unwrap();
    worker.until(503, "not ready: bind queue").await;
    worker.says("bind requests can't be pulled").await;
    let setup = program(&deployment, &["setup"]).output().await.unwrap();
    assert!(setup.status.success(), "{setup:?}");
    worker.until(200, "").await;
    worker.says("bind requests are pulled again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_is_said_once_and_is_no_missing_consumer() {
    let deployment = deployment(0).await;
    let both = ["run", "discover"].map(|command| {
        let mut program = program(&deployment, &[command]);
        // Each lane has a queue of its own to tell of.
        program.env("FLEET_WORKER__LANES", "1");
        Started::new(program)
    });
    for program in &both {
        program.until(200, "").await;
    }
    deployment.nats.process().pause().unwrap();
    for program in &both {
        program.until(503, "").await;
        program.says("does not answer").await;
    }
    // As long as it takes to try a few times.
    tokio::time::sleep(std::time::Duration::from_secs(15)).await;
    deployment.nats.process().resume().unwrap();
    for (program, says) in both.iter().zip(["bind requests are pulled again", "signals are read again"]) {
        program.until(200, "").await;
        program.says(says).await;
        let logs = program.process.logs();
        assert!(!logs.contains("no consumer"), "{logs}");
        assert_eq!(logs.matches("trying again and again").count(), 1, "{logs}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edition_that_lacks_something_ends_the_worker_with_the_servers_words() {
    let deployment = deployment(0).await;
    // As TimescaleDB's Apache edition says it.
    let lacks = "create function lacks() returns trigger language plpgsql as $$ begin
                     raise exception using errcode = '0A000',
                         message = 'functionality not supported under the current \"apache\" license';
                 end $$;
                 create trigger lacks before insert on telemetry for each row execute function lacks()";
    deployment.client().await.unwrap().batch_execute(lacks).await.unwrap();
    let worker = Started::new(program(&deployment, &["run"]));
    worker.until(200, "").await;
    let mut hand = Hand::new(&deployment, "CAR-1").await;
    hand.send("on", "").await;
    hand.drive(now() - 90 * SECOND, 60).await;
    hand.send("off", "").await;
    let parts = ["\"apache\" license", "0A000", "the server's version or edition lacks this"];
    worker.refuses(64, &parts).await;
}
