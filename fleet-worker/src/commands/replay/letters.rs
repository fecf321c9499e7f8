//! `replay --dead-letters`: what could not be used, listed, mended and used after all.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use fleet_core::batch::Row;
use fleet_core::error::{Error, Result};
use fleet_core::nats::{History, Letters, Names};
use fleet_core::sample::Samples;
use fleet_core::time::{grid_at_or_after, grid_at_or_before, parse};
use fleet_core::{Micros, Schema, VehicleId};
use fleet_sinks::timescale::known_since;

use super::bar;
use super::derive::{Deriver, Extra, ROOM};
use super::gather::{self, Spans};
use super::lines::{self, Letter};
use super::stores::{self, Stores};
use crate::cli::ReplayArgs;
use crate::config::Config;
use crate::terminal::{say, written};

/// Carries the command out.
///
/// # Errors
/// [`Data`](fleet_core::ErrorKind::Data) for a file that can't be used, and if letters are left.
pub(super) async fn dead_letters(config: &Config, args: &ReplayArgs) -> Result<()> {
    let names = Names::new(crate::commands::one_cell(config)?);
    let letters = Letters::connect(&config.nats.options(), &names).await?;
    if args.list || args.json {
        return list(&letters, args).await;
    }
    let chosen = match &args.input {
        Some(file) => read_file(file, args)?,
        None => read_stream(&letters, args).await?,
    };
    if args.discard {
        return discard(&letters, &chosen, args.dry_run).await;
    }
    let mut outcome = Outcome::default();
    super::require_ours(config).await?;
    let stores = Stores::open(config, None, args.dry_run).await?;
    let (rows, messages): (Vec<_>, Vec<_>) = chosen.into_iter().partition(Letter::is_row);
    let mut stores = replay_rows(&config.schema, rows, stores, &mut outcome).await?;
    replay_messages(config, messages, &letters, &mut stores, &mut outcome).await?;
    if !args.dry_run {
        for Letter { vehicle, place, stored, .. } in &outcome.used {
            if let Some(place) = place {
                letters.remove(vehicle, *place, *stored).await?;
            }
        }
    }
    outcome.tell(&stores)
}

async fn list(letters: &Letters, args: &ReplayArgs) -> Result<()> {
    let mut found = Vec::new();
    letters.read(&args.vehicle, |letter| found.push(letter)).await?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut lines = Ok(());
    for letter in found.iter().filter(|letter| is_chosen(args, &letter.reason)) {
        let line = if args.json { lines::for_programs(letter) } else { lines::for_people(letter) };
        lines = lines.and_then(|()| writeln!(out, "{line}"));
    }
    written(lines.and_then(|()| out.flush()))
}

fn is_chosen(args: &ReplayArgs, reason: &str) -> bool {
    args.reason.is_empty() || args.reason.iter().any(|wanted| wanted == reason)
}

async fn read_stream(letters: &Letters, args: &ReplayArgs) -> Result<Vec<Letter>> {
    let mut found = Vec::new();
    letters
        .read(&args.vehicle, |letter| {
            if is_chosen(args, &letter.reason) {
                found.push(Letter::from(letter));
            }
        })
        .await?;
    Ok(found)
}

fn read_file(file: &Path, args: &ReplayArgs) -> Result<Vec<Letter>> {
    let bad = |e: io::Error| Error::data(format!("{} can't be read", file.display())).caused_by(e);
    let (now, mut found, mut problems) = (crate::clock::now(), Vec::new(), Vec::new());
    for (number, line) in BufReader::new(std::fs::File::open(file).map_err(bad)?).lines().enumerate() {
        let line = line.map_err(bad)?;
        if line.trim().is_empty() {
            continue;
        }
        match lines::read(&line, now) {
            Ok(letter) => found.push(letter),
            Err(problem) => problems.push(format!("{}:{}: {problem}", file.display(), number + 1)),
        }
    }
    if !problems.is_empty() {
        return Err(Error::data(problems.join("; ")));
    }
    found.retain(|letter| args.vehicle.is_empty() || args.vehicle.contains(&letter.vehicle));
    Ok(found)
}

async fn discard(letters: &Letters, chosen: &[Letter], dry: bool) -> Result<()> {
    let mut removed = 0;
    for Letter { vehicle, place, stored, .. } in chosen {
        let Some(place) = place else { continue };
        removed += usize::from(dry || letters.remove(vehicle, *place, *stored).await?);
    }
    say(format_args!("{removed} letters {}discarded", if dry { "would be " } else { "" }));
    Ok(())
}

/// What became of the letters.
#[derive(Default)]
struct Outcome {
    used: Vec<Letter>,
    kept: Vec<(Letter, String)>,
}

impl Outcome {
    fn keep(&mut self, letter: Letter, why: impl Into<String>) {
        self.kept.push((letter, why.into()));
    }

