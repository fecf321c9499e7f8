//! PgBouncer between us and the server.

use std::time::Duration;

use fleet_core::bind::{ClaimRequest, StateStore};
use fleet_core::time::MINUTE;
use fleet_core::{ErrorKind, Schema};
use fleet_sinks::timescale::{
    ConnectOptions, Connector, Edition, SetupOptions, TimescaleSink, TimescaleStates, check, setup,
};
use fleet_worker::local::{Process, debian_package, free_port};
use tempfile::TempDir;
use tokio::process::Command;

use crate::fixture::{Fixture, NOON, vin};
use crate::outages::Storing;
use crate::server::{PASSWORD, Server};

/// A running PgBouncer.
struct Pooler {
    process: Process,
    port: u16,
    folder: TempDir,
}

impl Pooler {
    /// In front of a server, with that `pool_mode`.
    async fn start(server: u16, mode: &str) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        // Whoever comes may use the server's user, so that only the pooling is tested.
        let settings = format!(
            "[databases]\npostgres = host=127.0.0.1 port={server} user=fleet password={PASSWORD}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = {mode}\nmax_client_conn = 100\ndefault_pool_size = 20\n"
        );
        std::fs::write(folder.path().join("settings.ini"), settings).unwrap();
        let process = launch(&folder, port).await;
        Self { process, port, folder }
    }

    fn connector(&self) -> Connector {
        let url = format!("postgres://fleet:x@127.0.0.1:{}/postgres?sslmode=disable", self.port);
        Connector::new(&ConnectOptions::new(url)).unwrap()
    }
}

async fn launch(folder: &TempDir, port: u16) -> Process {
    let program = debian_package("pgbouncer", &["pgbouncer"]).await.unwrap();
    let mut pgbouncer = Command::new(program);
    if std::fs::read_to_string("/proc/self/status").unwrap().contains("Uid:\t0\t") {
        pgbouncer.args(["-u", "nobody"]);
    }
    pgbouncer.arg(folder.path().join("settings.ini"));
    let mut process = Process::start("pgbouncer", pgbouncer, &folder.path().join("log")).unwrap();
    let ready = || async { tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() };
    process.until_ready(Duration::from_secs(20), ready).await.unwrap();
    process
}

/// Prepared statements and temporary tables are lost there; the start says so.
#[tokio::test]
async fn one_that_pools_transactions_is_refused_at_the_start() {
    let f = Fixture::on(Server::plain().await).await;
    let pooler = Pooler::start(f.server.port(), "transaction").await;
    let (connector, schema) = (pooler.connector(), &f.schema);
    let refused = |error: fleet_core::Error| {
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
        assert!(error.to_string().contains("pool_mode = session"), "{error}");
    };
    // Several times: what is shared depends on who was served before.
    for _ in 0..5 {
        refused(check(&connector, schema).await.unwrap_err());
        refused(setup(&connector, schema, &SetupOptions::default()).await.unwrap_err());
        refused(TimescaleSink::new(connector.clone(), schema).connect().await.unwrap_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_pools_sessions_serves_as_the_server_does() {
    let server = Server::plain().await;
    let mut pooler = Pooler::start(server.port(), "session").await;
    let connector = pooler.connector();
    for _ in 0..2 {
        let options = SetupOptions::default();
        assert_eq!(setup(&connector, &Schema::default(), &options).await.unwrap(), Edition::Plain);
    }
    check(&connector, &Schema::default()).await.unwrap();
    let storing = Storing::by(Fixture::on(server).await, connector.clone());
    let states = TimescaleStates::new(connector, &Schema::default());
    let request = |v| ClaimRequest { vehicle: vin(v), on_time: NOON, started_at: NOON, told_at: NOON };
    let requests: Vec<_> = (500..600).map(request).collect();
    assert_eq!(states.claim(&requests, NOON, MINUTE).await.unwrap().len(), 100);
    storing.goes_on(3).await;
    pooler.process.kill().await;
    storing.fails(1).await;
    pooler.process = launch(&pooler.folder, pooler.port).await;
    assert_eq!(states.claim(&requests, NOON, MINUTE).await.unwrap()[0].epoch, 2);
    storing.ends_with_the_right_rows().await;
}
