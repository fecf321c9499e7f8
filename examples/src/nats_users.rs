//! The accounts and users of a NATS server's configuration, with the permissions that `fleet_core` names.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use fleet_core::nats::{Access, Names};
use fleet_core::{CellId, Schema, VehicleId};
use nkeys::KeyPair;

/// Each program has two keys, so that one can be replaced while the other is in use.
const SLOTS: [&str; 2] = ["A", "B"];

/// `WORKER_0` and so on: the programs that log in.
fn logins(cells: &[CellId]) -> Vec<String> {
    let of_cells = cells.iter().flat_map(|cell| {
        let cell = cell.as_str().replace('-', "_").to_uppercase();
        ["SETUP", "DISCOVERY", "WORKER"].map(|program| format!("{program}_{cell}"))
    });
    ["OPERATOR", "SYSTEM"].map(str::to_owned).into_iter().chain(of_cells).collect()
}

/// Makes every program's keys: `folder/keys/keys.conf` has the public ones, `folder/seeds/WORKER_0_A` and
/// so on the seeds, for their owner only. Nothing that is there is replaced.
///
/// # Errors
/// The file that can't be made.
pub fn keys(folder: &Path, cells: &[CellId]) -> Result<(), String> {
    let mut public = String::new();
    for login in logins(cells) {
        for slot in SLOTS {
            let (name, key) = (format!("{login}_{slot}"), KeyPair::new_user());
            let seed = key.seed().map_err(|e| e.to_string())?;
            create(&folder.join("seeds").join(&name), 0o600, &seed)?;
            let _ = writeln!(public, "{name}: {}", key.public_key());
        }
    }
    create(&folder.join("keys/keys.conf"), 0o644, &public)
}

fn create(path: &Path, mode: u32, text: &str) -> Result<(), String> {
    let write = || {
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        let mut options = std::fs::File::options();
        options.write(true).create_new(true).mode(mode).open(path)?.write_all(text.as_bytes())
    };
    write().map_err(|e| format!("{}: {e}", path.display()))
}

/// The accounts with the programs of these cells. A key is a variable, `$WORKER_0_A`.
pub fn accounts(cells: &[CellId]) -> String {
    let mut users = String::new();
    for cell in cells {
        let names = Names::new(cell);
        let accesses = [Access::setup(&names), Access::discovery(&names), Access::worker(&names)];
        for (login, access) in logins(std::slice::from_ref(cell)).iter().skip(2).zip(accesses) {
            for slot in SLOTS {
                user(&mut users, &format!("${login}_{slot}"), &access);
            }
        }
    }
    let cells = cells.iter().map(CellId::as_str).collect::<Vec<_>>().join(" ");
    format!(
        r#"# Written by `cargo run -p fleet-examples --example nats_users -- accounts {cells}`.

# The public nkeys of the programs. A file sees only the variables of its own includes.
include ./keys/keys.conf

accounts {{
  # Streams, workers, discovery.
  FLEET {{
    jetstream: enabled
    # A service, not a stream: the server puts a reply subject of its own in place of the vehicle's,
    # so that a publish ack reaches the vehicle that asked and nobody else.
    exports: [ {{ service: "fleet.>", accounts: [VEHICLES] }} ]
    users: [
      {{ nkey: $OPERATOR_A }}
      {{ nkey: $OPERATOR_B }}
{users}    ]
  }}
  # Vehicles see nothing but their own inboxes, whatever they put into a message.
  VEHICLES {{
    imports: [ {{ service: {{ account: FLEET, subject: "fleet.>" }} }} ]
    include ./vehicles/vehicles.conf
  }}
  SYS {{
    users: [ {{ nkey: $SYSTEM_A }}, {{ nkey: $SYSTEM_B }} ]
  }}
}}
system_account: SYS
"#
    )
}

