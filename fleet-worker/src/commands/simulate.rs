//! `simulate`: a fleet of simulated vehicles, or a recording played back.

use std::future::Future;
use std::time::Duration;

use fleet_core::error::{Error, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use super::started;
use crate::cli::SimulateArgs;
use crate::config::Config;
use crate::simulate::{Simulation, SimulationOptions, Summary};

/// Publishes until the time is over, the recording has ended or `stop` is ready; then switches the
/// vehicles off.
///
/// # Errors
/// [`Unavailable`](fleet_core::ErrorKind::Unavailable) without NATS, or when acks are missing at the end,
/// [`Configuration`](fleet_core::ErrorKind::Configuration) for a recording that can't be used.
pub async fn simulate(
    config: &Config,
    args: &SimulateArgs,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let cells = args.cells.map_or_else(|| Ok(config.cells.clone()), super::numbered_cells)?;
    let options = SimulationOptions {
        cells,
        schema: config.schema.clone(),
        vehicles: args.vehicles as usize,
        connections: args.connections as usize,
        prefix: args.prefix.clone(),
        seed: args.seed,
        duration: args.seconds.map(Duration::from_secs),
        recording: args.recording.clone(),
        speed: args.speed,
        grace: GRACE,
        ..SimulationOptions::default()
    };
    let mut stop = Box::pin(stop);
    let nats = config.nats.options();
    let Some(simulation) = started(&mut stop, Simulation::new(&nats, options)).await? else { return Ok(()) };
    let progress = simulation.progress();
    let bar = bar(args.seconds);
    let begun = Instant::now();
    let running = tokio::spawn(simulation.run(stop));
    let (mut seen, mut said) = (0, None::<Instant>);
    while !running.is_finished() {
        let (published, acknowledged) = (progress.published(), progress.acknowledged());
        bar.set_message(format!("{published} published, {acknowledged} acknowledged"));
        bar.set_position(begun.elapsed().as_secs());
        bar.tick();
        let missed = progress.missed();
        if missed > seen && said.is_none_or(|said| said.elapsed() > AGAIN) {
            let (unacknowledged, error) = (progress.unacknowledged(), progress.error());
            tracing::warn!(published, acknowledged, unacknowledged, error, "acks are missing, sending again");
            (seen, said) = (missed, Some(Instant::now()));
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    bar.finish_and_clear();
    let summary = running.await.map_err(|e| Error::internal("the simulation ended").caused_by(e))??;
    let Summary { vehicles, acknowledged, unacknowledged, switched_off, retried, .. } = summary;
    let left_on = vehicles as u64 - switched_off;
    if unacknowledged + left_on > 0 {
        let why = progress.error().unwrap_or_else(|| "no answer".to_owned());
        let sent = acknowledged + unacknowledged;
        return Err(Error::unavailable(format!(
            "{unacknowledged} of {sent} messages got no ack and {left_on} of {vehicles} vehicles could not be \
             switched off: {why}"
        )));
    }
    tracing::info!(vehicles, acknowledged, retried, "the simulation is over");
    Ok(())
}

/// On a terminal only; without an end, where the simulation has none.
fn bar(seconds: Option<u64>) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(seconds, ProgressDrawTarget::stderr());
    let template =
        if seconds.is_some() { "{bar:40} {pos}/{len} s  {msg}" } else { "{spinner} {pos} s  {msg}" };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// How often a line says that acks are missing.
const AGAIN: Duration = Duration::from_secs(5);

/// How long acks are waited for at the end.
const GRACE: Duration = Duration::from_secs(10);
