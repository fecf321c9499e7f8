//! `run`: bind vehicles, align, store. The pod.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fleet_core::error::{Error, Result};
use fleet_core::lane::Lane;
use fleet_core::nats::{NatsBinder, NatsSource};
use fleet_core::pipeline::{Counters, Pipeline};
use fleet_sinks::timescale::{TimescaleStates, check};

use super::admin::Served;
use super::sinks::{Sinks, sinks};
use crate::admin::{Admin, Health};
use crate::config::Config;
use crate::metrics;

/// Runs until `stop` is ready, then gives all vehicles back.
///
/// # Errors
/// [`Configuration`](fleet_core::ErrorKind::Configuration) for what a person must change,
/// [`Unavailable`](fleet_core::ErrorKind::Unavailable) for a server that can't be reached at the
/// start; later, servers are waited for.
pub async fn run(config: &Config, stop: impl Future<Output = ()> + Send) -> Result<()> {
    let schema = &config.schema;
    let health = Health::new();
    health.condition("bind queue");
    let connector = super::connector(config)?;
    let edition = check(&connector, schema).await?;

    let (nats, names) = (config.nats.options(), config.names());
    let source = NatsSource::connect(&nats, &names, schema, config.source_options()).await?;
    let states = Arc::new(TimescaleStates::new(connector.clone(), schema));
    let Sinks { sink, cursors } = sinks(config, &connector).await?;
    let lane = Lane::with_built_ins(schema).map_err(|problems| {
        Error::configuration(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    })?;
    let options = config.binder_options(lane.context());
    let binder = NatsBinder::connect(&nats, &names, states, source.clock(), options).await?;
    let of_source = source.counters();
    let pipeline = Pipeline::new(source, binder, sink, lane, config.pipeline_options());
    let counters = pipeline.counters();
    health.set("bind queue", true);

    let of_pipeline = Arc::clone(&counters);
    let snapshot = move || {
        let optional = metrics::optional_sinks(&cursors);
        [metrics::pipeline(&of_pipeline), metrics::source(&of_source), optional].concat()
    };
    let served = Served::start(Admin::new(health.clone(), snapshot), config).await?;
    tracing::info!(cell = %names.cell(), database = connector.target(), ?edition, "the worker runs");
    let beating = tokio::spawn(beat(health, counters));
    let ended = pipeline.run(stop).await;
    beating.abort();
    served.shut_down().await;
    ended
}

/// Alive means that the loop turns.
async fn beat(health: Health, counters: Arc<Counters>) {
    let mut seen = 0;
    let mut ticker = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticker.tick().await;
        let turns = counters.turns.load(Ordering::Relaxed);
        if turns != seen {
            seen = turns;
            health.beat();
        }
    }
}
