//! Real servers for the tests: PostgreSQL, and TimescaleDB in WebAssembly.

use fleet_sinks::timescale::{ConnectOptions, Connector};
use fleet_worker::local::{Postgres, PostgresBuilder, Timescale};
use tokio_postgres::{Client, NoTls};

pub(crate) const PASSWORD: &str = "open-sesame-7";

pub(crate) enum Server {
    Plain(Postgres),
    Timescale(Timescale),
}

/// Small and in a hurry. What a crash leaves is safe even without fsync: the machine goes on.
pub(crate) fn postgres() -> PostgresBuilder {
    Postgres::builder()
        .password(PASSWORD)
        .setting("fsync", "off")
        .setting("shared_buffers", "32MB")
        .setting("log_min_messages", "fatal")
}

impl Server {
    /// PostgreSQL without TimescaleDB, with a password.
    pub(crate) async fn plain() -> Self {
        Self::Plain(postgres().start().await.unwrap())
    }

    /// The same with TLS and this certificate and key.
    pub(crate) async fn with_tls(certificate: Vec<u8>, key: Vec<u8>) -> Self {
        let files = postgres().file("server.crt", certificate).file("server.key", key);
        Self::Plain(files.setting("ssl", "on").start().await.unwrap())
    }

    /// TimescaleDB's community edition.
    pub(crate) async fn timescale() -> Self {
        Self::Timescale(Timescale::start().await.unwrap())
    }

    /// TimescaleDB's Apache edition.
    pub(crate) async fn apache() -> Self {
        Self::Timescale(Timescale::start_apache().await.unwrap())
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Plain(server) => server.url_of("postgres"),
            Self::Timescale(server) => server.url(),
        }
    }

    pub(crate) fn connector(&self) -> Connector {
        Connector::new(&ConnectOptions::new(self.url())).unwrap()
    }

    /// A connection for the test's own eyes.
    pub(crate) async fn client(&self) -> Client {
        let (client, driver) = tokio_postgres::connect(&self.url(), NoTls).await.unwrap();
        tokio::spawn(driver);
        client
    }

    /// PostgreSQL, which unlike the other can crash and come back.
    fn plain_one(&mut self) -> &mut Postgres {
        match self {
            Self::Plain(server) => server,
            Self::Timescale(_) => panic!("TimescaleDB's data would be lost"),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Plain(server) => server.port(),
            Self::Timescale(_) => panic!("tests cut connections to PostgreSQL only"),
        }
    }

    /// What PostgreSQL has said.
    pub(crate) fn logs(&mut self) -> String {
        self.plain_one().logs()
    }

    /// Ends PostgreSQL as its operator does.
    pub(crate) async fn stop(&mut self) {
        self.plain_one().stop().await.unwrap();
    }

    /// Ends PostgreSQL as a crash would.
    pub(crate) async fn kill(&mut self) {
        self.plain_one().crash().await.unwrap();
    }

    pub(crate) async fn start_again(&mut self) {
        self.plain_one().start_again().await.unwrap();
    }
}
