//! `demo`: everything on this machine, with local servers, a worker killed half-way, and a table that
//! says whether anything was lost.

mod costs;
mod json;
mod phases;
mod records;
mod report;
mod stored;
mod watch;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fleet_core::CellId;
use fleet_core::error::{Error, Result};
use fleet_sinks::timescale::server;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Instant, sleep};

use self::phases::{Phase, Phases, usage};
use self::watch::Watch;
use super::{Stop, started, stop_signal};
use crate::admin::{self, Serving};
use crate::cli::DemoArgs;
use crate::deployment::Deployment;
use crate::simulate::{Simulation, SimulationOptions};
use crate::verify::verify;

/// A grid and an `ack_wait` short enough for the failover to show within a minute.
const CONFIG: &str = r#"
interval = "5s"
window = "10s"
patience = "5s"

[worker]
ack_wait = "6s"
save_interval = "5s"
round_interval = "1s"
"#;

/// Runs the demo, by the settings of `file` if there is one, which has neither `[nats]` nor `[sink]`.
///
/// # Errors
/// What could not be started, and what to do about it;
/// [`Internal`](fleet_core::ErrorKind::Internal) if the table is not what it must be.
pub async fn demo(args: &DemoArgs, file: Option<&Path>, stop: Stop) -> Result<()> {
    let mut settings = file.map_or_else(|| Ok(CONFIG.to_owned()), |file| read(file, args.cells))?;
    if let Some(count) = args.cells {
        let cells: Vec<String> = super::numbered_cells(count)?.iter().map(CellId::to_string).collect();
        settings = format!("cells = {cells:?}\n{settings}");
    }
    if Box::pin(run(args, &settings, stop)).await? {
        Ok(())
    } else {
        Err(Error::internal("the table is not what the samples give"))
    }
}

fn read(file: &Path, cells: Option<u32>) -> Result<String> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|e| Error::configuration(format!("{shown} can't be read")).caused_by(e))?;
    // What else is wrong the programs' own reading says.
    let sections = text.parse::<toml::Table>().unwrap_or_default();
    let both = ["cell", "cells"].into_iter().find(|key| cells.is_some() && sections.contains_key(*key));
    if let Some(key) = both {
        return Err(Error::configuration(format!("{shown}: leave {key} out with --cells")));
    }
    match ["nats", "sink"].into_iter().find(|section| sections.contains_key(*section)) {
        Some(section) => Err(Error::configuration(format!(
            "{shown}: the demo starts servers of its own, leave [{section}] out"
        ))),
        None => Ok(text),
    }
}