    fn tell(&self, stores: &Stores) -> Result<()> {
        let kept = self.kept.len();
        for (letter, why) in &self.kept {
            let place = letter.place.map_or_else(String::new, |place| format!("{place}  "));
            say(format_args!("kept: {place}{}  {}: {why}", letter.vehicle, letter.signal));
        }
        let (used, rows, changed) = (self.used.len(), stores.rows(), stores.changed());
        if stores.is_dry() {
            say(format_args!("dry run: {used} letters would be used and give {rows} rows, {kept} be kept"));
        } else {
            say(format_args!(
                "{used} letters used: {rows} rows, {changed} of them new or changed; {kept} kept"
            ));
        }
        match kept {
            0 => Ok(()),
            _ => Err(Error::data(format!("{kept} dead letters could not be used and are kept"))),
        }
    }
}

/// Merges rows into the table, the oldest letter first.
async fn replay_rows(
    schema: &Schema,
    letters: Vec<Letter>,
    mut stores: Stores,
    outcome: &mut Outcome,
) -> Result<Stores> {
    let vehicles: BTreeSet<VehicleId> = letters.iter().map(|letter| letter.vehicle.clone()).collect();
    let epochs = stores.epochs(&vehicles.into_iter().collect::<Vec<_>>()).await?;
    let mut given: Vec<(Letter, Micros)> = Vec::new();
    for letter in letters {
        match lines::row(schema, &letter) {
            Err(why) => outcome.keep(letter, why),
            Ok(row) => {
                let epoch = epochs.get(&letter.vehicle).copied().unwrap_or(0);
                let key = stores.builder.vehicle(&letter.vehicle, epoch);
                let (ts, values, quality) = (row.ts, &row.values[..], row.quality);
                stores.builder.push(key, Row { ts, values, quality, correction: true });
                given.push((letter, row.ts));
            }
        }
    }
    let claimed = stores.store().await?;
    let rejected = stores.finish().await?;
    let key = |vehicle: &VehicleId, row: &[u8]| {
        let row: serde_json::Value = serde_json::from_slice(row).unwrap_or_default();
        (vehicle.clone(), row["ts"].as_str().and_then(|ts| parse(ts).ok()).unwrap_or_default())
    };
    let rejected: BTreeMap<_, _> =
        rejected.into_iter().map(|r| (key(&r.vehicle, &r.row), r.reason)).collect();
    for (letter, ts) in given {
        match rejected.get(&(letter.vehicle.clone(), ts)) {
            Some(why) => outcome.keep(letter, why),
            None if claimed.contains(&letter.vehicle) => outcome.keep(letter, "its vehicle was just claimed"),
            None => outcome.used.push(letter),
        }
    }
    Ok(stores)
}

/// Decodes messages again, and derives the rows around their samples anew: a sample alone gives none.
async fn replay_messages(
    config: &Config,
    messages: Vec<Letter>,
    letters: &Letters,
    stores: &mut Stores,
    outcome: &mut Outcome,
) -> Result<()> {
    if messages.is_empty() {
        return Ok(());
    }
    let known_since = known_since(&crate::commands::connector(config)?).await?;
    let names = Names::new(crate::commands::one_cell(config)?);
    let history = History::connect(&config.nats.options(), &names, &config.schema).await?;
    let bar = bar();
    let deriver = Deriver::new(history, known_since, &config.schema, ROOM, bar.clone()).await?;
    let (mut spans, mut extra, mut used) = (Spans::default(), Vec::new(), Vec::new());
    for letter in messages {
        match around(&deriver, &config.schema, &letter) {
            Err(why) => outcome.keep(letter, why),
            Ok((message, from, to)) => {
                let span = spans.each.entry(letter.vehicle.clone()).or_insert(from..to);
                *span = span.start.min(from)..span.end.max(to);
                extra.push(message);
                used.push(letter);
            }
        }
    }
    deriver.derive(&spans, &extra, stores).await?;
    bar.finish_and_clear();
    let rejected = stores.finish().await?;
    let refused: HashSet<VehicleId> = rejected.iter().map(|row| row.vehicle.clone()).collect();
    tracing::debug!(vehicles = refused.len(), "rows were refused and are dead letters now");
    stores::keep(letters, rejected).await?;
    outcome.used.extend(used);
    Ok(())
}

/// The message, and the span in which its samples can change rows.
fn around(deriver: &Deriver, schema: &Schema, letter: &Letter) -> Result<(Extra, Micros, Micros), String> {
    letter.whole()?;
    let Letter { stored, vehicle, payload, .. } = letter.clone();
    let signal = schema.find(&letter.signal).ok_or("its signal is not in the configuration")?;
    let mut samples = Samples::default();
    gather::read(schema, signal, &payload, stored, &mut samples).map_err(|e| e.detail)?;
    let first = samples.iter().map(|(time, _)| time).min().ok_or("there is no sample in it")?;
    let last = samples.iter().map(|(time, _)| time).max().unwrap_or(first);
    let from = grid_at_or_before(first.saturating_sub(deriver.context()), schema.interval());
    let to = grid_at_or_after(last.saturating_add(deriver.context()), schema.interval());
    match deriver.refuses(from, to) {
        Some(why) => Err(why),
        None => Ok((Extra { vehicle, signal, payload, stored }, from, to)),
    }
}
