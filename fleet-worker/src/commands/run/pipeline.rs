//! One pipeline of a worker: its way to the servers, and what the rest of the process knows of it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fleet_core::bind::Binder as _;
use fleet_core::error::{Error, ErrorKind, Result};
use fleet_core::lane::Lane;
use fleet_core::nats::{
    BinderCounters, BinderOptions, Names, NatsBinder, NatsOptions, NatsSource, Owner, Pulls, QueueHealth,
    ServerClock, SourceCounters, SourceOptions, Ticks,
};
use fleet_core::pipeline::{Counters, Pipeline};
use fleet_core::sink::{Availability, Cursor};
use fleet_sinks::timescale::{Connector, SinkCounters, TimescaleNewest, TimescaleStates};
use futures_util::future::join_all;
use tokio::sync::{mpsc, watch};

use super::threads::{Order, begun, stopped};
use crate::commands::sinks::{Sinks, sinks};
use crate::config::Config;
use crate::lanes::Share;
use crate::metrics::{self, Metric};

/// What all pipelines of a process run by.
pub(super) struct Environment {
    pub config: Config,
    pub connector: Connector,
    pub owner: Owner,
    /// All of them.
    pub handles: Vec<Arc<Handle>>,
}

impl Environment {
    /// Ends the pulling of all pipelines: what one gives back must go to other workers, and not to a lane that is
    /// about to end too.
    async fn end_pulls(&self) {
        let pulls = self.handles.iter().filter_map(|handle| Some(handle.edges()?.pulls.end()));
        // Of one that hangs it is not waited for.
        let _ = tokio::time::timeout(Duration::from_secs(2), join_all(pulls)).await;
    }
}

/// A pipeline as other threads see it.
pub(super) struct Handle {
    pub share: Share,
    /// What readiness calls it, if there are others.
    pub name: String,
    edges: OnceLock<Edges>,
}

