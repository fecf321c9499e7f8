//! One run: the plan, all tracks at once, and what is asked at the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fleet_worker::verify::Verdict;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Instant, sleep, timeout};

use crate::clock;
use crate::end::{at_rest, compare};
use crate::fleet::{Fleet, STEADY, TRIPS};
use crate::journal::Journal;
use crate::plan::{Planned, Scene, TRACKS, Track, plan};
use crate::signs::unnoticed;
use crate::stage::Stage;
use crate::strike::strike;
use crate::watch::{Watch, total};

/// The seed of a run that names none: CI sees the same every time.
const SEED: u64 = 18;
const SECONDS: u64 = 120;
const WORKERS: usize = 2;

/// How much more memory a worker may have needed at any time than before the first fault.
const MORE_MEMORY: u64 = 64 << 20;

/// How long vehicles of hostile `on`s may be held after the last fault, and the good ones' rows be caught up.
const RELEASE: Duration = Duration::from_secs(400);

fn variable<T: std::str::FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(value) => value.parse().unwrap_or_else(|_| panic!("{name}: {value:?} is no number")),
        Err(_) => default,
    }
}

/// Which kinds of faults; all unless some are named.
fn tracks() -> Vec<Track> {
    let Ok(named) = std::env::var("FLEET_CHAOS_TRACKS") else {
        return TRACKS.to_vec();
    };
    let one = |name: &str| {
        let found = TRACKS.into_iter().find(|track| track.name() == name);
        found.unwrap_or_else(|| {
            panic!("FLEET_CHAOS_TRACKS: {name:?} is none of {:?}", TRACKS.map(Track::name))
        })
    };
    named.split(',').map(str::trim).map(one).collect()
}

pub(crate) async fn chaos(test: &str, servers: usize) {
    let (seed, seconds) = (variable("FLEET_CHAOS_SEED", SEED), variable("FLEET_CHAOS_SECONDS", SECONDS));
    let mut scene = Scene { servers, workers: WORKERS, tracks: tracks() };
    let faketime = if scene.tracks.contains(&Track::Clocks) {
        clock::library().await.inspect_err(|why| println!("no clock is stepped: {why}")).ok()
    } else {
        None
    };
    scene.tracks.retain(|track| *track != Track::Clocks || faketime.is_some());
    let named: Vec<_> = scene.tracks.iter().map(|track| track.name()).collect();
    let repeat = format!(
        "FLEET_CHAOS_SEED={seed} FLEET_CHAOS_SECONDS={seconds} FLEET_CHAOS_TRACKS={} \
         cargo test -p fleet-worker --test chaos {test} -- --nocapture",
        named.join(",")
    );
    println!("seed {seed}; to repeat it: {repeat}");
    let length = Duration::from_secs(seconds);
    let plan = plan(seed, length, &scene);
    plan.iter().for_each(|planned| println!("{planned}"));

    let began = Instant::now();
    let mut stage = Stage::start(&scene, faketime).await.unwrap();
    let mut outcome = Box::pin(play(&mut stage, &scene, plan, length, seed)).await;
    let ending = Instant::now();
    outcome.problems.extend(stage.pods.end().await);
    println!(
        "{}all ended within {:.0} s; {:.0} s in all",
        outcome.report,
        ending.elapsed().as_secs_f64(),
        began.elapsed().as_secs_f64()
    );
    if !outcome.problems.is_empty() {
        let logs = stage.keep_logs();
        let problems = outcome.problems.join("\n\n");
        panic!("seed {seed}:\n{problems}\n\nlogs: {}\nto repeat it: {repeat}", logs.display());
    }
}

struct Outcome {
    problems: Vec<String>,
    report: String,
}

