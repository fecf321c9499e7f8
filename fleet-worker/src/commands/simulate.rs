//! `simulate`: a fleet of simulated vehicles, or a recording played back.

use std::future::Future;
use std::time::Duration;

use fleet_core::error::{Error, Result};
use indicatif::{ProgressBar, ProgressDrawTarget};

use crate::cli::SimulateArgs;
use crate::config::Config;
use crate::simulate::{Simulation, SimulationOptions};

/// Publishes until the time is over, the recording has ended or `stop` is ready; then switches the
/// vehicles off.
///
/// # Errors
/// [`Unavailable`](fleet_core::ErrorKind::Unavailable) without NATS,
/// [`Configuration`](fleet_core::ErrorKind::Configuration) for a recording that can't be used.
pub async fn simulate(
    config: &Config,
    args: &SimulateArgs,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let options = SimulationOptions {
        cell: config.cell.clone(),
        schema: config.schema.clone(),
        vehicles: args.vehicles as usize,
        connections: args.connections as usize,
        prefix: args.prefix.clone(),
        seed: args.seed,
        duration: args.seconds.map(Duration::from_secs),
        recording: args.recording.clone(),
        speed: args.speed,
        ..SimulationOptions::default()
    };
    let simulation = Simulation::new(&config.nats.options(), options).await?;
    let progress = simulation.progress();
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let running = tokio::spawn(simulation.run(stop));
    while !running.is_finished() {
        let (published, acknowledged) = (progress.published(), progress.acknowledged());
        bar.set_message(format!("{published} published, {acknowledged} acknowledged"));
        bar.tick();
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    bar.finish_and_clear();
    let summary = running.await.map_err(|e| Error::internal("the simulation ended").caused_by(e))??;
    let (vehicles, acknowledged, retried) = (summary.vehicles, summary.acknowledged, summary.retried);
    tracing::info!(vehicles, acknowledged, retried, "the simulation is over");
    Ok(())
}