/// What it is connected with; counters can be read while it runs.
pub(super) struct Edges {
    pub clock: ServerClock,
    pub counters: Arc<Counters>,
    pub source: Arc<SourceCounters>,
    pub binder: Arc<BinderCounters>,
    pub queue: Arc<QueueHealth>,
    pulls: Pulls,
    pub required: Vec<(&'static str, Availability)>,
    optional: Vec<(&'static str, Availability)>,
    cursors: Vec<(&'static str, Cursor)>,
    database: Arc<SinkCounters>,
}

type Connected = (Pipeline<NatsSource, NatsBinder<TimescaleStates>>, Edges);

/// What readiness calls the bind queue.
const QUEUE: &str = "bind queue";

/// What it calls the database's taking of claims and states.
const STATES: &str = "states";

/// What it calls JetStream's storing of messages.
const STORING: &str = "nats storage";

/// What it calls the vehicles that wait too long for what is stored of them.
const CATCH_UP: &str = "catch-up";

/// How long after a failure it is tried again to connect.
const AGAIN: Duration = Duration::from_secs(5);

impl Handle {
    /// Handles of pipelines with these shares; none of them is connected.
    pub(super) fn all(shares: Vec<Share>) -> Vec<Arc<Self>> {
        let (several_cells, pipelines) = (shares.iter().any(|s| s.cell != shares[0].cell), shares.len());
        let name = |share: &Share| {
            let alone = shares.iter().filter(|other| other.cell == share.cell).count() == 1;
            match (several_cells, alone) {
                _ if pipelines == 1 => String::new(),
                (false, _) => format!("lane {}", share.lane),
                (true, true) => format!("cell {}", share.cell),
                (true, false) => format!("cell {} lane {}", share.cell, share.lane),
            }
        };
        let names: Vec<_> = shares.iter().map(name).collect();
        let handle = |(share, name)| Arc::new(Self { share, name, edges: OnceLock::new() });
        shares.into_iter().zip(names).map(handle).collect()
    }

    /// What it is connected with; `None` as long as it is not.
    pub(super) fn edges(&self) -> Option<&Edges> {
        self.edges.get()
    }

    /// Connects, tells how the first try went, and runs once that is ordered, to its end. While the cell's
    /// streams or a server are away it tries again; nothing is held until it is connected.
    ///
    /// # Errors
    /// What a person must mend; as [`Pipeline::run`].
    pub(super) async fn serve(
        self: Arc<Self>,
        environment: Arc<Environment>,
        ticks: Ticks,
        mut orders: watch::Receiver<Order>,
        tries: mpsc::UnboundedSender<Result<()>>,
    ) -> Result<()> {
        let mut told = Some(tries);
        let pipeline = loop {
            let connected = tokio::select! {
                biased;
                () = stopped(&mut orders) => return Ok(()),
                connected = Box::pin(connect(&environment, &self.share, &ticks)) => connected,
            };
            let failed = match connected {
                Ok((pipeline, edges)) => {
                    let _ = self.edges.set(edges);
                    tell(told.take(), Ok(()));
                    break pipeline;
                }
                Err(error) if error.kind() == ErrorKind::Unavailable => error,
                Err(error) => return Err(error),
            };
            let why = failed.to_string();
            tell(told.take(), Err(failed));
            begun(&mut orders).await;
            if *orders.borrow() == Order::Run {
                let Share { cell, lane, .. } = &self.share;
                tracing::warn!(%cell, lane, error = why, "this cell can't be served, trying again");
            }
            tokio::select! {
                biased;
                () = stopped(&mut orders) => return Ok(()),
                () = tokio::time::sleep(AGAIN) => {}
            }
        };
        begun(&mut orders).await;
        let stop = async {
            stopped(&mut orders).await;
            environment.end_pulls().await;
        };
        pipeline.run(stop).await
    }

    /// What must hold for it to be ready, and whether it does: the queue answers, what is published is stored, the
    /// database takes claims and states, no catch-up takes too long, and every required sink is there. Nothing is
    /// known of one that is not connected but that its queue is not there.
    pub(super) fn conditions(&self, catch_up_timeout: Duration) -> Vec<(String, bool)> {
        let Some(Edges { source, binder, queue, required, .. }) = self.edges() else {
            return vec![(QUEUE.to_owned(), false)];
        };
        let mut conditions = vec![
            (QUEUE.to_owned(), queue.is_there()),
            (STATES.to_owned(), !binder.is_refused()),
            (STORING.to_owned(), source.storing.is_storing()),
            (CATCH_UP.to_owned(), source.catching_up.oldest() < catch_up_timeout),
        ];
        conditions.extend(required.iter().map(|(name, sink)| (format!("sink {name}"), sink.is_available())));
        conditions
    }

    /// Its metrics. Before it is connected its counters are zero.
    pub(super) fn metrics(&self, catch_up_timeout: Duration) -> Vec<Metric> {
        let mut metrics = vec![metrics::ready(&self.conditions(catch_up_timeout))];
        metrics.extend(metrics::capacity(self.share.max_vehicles, self.share.max_waiting_rows));
        if let Some(Edges { counters, source, binder, required, optional, cursors, database, .. }) =
            self.edges()
        {
            metrics.push(metrics::sinks(required.iter().chain(optional)));
            metrics.extend(metrics_of(counters, source, binder));
            metrics.extend(metrics::optional_sinks(cursors));
            metrics.extend(metrics::database(database));
        } else {
            metrics.extend(metrics_of(
                &Counters::default(),
                &SourceCounters::default(),
                &BinderCounters::default(),
            ));
            metrics.extend(metrics::database(&SinkCounters::default()));
        }
        metrics
    }

    /// Messages with samples and rows made durable, so far.
    pub(super) fn counts(&self) -> (u64, u64) {
        self.edges().map_or((0, 0), |Edges { counters, .. }| {
            (counters.lane().messages, counters.durable_rows.load(Ordering::Relaxed))
        })
    }
}

fn metrics_of(counters: &Counters, source: &SourceCounters, binder: &BinderCounters) -> Vec<Metric> {
    let refused = vec![metrics::refused(counters, source)];
    [metrics::pipeline(counters), metrics::source(source), metrics::binder(binder), refused].concat()
}

/// Whoever asked may have had enough of it.
fn tell(tries: Option<mpsc::UnboundedSender<Result<()>>>, tried: Result<()>) {
    if let Some(tries) = tries {
        let _ = tries.send(tried);
    }
}

async fn connect(environment: &Environment, share: &Share, ticks: &Ticks) -> Result<Connected> {
    let Environment { config, connector, owner, .. } = environment;
    let (schema, names) = (&config.schema, Names::new(&share.cell));
    let nats = NatsOptions { label: Some(format!("lane-{}", share.lane)), ..config.nats.options() };
    let options = SourceOptions { ticks: ticks.clone(), ..config.source_options() };
    let source = NatsSource::connect(&nats, &names, schema, options).await?;
    let states = Arc::new(TimescaleStates::new(connector.clone(), schema));
    let clock = source.clock();
    let stored_at = clock.clone();
    let Sinks { sink, required, optional, cursors, database } =
        sinks(config, connector, share, move || stored_at.now()).await?;
    let lane = Lane::with_built_ins(schema).map_err(|problems| {
        Error::configuration(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    })?;
    let options = BinderOptions {
        max_vehicles: share.max_vehicles,
        context: lane.context(),
        owner: Some(owner.clone()),
    };
    let binder = NatsBinder::connect(&nats, &names, states, source.clock(), options).await?;
    let (file, lease) = (config.worker.ack_wait, binder.lease());
    if lease != file {
        let cell = &share.cell;
        tracing::warn!(%cell, ?file, consumer = ?lease, "worker.ack_wait differs, and the consumer's counts: run `setup`");
    }
    let (source_counters, binder_counters) = (source.counters(), binder.counters());
    let (queue, pulls) = (binder.queue(), binder.pulls());
    let pipeline = Pipeline::new(source, binder, sink, lane, config.pipeline_options(share))
        .show_in(TimescaleNewest::new(connector.clone(), schema));
    let counters = pipeline.counters();
    let edges = Edges {
        clock,
        counters,
        source: source_counters,
        binder: binder_counters,
        queue,
        pulls,
        required,
        optional,
        cursors,
        database,
    };
    Ok((pipeline, edges))
}

#[cfg(test)]
mod tests {
    use fleet_core::CellId;

    use super::*;
    use crate::lanes::shares;

    #[test]
    fn a_name_says_no_more_than_what_differs() {
        let names = |cells: &[&str], lanes| -> Vec<String> {
            let cells: Vec<_> = cells.iter().map(|cell| CellId::new(cell).unwrap()).collect();
            let handles = Handle::all(shares(&cells, lanes, 100, 100));
            handles.iter().map(|handle| handle.name.clone()).collect()
        };
        assert_eq!(names(&["0"], 1), [""]);
        assert_eq!(names(&["0"], 2), ["lane 0", "lane 1"]);
        assert_eq!(names(&["0", "1"], 1), ["cell 0", "cell 1"]);
        assert_eq!(names(&["0", "1"], 3), ["cell 0 lane 0", "cell 1", "cell 0 lane 2"]);
    }
}
