//! The sink beside a bare COPY, what the database pays for a row, and the time of the queries of
//! `docs/database.md` over a day of 1,000 vehicles.
//! `cargo bench -p fleet-sinks --bench timescale`
//!
//! On a PostgreSQL of its own, as it comes, fsync included. A day takes minutes to fill; another number
//! of vehicles or batches by the variables `VEHICLES` and `BATCHES`.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a benchmark")]

#[path = "timescale/fleet.rs"]
mod fleet;
#[path = "timescale/queries.rs"]
mod queries;
#[path = "timescale/sink.rs"]
mod sink;
#[path = "timescale/states.rs"]
mod states;

use fleet_core::Schema;
use fleet_sinks::timescale::{ConnectOptions, Connector, SetupOptions, setup};
use fleet_worker::local::Postgres;
use tokio_postgres::{Client, NoTls};

/// Server, schema and a connection for questions.
struct Bench {
    server: Postgres,
    schema: Schema,
    client: Client,
}

impl Bench {
    async fn start() -> Self {
        let settings = [("shared_buffers", "1GB"), ("max_wal_size", "8GB"), ("checkpoint_timeout", "30min")];
        let builder = settings.iter().fold(Postgres::builder(), |b, (name, value)| b.setting(name, value));
        let server = builder.start().await.unwrap();
        let (client, driver) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
        tokio::spawn(driver);
        let bench = Self { server, schema: Schema::default(), client };
        setup(&bench.connector(), &bench.schema, &SetupOptions::default()).await.unwrap();
        bench
    }

    fn connector(&self) -> Connector {
        Connector::new(&ConnectOptions::new(self.server.url())).unwrap()
    }
}

/// A number from the environment, or its default.
fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().map_or(default, |text| text.parse().unwrap())
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

#[tokio::main]
async fn main() {
    let bench = Bench::start().await;
    sink::beside_a_bare_copy(&bench).await;
    states::claims_and_saves(&bench).await;
    queries::over_a_day(&bench).await;
}