/// The vehicles' users, of lines `cell,vehicle,public nkey`; a vehicle may have several keys. `*` is
/// every vehicle of the cell: a simulated fleet.
///
/// # Errors
/// Every line that can't be used, with its number.
pub fn vehicles(schema: &Schema, lines: &str) -> Result<String, String> {
    let (mut text, mut problems) = ("users: [\n".to_owned(), Vec::new());
    for (number, line) in lines.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match vehicle(line) {
            Ok((names, vehicle, key)) => {
                let access = match vehicle {
                    Some(vehicle) => Access::vehicle(&names, schema, &vehicle),
                    None => Access::simulation(&names, schema),
                };
                user(&mut text, key, &access);
            }
            Err(problem) => problems.push(format!("line {}: {problem}", number + 1)),
        }
    }
    if problems.is_empty() { Ok(text + "]\n") } else { Err(problems.join("\n")) }
}

fn vehicle(line: &str) -> Result<(Names, Option<VehicleId>, &str), String> {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let [cell, vehicle, key] = fields[..] else {
        return Err(format!("{line:?} is not cell,vehicle,nkey"));
    };
    let cell = CellId::new(cell).map_err(|e| e.to_string())?;
    let id = (vehicle != "*").then(|| VehicleId::new(vehicle)).transpose().map_err(|e| e.to_string())?;
    // Nothing that ends a value can come into the configuration.
    let is_key = key.len() == 56 && key.starts_with('U') && key.bytes().all(|b| b.is_ascii_alphanumeric());
    if !is_key {
        return Err(format!("{vehicle}: the nkey must be a user's public one, U and 55 more characters"));
    }
    Ok((Names::new(&cell), id, key))
}

fn user(text: &mut String, key: &str, access: &Access) {
    let list = |subjects: &[String]| {
        subjects.iter().map(|subject| format!("\"{subject}\"")).collect::<Vec<_>>().join(", ")
    };
    let (publish, subscribe) = (list(&access.publish), list(&access.subscribe));
    // Writing to a string can't fail.
    let _ = writeln!(
        text,
        "      {{ nkey: {key}, permissions: {{\n        publish: [{publish}]\n        subscribe: [{subscribe}]\n      }} }}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bad_line_is_named() {
        let key = KeyPair::new_user().public_key();
        let good = format!("0,CAR-1,{key}\n\n 0 , CAR-1 , {key}\n0,*,{key}\n");
        let users = vehicles(&Schema::default(), &good).unwrap();
        assert_eq!(users.matches(&key).count(), 3);
        assert!(users.contains("\"fleet.0.CAR-1.on\"") && users.contains("\"fleet.0.*.on\""));

        let seed = KeyPair::new_user().seed().unwrap();
        let bad =
            format!("0,CAR-1\n0,CAR 1,{key}\n0,CAR-1,{key}\n0.1,CAR-1,{key}\n0,CAR-2,{seed}\n0,>,{key}");
        let problems = vehicles(&Schema::default(), &bad).unwrap_err();
        let lines: Vec<&str> = problems.lines().filter_map(|line| line.split(':').next()).collect();
        assert_eq!(lines, ["line 1", "line 2", "line 4", "line 5", "line 6"], "{problems}");
        assert!(!problems.contains(&seed), "a seed is shown");
    }

    #[test]
    fn keys_are_never_replaced_and_seeds_are_their_owners() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let cells = [CellId::default()];
        keys(folder.path(), &cells).unwrap();
        let seed = folder.path().join("seeds/WORKER_0_A");
        assert_eq!(std::fs::metadata(&seed).unwrap().permissions().mode() & 0o777, 0o600);
        let public = KeyPair::from_seed(&std::fs::read_to_string(seed).unwrap()).unwrap().public_key();
        let listed = std::fs::read_to_string(folder.path().join("keys/keys.conf")).unwrap();
        assert!(listed.contains(&format!("WORKER_0_A: {public}\n")));
        assert!(keys(folder.path(), &cells).unwrap_err().contains("exists"));
    }
}