async fn play(stage: &mut Stage, scene: &Scene, plan: Vec<Planned>, length: Duration, seed: u64) -> Outcome {
    let fleet = Fleet::start(stage.vehicles(), &stage.config, seed);
    let journal = Arc::new(Journal::begin());
    let keeping = tokio::spawn(stage.pods.clone().keep(Arc::clone(&journal)));
    let bound = async || stage.asked.bindings().await.is_ok_and(|b| b.bound >= STEADY as u64);
    let deadline = Instant::now() + Duration::from_secs(90);
    while !bound().await {
        if Instant::now() > deadline {
            journal.problem(format_args!("the vehicles are not bound\n{}", stage.pods.tails().await));
            break;
        }
        sleep(Duration::from_millis(200)).await;
    }
    // Some rows, so that what memory a worker needs in peace is known.
    sleep(Duration::from_secs(5)).await;
    let at_peace = stage.pods.peak().await;
    keeping.abort();

    let journal = Arc::new(Journal::carrying(journal.problems()));
    let keeping = tokio::spawn(stage.pods.clone().keep(Arc::clone(&journal)));
    let watch = Watch::begin(stage.pods.admins().await, &journal);
    let bar = bar(length);
    tokio::select! {
        ((), ()) = async { tokio::join!(strike(stage, plan, seed, &journal), sleep(length)) } => {}
        () = show(&bar, &journal, &watch, &fleet) => {}
    }
    bar.set_message("all faults are over; the vehicles switch off");
    let faults_over = journal.elapsed();
    let happened = journal.happened();
    let truth = match timeout(Duration::from_secs(300), fleet.stop()).await {
        Ok(Ok(truth)) => Some(truth),
        Ok(Err(why)) => {
            journal.problem(format_args!("the vehicles could not publish: {why}"));
            None
        }
        Err(_) => {
            journal.problem("300 s after the last fault the vehicles still have unacknowledged messages");
            None
        }
    };
    let published = journal.elapsed();
    bar.set_message("waiting until every vehicle is released");
    if let Err(why) = stage.until_released(RELEASE).await {
        journal.problem(why);
    }
    let released = journal.elapsed();
    at_rest(&journal, &watch).await;
    let verdict = match &truth {
        Some(truth) => compare(stage, truth).await,
        None => Ok((Verdict::default(), 0)),
    };
    match &verdict {
        Ok((verdict, _)) if truth.is_none() || verdict.is_good() && verdict.expected > 0 => {}
        Ok((verdict, _)) => {
            journal.problem(format_args!("the table is not what the samples give: {verdict:#?}"))
        }
        Err(why) => journal.problem(why),
    }
    let compared = journal.elapsed();
    let seen = watch.seen();
    drop(watch);
    keeping.abort();
    bar.finish_and_clear();

    let (missed, asked) = unnoticed(&happened, &seen, scene);
    // If nobody had looked, none would have been noticed: a question that can't fail would prove nothing.
    let (unseen, _) = unnoticed(&happened, &[], scene);
    assert_eq!(unseen.len(), asked, "{unseen:#?}");
    missed.into_iter().for_each(|what| journal.problem(what));
    let peak = stage.pods.peak().await;
    if peak > at_peace + MORE_MEMORY {
        journal.problem(format_args!(
            "a worker's resident set reached {} MiB, {} MiB before the first fault",
            peak >> 20,
            at_peace >> 20
        ));
    }

    let mut report = String::new();
    if let Ok((found, lost)) = &verdict {
        let _ = writeln!(
            report,
            "records: {} expected, {} stored, {} missing, {} wrong, {} twice, {} unexpected; samples that NATS has \
             acknowledged and lost: {lost}",
            found.expected, found.stored, found.missing, found.wrong, found.duplicate, found.unexpected
        );
    }
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    happened.iter().for_each(|one| *kinds.entry(one.fault.kind()).or_default() += 1);
    let _ = writeln!(
        report,
        "faults: {} in {:.0} s, of which {asked} had to be visible",
        happened.len(),
        faults_over.as_secs_f64()
    );
    for (kind, count) in kinds {
        let _ = writeln!(report, "  {count:4} {kind}");
    }
    let counted = |counter| total(&seen, counter);
    let (bindings, lost) = (counted("fleet_bindings_total"), counted("fleet_bindings_lost_total"));
    let trips = truth.as_ref().map_or(0, |truth| truth.trips);
    let _ = writeln!(
        report,
        "vehicles: {} good ones, {trips} trips, {} messages acknowledged\n\
         bindings: {bindings}, {lost} of them lost and made again elsewhere; {} catch-ups, {} sweeps\n\
         rows made durable: {}; refused: {}; late: {}; dead letters: {}\n\
         a worker's memory: at most {} MiB, {} MiB before the first fault\n\
         everything acknowledged {:.0} s after the last fault, released after {:.0} s, compared after {:.0} s",
        STEADY + TRIPS,
        truth.as_ref().map_or(0, |truth| truth.messages),
        counted("fleet_catch_ups_total"),
        counted("fleet_source_rounds_total"),
        counted("fleet_durable_rows_total"),
        counted("fleet_refused_total"),
        counted("fleet_late_samples_total"),
        counted("fleet_source_dead_letters_total"),
        peak >> 20,
        at_peace >> 20,
        published.saturating_sub(faults_over).as_secs_f64(),
        released.saturating_sub(faults_over).as_secs_f64(),
        compared.saturating_sub(faults_over).as_secs_f64(),
    );
    Outcome { problems: journal.problems(), report }
}

/// On a terminal only; quiet in a pipe.
fn bar(length: Duration) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(length.as_secs()), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos:>4}/{len} s  {msg}") {
        bar.set_style(style);
    }
    bar
}

async fn show(bar: &ProgressBar, journal: &Journal, watch: &Watch, fleet: &Fleet) {
    loop {
        let last = watch.last();
        let sum = |counter| last.iter().filter_map(|(_, a)| a.as_ref()).map(|a| a.of(counter)).sum::<u64>();
        bar.set_position(journal.elapsed().as_secs());
        bar.set_message(format!(
            "{} faults, {} problems, {} bound, {} trips begun",
            journal.happened().len(),
            journal.problems().len(),
            sum("fleet_bound"),
            fleet.begun.load(Ordering::Relaxed)
        ));
        sleep(Duration::from_millis(500)).await;
    }
}
