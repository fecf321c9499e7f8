//! The tables of CPU time at the end of the demo.

use super::phases::{PARTS, Phase, Spent};
use super::report::Outcome;

/// CPU time by phase, and what follows from it for a message, a row and a vehicle.
pub(super) fn costs(outcome: &Outcome<'_>) -> String {
    let spent = |phase| outcome.phases.spent(phase);
    let (binding, failover) = (spent(Phase::Binding), spent(Phase::Failover));
    let releasing = spent(Phase::Releasing);
    let parts = outcome.usage.map(|(name, _)| name);
    let Some(steady) = spent(Phase::Steady) else {
        let all = [("binding", binding), ("failover", failover), ("releasing", releasing)];
        return by_phase(&all, parts) + "nothing was steady: a longer run tells what a message costs\n";
    };
    let vehicles = outcome.summary.vehicles as u64;
    let once = [
        ("binding", binding, vehicles),
        ("failover", failover, outcome.failed_over),
        ("releasing", releasing, vehicles),
    ];
    let all =
        [("binding", binding), ("steady", Some(steady)), ("failover", failover), ("releasing", releasing)];
    [by_phase(&all, parts), a_message(&steady, parts), a_vehicle(&steady, &once, parts)].join("\n")
}

fn by_phase(phases: &[(&str, Option<Spent>)], parts: [&str; PARTS]) -> String {
    let row = |name: &str, show: &dyn Fn(&Spent) -> String| {
        line(name, phases.iter().map(|(_, spent)| spent.as_ref().map_or_else(|| "-".to_owned(), show)))
    };
    let mut text = line("phase", phases.iter().map(|(name, _)| (*name).to_owned()));
    text += &row("it took", &|spent| format!("{:.1} s", spent.took.as_secs_f64()));
    text += &row("messages acknowledged", &|spent| spent.messages.to_string());
    text += &row("rows made durable", &|spent| spent.rows.to_string());
    for (part, name) in parts.into_iter().enumerate() {
        text += &row(&format!("CPU time of {name}"), &|spent| format!("{:.2} s", spent.seconds(part)));
    }
    text
}

/// A microsecond a message is a second a million messages.
fn a_message(steady: &Spent, parts: [&str; PARTS]) -> String {
    let each = |part, of: u64| format!("{:.1} µs", steady.seconds(part) * 1e6 / of.max(1) as f64);
    let mut text = line("a steady fleet", ["cores", "a message", "a row"].map(str::to_owned));
    for (part, name) in parts.into_iter().enumerate() {
        let cores = format!("{:.3}", steady.cores(part));
        text += &line(name, [cores, each(part, steady.messages), each(part, steady.rows)]);
    }
    text
}

fn a_vehicle(steady: &Spent, once: &[(&str, Option<Spent>, u64)], parts: [&str; PARTS]) -> String {
    let mut text = line("beyond that, for a vehicle", once.iter().map(|(name, ..)| (*name).to_owned()));
    for (part, name) in parts.into_iter().enumerate() {
        let cells = once.iter().map(|(_, spent, vehicles)| match spent {
            Some(spent) => format!("{:.2} ms", spent.beyond(steady, part) * 1e3 / (*vehicles).max(1) as f64),
            None => "-".to_owned(),
        });
        text += &line(name, cells);
    }
    text
}

fn line(name: &str, cells: impl IntoIterator<Item = String>) -> String {
    let cells: String = cells.into_iter().map(|cell| format!("{cell:>12}")).collect();
    format!("{name:<30}{cells}\n")
}
