//! All secrets of a trial on Kubernetes, in one folder:
//! `cargo run -p fleet-examples --example trial -- FOLDER [--cell CELL]... [--name NAME]... [--database HOST:PORT --ca FILE]`
//!
//! NAME is what vehicles call the NATS server, the others are there. What is in the folder stays: run it again with
//! `--database` when Terraform, which reads `passwords.auto.tfvars` of it, has made one. Then
//! `kubectl apply -k FOLDER`.

use std::path::Path;
use std::process::ExitCode;

use fleet_core::CellId;
use fleet_examples::trial::{Database, trial};

const USAGE: &str = "usage: trial FOLDER [--cell CELL]... [--name NAME]... [--database HOST:PORT --ca FILE]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("trial: {problem}");
            ExitCode::from(64)
        }
    }
}

fn run(arguments: &[String]) -> Result<String, String> {
    let [folder, options @ ..] = arguments else { return Err(USAGE.to_owned()) };
    if folder.starts_with('-') || options.len() % 2 != 0 {
        return Err(USAGE.to_owned());
    }
    let (mut cells, mut names, mut address, mut ca) = (Vec::new(), Vec::new(), None, None);
    for pair in options.chunks(2) {
        let value = pair[1].clone();
        match pair[0].as_str() {
            "--cell" => cells.push(CellId::new(&value).map_err(|e| e.to_string())?),
            "--name" => names.push(value),
            "--database" => address = Some(value),
            "--ca" => ca = Some(std::fs::read_to_string(&value).map_err(|e| format!("{value}: {e}"))?),
            other => return Err(format!("{other}: {USAGE}")),
        }
    }
    if cells.is_empty() {
        cells.push(CellId::default());
    }
    let database = match (address, ca) {
        (Some(address), Some(ca)) => Some(Database { address, ca }),
        (None, None) => None,
        _ => return Err("--database and --ca go together".to_owned()),
    };
    trial(Path::new(folder), &cells, &names, database.as_ref())?;
    Ok(if Path::new(folder).join("database/url").exists() {
        format!("kubectl create namespace fleet && kubectl apply -k {folder}")
    } else {
        format!(
            "no database yet: give {folder}/passwords.auto.tfvars to terraform apply with -var-file, or make the roles\n\
             of scaleway/admin.sql with the passwords in {folder}/passwords; then again with --database and --ca"
        )
    })
}
