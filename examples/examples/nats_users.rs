//! Prints the accounts and users of a NATS server's configuration (`examples/nats`):
//! `cargo run -p fleet-examples --example nats_users -- keys FOLDER CELL...`
//! `cargo run -p fleet-examples --example nats_users -- accounts CELL...`
//! `cargo run -p fleet-examples --example nats_users -- vehicles [--config FILE] VEHICLES`
//!
//! `keys` makes the programs' nkeys below FOLDER instead of printing. VEHICLES has a line
//! `cell,vehicle,public nkey` for each. The configuration is the worker's; its
//! signals are what vehicles may publish, the scenario's four without one.

use std::path::Path;
use std::process::ExitCode;

use fleet_core::{CellId, Schema};
use fleet_examples::align_file::read_config;
use fleet_examples::nats_users::{accounts, keys, vehicles};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match users(&arguments) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("nats_users: {problem}");
            ExitCode::from(64)
        }
    }
}

fn users(arguments: &[&str]) -> Result<String, String> {
    match arguments {
        ["keys", folder, cells @ ..] if !cells.is_empty() => {
            keys(Path::new(folder), &ids(cells)?).map(|()| String::new())
        }
        ["accounts", cells @ ..] if !cells.is_empty() => Ok(accounts(&ids(cells)?)),
        ["vehicles", file] => vehicles(&Schema::default(), &read(file)?),
        ["vehicles", "--config", config, file] => {
            let schema = read_config(Path::new(config)).map_err(|e| e.to_string())?;
            vehicles(&schema, &read(file)?)
        }
        _ => {
            Err("usage: keys FOLDER CELL... | accounts CELL... | vehicles [--config FILE] VEHICLES"
                .to_owned())
        }
    }
}

fn ids(cells: &[&str]) -> Result<Vec<CellId>, String> {
    let cells: Result<Vec<_>, _> = cells.iter().map(|cell| CellId::new(cell)).collect();
    cells.map_err(|e| e.to_string())
}

fn read(file: &str) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))
}
