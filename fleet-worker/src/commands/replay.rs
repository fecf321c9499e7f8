//! `replay`: records once more, out of the telemetry stream, the dead letters or an archive.

#[cfg(feature = "parquet")]
mod archive;
mod derive;
mod gather;
mod letters;
mod lines;
mod stores;

use fleet_core::error::{Error, Result};
use fleet_core::nats::{History, Letters, Names, connect};
use fleet_core::time::display;
use fleet_sinks::timescale::known_since;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use self::derive::{Deriver, ROOM};
use self::gather::Spans;
use self::stores::Stores;
use crate::cli::ReplayArgs;
use crate::config::Config;
use crate::terminal::say;

/// Replays what the arguments say. It may be repeated, and ended anywhere.
///
/// # Errors
/// [`Configuration`](fleet_core::ErrorKind::Configuration) or [`Data`](fleet_core::ErrorKind::Data) for
/// what can't be replayed, and why; [`Unavailable`](fleet_core::ErrorKind::Unavailable) for servers.
pub async fn replay(config: &Config, args: &ReplayArgs) -> Result<()> {
    match &args.from_archive {
        None => Box::pin(cells(config, args)).await,
        #[cfg(feature = "parquet")]
        Some(place) => Box::pin(archive::from_archive(config, args, place)).await,
        #[cfg(not(feature = "parquet"))]
        Some(_) => Err(Error::configuration("this program was built without the feature parquet")),
    }
}

/// One cell after the other; that one of them can't be replayed keeps no other from it.
async fn cells(config: &Config, args: &ReplayArgs) -> Result<()> {
    if args.input.is_some() || args.json {
        // A letter is known by its place in its cell's stream.
        super::one_cell(config)?;
    }
    let (several, mut all) = (config.cells.len() > 1, Ok(()));
    for cell in &config.cells {
        if several {
            say(format_args!("cell {cell}:"));
        }
        let config = config.of_cell(cell);
        let replayed = match args.dead_letters {
            true => Box::pin(letters::dead_letters(&config, args)).await,
            false => Box::pin(range(&config, args)).await,
        };
        let Err(error) = replayed else { continue };
        if !several {
            return Err(error);
        }
        tracing::error!(%cell, %error, "this cell is not replayed, or not all of it");
        all = all.and(Err(Error::new(error.kind(), format!("cell {cell}: {error}"))));
    }
    all
}

/// Derives the rows of a span of event time from the telemetry stream.
async fn range(config: &Config, args: &ReplayArgs) -> Result<()> {
    require_ours(config).await?;
    let names = Names::new(super::one_cell(config)?);
    let known_since = known_since(&super::connector(config)?).await?;
    let history = History::connect(&config.nats.options(), &names, &config.schema).await?;
    let bar = bar();
    let deriver = Deriver::new(history, known_since, &config.schema, ROOM, bar.clone()).await?;
    let (now, latest) = (deriver.now(), deriver.latest());
    let from = args.from.map_or(now, |from| from.before(now));
    let to = args.to.map_or(latest, |to| to.before(now));
    if from >= to {
        let (from, to) = (display(from), display(to));
        return Err(Error::configuration(format!("--from {from} is not before --to {to}")));
    }
    if let Some(why) = deriver.refuses(from, to) {
        let earliest = deriver.earliest().map_or_else(String::new, |e| format!("--from {} and ", display(e)));
        let latest = display(latest);
        return Err(Error::configuration(format!("{why}: at most {earliest}--to {latest} can be replayed")));
    }
    let span = from..to;
    let mut spans = Spans::default();
    if args.vehicle.is_empty() {
        spans.all = Some(span.clone());
    }
    spans.each.extend(args.vehicle.iter().map(|vehicle| (vehicle.clone(), span.clone())));
    let letters = Letters::connect(&config.nats.options(), &names).await?;
    let mut stores = Stores::open(config, args.replace.then_some(span), args.dry_run).await?;
    deriver.derive(&spans, &[], &mut stores).await?;
    let rejected = stores.finish().await?;
    bar.finish_and_clear();
    let refused = rejected.len();
    stores::keep(&letters, rejected).await?;
    let (rows, changed, deleted) = (stores.rows(), stores.changed(), stores.deleted());
    say(&match (args.dry_run, args.replace) {
        (true, _) => format!("dry run: {rows} rows from {} to {}", display(from), display(to)),
        (false, true) => format!("{deleted} rows replaced by {changed}; {refused} refused"),
        (false, false) => format!("{rows} rows, {changed} of them new or changed; {refused} refused"),
    });
    let archived = stores.archived_only();
    if archived > 0 {
        say(format_args!(
            "{archived} rows are of days that have left the database: only the archive has them"
        ));
    }
    if refused == 0 {
        return Ok(());
    }
    Err(Error::data(format!("{refused} rows could not be stored and are among the dead letters")))
}

/// Refuses a cell of another deployment: its samples are not for this database.
async fn require_ours(config: &Config) -> Result<()> {
    let client = connect(&config.nats.options(), "fleet-replay", |_| {}).await?;
    let owner = super::owner(&super::connector(config)?).await?;
    let names = Names::new(super::one_cell(config)?);
    owner.require_stream(&async_nats::jetstream::new(client), &names).await
}

/// On a terminal only; quiet in a pipe.
fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}  {elapsed}, {eta} left") {
        bar.set_style(style);
    }
    bar
}