async fn run(args: &DemoArgs, settings: &str, asked: Stop) -> Result<bool> {
    let duration = Duration::from_secs(args.seconds);
    let began = Instant::now();
    let program = std::env::current_exe().map_err(|e| Error::internal("our own program").caused_by(e))?;
    let starting = Box::pin(Deployment::start(&program, settings, args.workers as usize));
    let Some(deployment) = started(asked.clone(), starting).await? else { return Ok(true) };
    let config = deployment.config.clone();
    say(&format!(
        "servers, discovery and {} workers are up after {:.1} s",
        args.workers,
        began.elapsed().as_secs_f64()
    ));
    say(&format!("the database is {}", server(&super::connector(&config)?).await?));

    let page = serve_page(&deployment).await?;
    say(&format!("watch it: http://{}/live/", page.address));

    let simulation = Simulation::new(
        &config.nats.options(),
        SimulationOptions {
            cells: config.cells.clone(),
            schema: config.schema.clone(),
            vehicles: args.vehicles as usize,
            connections: args.connections as usize,
            recording: args.recording.clone(),
            duration: Some(duration),
            ledger: true,
            ..SimulationOptions::default()
        },
    )
    .await?;
    let watch =
        if args.watch { Some(Watch::begin(deployment.client().await?, &config.schema)) } else { None };
    let progress = simulation.progress();
    let before = usage(&deployment);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let publishing = tokio::spawn(simulation.run(async move { drop(stopped.await) }));

    let bar = bar(duration);
    let mut phases = Phases::begin(&deployment, Arc::clone(&progress), config.worker.ack_wait).await;
    let publishing_since = Instant::now();
    let mut failover = Failover::default();
    let mut interrupted = false;
    let mut deployment = deployment;
    while !publishing.is_finished() {
        let elapsed = publishing_since.elapsed();
        bar.set_position(elapsed.as_secs().min(duration.as_secs()));
        let bindings = deployment.bindings().await;
        let bound =
            bindings.map_or_else(|| "?".to_owned(), |b| format!("{} bound, {} waiting", b.bound, b.waiting));
        bar.set_message(format!("{bound}, {} published", progress.acknowledged()));
        let active = bindings.map(|b| b.active);
        if elapsed >= duration {
            phases.next(Phase::Releasing, &deployment).await;
        }
        phases.look(active, &deployment).await;
        let due = elapsed >= duration / 2;
        failover.advance(&mut deployment, &mut phases, due, active, &bar).await;
        tokio::select! {
            () = sleep(Duration::from_millis(250)) => {}
            () = asked.clone(), if !interrupted => {
                interrupted = true;
                bar.println("stopping: vehicles switch off");
                break;
            }
        }
    }
    if interrupted {
        let _ = stop.send(());
    }
    let summary = publishing.await.map_err(|e| Error::internal("the simulation ended").caused_by(e))??;
    bar.set_message("waiting until every vehicle is released");
    phases.next(Phase::Releasing, &deployment).await;
    // A large fleet takes a while to give back on a busy machine.
    let within = Duration::from_secs(120 + u64::from(args.vehicles) / 500);
    let released = tokio::select! {
        released = deployment.until_released(within) => released,
        () = asked.clone(), if !interrupted => {
            bar.finish_and_clear();
            say("stopped before all was stored");
            deployment.stop().await;
            return Ok(true);
        }
    };
    phases.end(&deployment).await;
    bar.finish_and_clear();
    if let Err(error) = released {
        say(&error.to_string());
        return Ok(false);
    }
    let seen = match watch {
        Some(watch) => Some(watch.end().await?),
        None => None,
    };
    let client = deployment.client().await?;
    let verdict = verify(&client, &config.schema, &summary.ledger).await?;
    let stored = stored::Stored::look(&deployment, &client).await?;
    let outcome = report::Outcome {
        schema: &config.schema,
        summary: &summary,
        verdict: &verdict,
        failover: failover.killed.map(|_| failover.took),
        phases: &phases,
        failed_over: failover.held,
        before,
        usage: usage(&deployment),
        stored: &stored,
        to_newest: seen.as_ref().and_then(|seen| seen.to_newest(&summary.ledger)),
        to_record: seen.as_ref().and_then(|seen| seen.to_record(&summary.ledger)),
        took: began.elapsed(),
        interrupted,
    };
    let good = report::print(&client, &outcome).await?;
    if let Some(file) = &args.json {
        let text = format!("{:#}\n", json::json(args, &outcome));
        let failed = |e| Error::unavailable(format!("{} can't be written", file.display())).caused_by(e);
        std::fs::write(file, text).map_err(failed)?;
    }
    say(&format!("look for yourself: {}", deployment.psql()));
    if args.keep {
        let nats = deployment.nats.url();
        let cells = config.cells.iter().map(CellId::as_str).collect::<Vec<_>>().join(", ");
        let cells = format!("{} {cells}", if config.cells.len() > 1 { "cells" } else { "cell" });
        say(&format!("publish yourself: {nats}, {cells}; a worker and discovery go on"));
        say("the servers stay until Ctrl-C");
        // That the vehicles were to stop says nothing about the servers.
        let over = if interrupted { stop_signal()? } else { asked };
        over.await;
    } else {
        say("(with --keep the servers stay)");
    }
    deployment.stop().await;
    Ok(good)
}

/// The live page is the demo's own and not a worker's, which may be the one that is killed. It is where
/// a worker's would be, unless something is there already.
async fn serve_page(deployment: &Deployment) -> Result<Serving> {
    let live = deployment.live()?;
    for address in [SocketAddr::from(([127, 0, 0, 1], 9600)), SocketAddr::from(([127, 0, 0, 1], 0))] {
        if let Ok(serving) = admin::serve(live.clone().router(), address, std::future::pending()).await {
            return Ok(serving);
        }
    }
    Err(Error::unavailable("no port of this machine is free for the live page"))
}

/// The worker that is killed half-way, and how long its vehicles are without one.
#[derive(Debug, Default)]
struct Failover {
    /// When it was killed, and how many vehicles were active then.
    killed: Option<(Instant, u64)>,
    /// How many of them were the killed one's.
    held: u64,
    took: Option<Duration>,
}

impl Failover {
    /// Kills the worker when it is time, then looks whether the others hold all vehicles. The queue
    /// can't tell: a dead worker's requests count as bound until they are delivered again.
    async fn advance(
        &mut self,
        deployment: &mut Deployment,
        phases: &mut Phases,
        due: bool,
        active: Option<u64>,
        bar: &ProgressBar,
    ) {
        match (self.killed, self.took) {
            (None, _) if due && deployment.workers.len() > 1 => {
                let Some(active) = active else { return };
                phases.next(Phase::Failover, deployment).await;
                self.held = deployment.kill_worker().await;
                self.killed = Some((Instant::now(), active));
                bar.println(format!("killed a worker (SIGKILL) with {active} vehicles active"));
            }
            (Some((at, active)), None) if deployment.bound_by_living().await >= active => {
                let took = at.elapsed();
                self.took = Some(took);
                bar.println(format!("all vehicles are bound again after {:.1} s", took.as_secs_f64()));
            }
            _ => {}
        }
    }
}

/// On a terminal only; quiet in a pipe.
fn bar(duration: Duration) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(duration.as_secs()), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos:>3}/{len} s  {msg}") {
        bar.set_style(style);
    }
    bar
}

/// The demo is a program for people: what it says goes to standard output.
#[allow(clippy::print_stdout, reason = "the demo's purpose is to be read")]
fn say(text: &str) {
    println!("{text}");
}
