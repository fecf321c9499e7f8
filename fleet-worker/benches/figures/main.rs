//! The figures of `docs/benchmarks.md`, measured and drawn anew.
//! `cargo bench -p fleet-worker --bench figures`
//!
//! Without a part all of them are measured, which takes an hour and a quarter. What is measured is put into `benchmarks.json` in the
//! folder that `--out` names, and the tables and plots there are made of it.
#![allow(clippy::unwrap_used, reason = "a benchmark")]

mod comparison;
mod draw;
mod figures;
mod fleet;
mod plot;
mod receive;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use tokio::runtime::Runtime;

use figures::Figures;

/// Measures and draws the figures of docs/benchmarks.md
#[derive(Debug, Parser)]
#[command(name = "figures")]
struct Cli {
    /// Where benchmarks.json and what is drawn of it are; below the repository's folder unless it begins with a slash
    #[arg(long, global = true, default_value = "target/figures")]
    out: PathBuf,
    /// cargo says so
    #[arg(long, hide = true, global = true)]
    bench: bool,
    /// What to measure; all of it without a word
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// What receiving costs, by our ways and by async-nats: ten minutes
    Receive(receive::ReceiveArgs),
    /// Everything end to end, for fleets of several sizes: half an hour
    Fleet(fleet::FleetArgs),
    /// The same stream, grid and table by Python with NumPy and by Pathway: half an hour
    Comparison(comparison::ComparisonArgs),
    /// All of it with small fleets, to see that it works: nine minutes
    Quick,
    /// Nothing; draw what was measured before
    Draw,
}

fn main() {
    let Cli { out, part, .. } = Cli::parse();
    let repository = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut figures = Figures::open(&repository.join(out));
    let runtime = Runtime::new().unwrap();
    match part {
        Some(Part::Receive(args)) => receive::measure(&runtime, &args, &mut figures),
        Some(Part::Fleet(args)) => fleet::measure(&args, &mut figures),
        Some(Part::Comparison(args)) => {
            runtime.block_on(Box::pin(comparison::measure(&args, &mut figures)));
        }
        Some(Part::Draw) => {}
        Some(Part::Quick) => all(&runtime, &mut figures, QUICK),
        None => all(&runtime, &mut figures, ["receive", "fleet", "comparison"]),
    }
    draw::draw(&figures);
}

const QUICK: [&str; 3] = [
    "receive --rate 1000 --vehicles 1000 --window 3 --rounds 1",
    "fleet --size 100 --size 500 --seconds 75",
    "comparison --size 100 --seconds 60",
];

/// Every part, by these arguments.
fn all(runtime: &Runtime, figures: &mut Figures, parts: [&str; 3]) {
    for part in parts {
        let Cli { part, .. } = Cli::parse_from(["figures"].into_iter().chain(part.split(' ')));
        match part {
            Some(Part::Receive(args)) => receive::measure(runtime, &args, figures),
            Some(Part::Fleet(args)) => fleet::measure(&args, figures),
            Some(Part::Comparison(args)) => runtime.block_on(Box::pin(comparison::measure(&args, figures))),
            _ => {}
        }
    }
}
