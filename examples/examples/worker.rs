//! A worker composed by hand. `cargo run -p fleet-examples --example worker` runs without any server:
//! simulated vehicles in memory, records printed as they become final. With
//! `-- --nats nats://127.0.0.1:4222 --database postgres://user@host/db` it is a real one, beside a
//! `fleet-worker discover` and after a `fleet-worker setup`.

use std::sync::Arc;

use fleet_core::lane::Lane;
use fleet_core::nats::{BinderOptions, Names, NatsBinder, NatsOptions, NatsSource, SourceOptions};
use fleet_core::pipeline::{Pipeline, PipelineOptions};
use fleet_core::sink::memory::rows;
use fleet_core::sink::{Backoff, Progress, Retry};
use fleet_core::{Batch, CellId, Schema, Sink};
use fleet_examples::{memory_pipeline, released};
use fleet_sinks::timescale::{ConnectOptions, Connector, TimescaleSink, TimescaleStates};

struct Print;

impl Sink for Print {
    async fn accept(&mut self, batch: &Batch) -> fleet_core::error::Result<Progress> {
        for (vehicle, ts, record) in rows(batch) {
            let shown: Vec<String> =
                record.values.iter().map(|v| v.map_or("-".to_owned(), |v| format!("{v:.5}"))).collect();
            println!(
                "{}  {}  {}",
                batch.vehicles()[vehicle].id,
                fleet_core::time::display(ts),
                shown.join("  ")
            );
        }
        Ok(Progress::up_to(batch.sequence()))
    }

    async fn flush(&mut self) -> fleet_core::error::Result<Progress> {
        Ok(Progress::default())
    }
}

async fn in_memory() -> Result<(), Box<dyn std::error::Error>> {
    let pipeline = memory_pipeline(&Schema::default(), Print, 2)?;
    let all_released = released(pipeline.counters(), 2);
    Ok(pipeline.run(all_released).await?)
}

async fn for_real(nats: &str, database: &str) -> Result<(), Box<dyn std::error::Error>> {
    let schema = Schema::default();
    let (nats, names) = (NatsOptions::new(nats), Names::new(&CellId::default()));
    let source = NatsSource::connect(&nats, &names, &schema, SourceOptions::default()).await?;
    let connector = Connector::new(&ConnectOptions::new(database))?;
    let states = Arc::new(TimescaleStates::new(connector.clone(), &schema));
    let lane = Lane::with_built_ins(&schema).map_err(|problems| format!("{problems:?}"))?;
    let options = BinderOptions::new(lane.context());
    let binder = NatsBinder::connect(&nats, &names, states, source.clock(), options).await?;
    let sink = Retry::new(TimescaleSink::new(connector, &schema), "timescale", Backoff::default());
    let pipeline = Pipeline::new(source, binder, sink, lane, PipelineOptions::default());
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    Ok(pipeline.run(stop).await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => in_memory().await,
        ["--nats", nats, "--database", database] => for_real(nats, database).await,
        _ => Err("usage: worker [--nats URL --database URL]".into()),
    }
}
