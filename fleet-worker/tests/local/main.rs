//! Servers that the library finds, fetches, starts, kills and starts again.

#![allow(clippy::unwrap_used, reason = "tests, their helpers included")]

mod nats;
mod postgres;
mod timescale;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use fleet_worker::local::{NatsServer, Postgres, Timescale};

/// Whether a process is there, be it as a zombie.
fn runs(pid: u32) -> bool {
    PathBuf::from(format!("/proc/{pid}")).exists()
}

/// The processes that a process started.
fn children(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().map(|id| id.parse().unwrap()).collect()
}

/// The user that a process runs as.
fn user_of(pid: u32) -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(format!("/proc/{pid}")).unwrap().uid()
}

/// Starts one of each, tells their ids and waits to be killed: a part of the test below.
#[tokio::test]
#[ignore = "waits to be killed"]
async fn wait_with_servers() {
    let (nats, postgres, timescale) =
        tokio::join!(NatsServer::start(), Postgres::start(), Timescale::start());
    let (nats, postgres, timescale) = (nats.unwrap(), postgres.unwrap(), timescale.unwrap());
    let main = [Some(nats.process()), postgres.process(), Some(timescale.process())];
    let main: Vec<u32> = main.iter().map(|p| p.and_then(|p| p.id()).unwrap()).collect();
    // Some of PostgreSQL's children end by themselves soon after its start: these that stay are its parts.
    let at_first = children(main[1]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut parts = children(main[1]);
    parts.retain(|child| at_first.contains(child));
    let all: Vec<String> = main.iter().chain(&parts).map(u32::to_string).collect();
    println!("\nservers {}", all.join(" "));
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn servers_end_with_a_process_that_is_killed() {
    // What is killed leaves its folders: here, where PostgreSQL's user may look for its own.
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut process = Command::new(std::env::current_exe().unwrap());
    process.env("TMPDIR", folder.path()).args(["--exact", "wait_with_servers", "--ignored", "--nocapture"]);
    let mut process = process.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let said = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("servers ").map(str::to_owned));
    let servers: Vec<u32> = said.unwrap().split(' ').map(|id| id.parse().unwrap()).collect();
    assert!(servers.len() > 3 && servers.iter().all(|pid| runs(*pid)), "{servers:?}");
    process.kill().unwrap();
    process.wait().unwrap();
    for _ in 0..200 {
        if !servers.iter().any(|pid| runs_on(*pid)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("still there: {servers:?}");
}

/// Starts one of each that may be installed: a part of the test below.
#[tokio::test]
#[ignore = "is told where to look"]
async fn start_servers() {
    NatsServer::start().await.unwrap();
    Postgres::start().await.unwrap();
}

#[test]
fn installed_servers_are_ignored_where_the_environment_says_so() {
    let start = |servers: &str| {
        let mut process = Command::new(std::env::current_exe().unwrap());
        process.args(["--exact", "start_servers", "--ignored"]).env("FLEET_SERVERS", servers);
        // What is named comes first elsewhere.
        let process = process.env("FLEET_NATS_SERVER", "/nowhere").env("FLEET_PG_BIN", "/nowhere");
        let output = process.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (started, said) = start("fetched");
    assert!(started, "{said}");
    for (servers, error) in
        [("", "FLEET_NATS_SERVER: /nowhere is no nats-server"), ("own", "FLEET_SERVERS: own is unknown")]
    {
        let (started, said) = start(servers);
        assert!(!started && said.contains(error), "{said}");
    }
}

/// Whether a process is there, and not as a zombie, which an orphan stays where nobody reaps it.
fn runs_on(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
