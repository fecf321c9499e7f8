//! Everything end to end: the demo once for each size of the fleet, with one worker and the default settings.

use std::path::Path;
use std::process::Command;

use clap::Args;
use serde_json::{Value, json};

use crate::figures::Figures;

/// Which fleets to drive.
#[derive(Debug, Clone, Args)]
pub(crate) struct FleetArgs {
    /// How many vehicles; may be repeated
    #[arg(long, default_values_t = [1_000, 10_000, 40_000, 300_000])]
    pub size: Vec<u32>,
    /// How long; without it three minutes, and a second more for each 500 vehicles
    #[arg(long)]
    seconds: Option<u64>,
}

/// Vehicles of a cell.
const CELL: u32 = 40_000;

/// Drives each of them; a figure is what a steady fleet takes.
pub(crate) fn measure(args: &FleetArgs, figures: &mut Figures) {
    for &vehicles in &args.size {
        let seconds = args.seconds.unwrap_or(180 + u64::from(vehicles) / 500);
        let demo = demo(vehicles, seconds);
        if demo["phases"]["steady"].is_null() {
            eprintln!("{vehicles} vehicles: nothing was steady, give it more --seconds");
            continue;
        }
        figures.put("fleet", &["vehicles"], vec![row(&demo)]);
    }
}

/// The default settings, for so many vehicles and with the patience that the simulated fuel sensors need.
pub(crate) fn settings(vehicles: u32) -> String {
    // Lanes take what they get: one may have more than its half.
    format!("patience = \"45s\"\n[worker]\nmax_vehicles = {}\n", vehicles * 2)
}

/// What the demo says, whose table may be wrong: that is a figure too.
fn demo(vehicles: u32, seconds: u64) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let (config, json) = (folder.path().join("fleet.toml"), folder.path().join("demo.json"));
    std::fs::write(&config, settings(vehicles)).unwrap();
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_fleet-worker")));
    command.args(["demo", "--workers", "1", "--vehicles", &vehicles.to_string()]);
    command.args(["--cells", &vehicles.div_ceil(CELL).to_string(), "--seconds", &seconds.to_string()]);
    command.arg("--config").arg(&config).arg("--json").arg(&json);
    eprintln!("{command:?}");
    let ended = command.status().unwrap();
    let said = std::fs::read_to_string(&json).unwrap_or_else(|_| panic!("the demo ended with {ended}"));
    serde_json::from_str(&said).unwrap()
}

/// The names of the demo's parts.
pub(crate) const PARTS: [&str; 5] = ["NATS", "workers", "PostgreSQL", "publisher", "discovery"];

fn row(demo: &Value) -> Value {
    let number = |path: &str| demo.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let steady = |field: &str| number(&format!("/phases/steady/{field}"));
    let vehicles = number("/vehicles");
    let cpu =
        PARTS.map(|part| (part.to_owned(), json!(steady(&format!("cpu/{part}")) * 1e6 / steady("messages"))));
    let memory = ["NATS", "workers"].map(|part| {
        let grown = number(&format!("/memory/{part}/peak")) - number(&format!("/memory/{part}/before"));
        (part.to_owned(), json!(grown / vehicles))
    });
    json!({
        "vehicles": demo["vehicles"],
        "cells": demo["cells"],
        "seconds": demo["seconds"],
        "acknowledged": demo["acknowledged"],
        "records": demo["records"],
        "rate": steady("messages") / steady("took"),
        "steady_s": steady("took"),
        "rows_a_message": steady("rows") / steady("messages"),
        "cpu_us": Value::Object(cpu.into_iter().collect()),
        "memory_a_vehicle": Value::Object(memory.into_iter().collect()),
        "publish_to_row": demo["publish_to_row"],
        "publish_to_whole_row": demo["publish_to_whole_row"],
    })
}
