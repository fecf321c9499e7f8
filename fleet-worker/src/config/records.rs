//! The top-level keys and `[[signal]]` as fleet-core's own configuration.

use fleet_core::Schema;
use fleet_core::align::Methods;
use fleet_core::schema::{RecordsConfig, SignalConfig};
use toml::{Table, Value};

use super::values::Values;

const SIGNAL: [&str; 6] =
    ["name", "columns", "interpolation", "max_gap", "sampling_period", "signal_timeout"];
const COLUMN: [&str; 7] = ["name", "unit", "min", "max", "wraps", "type", "wire"];
const WIRE: [&str; 2] = ["integer", "scale"];

/// Reads the records' part; `signals` is what stands at `signal`.
pub(super) fn read(values: &mut Values, signals: Option<Value>) -> (RecordsConfig, Option<Schema>) {
    let before = values.problems.len();
    // Where in the file the signals are that could be read.
    let mut places = Vec::new();
    let max_samples = values.count("max_samples", 8..=65_536);
    let mut config = RecordsConfig {
        interval: values.text("interval").to_owned(),
        window: values.text("window").to_owned(),
        patience: values.text("patience").to_owned(),
        max_future: values.text("max_future").to_owned(),
        max_past: values.text("max_past").to_owned(),
        max_samples,
        max_vehicle_memory: values.text("max_vehicle_memory").to_owned(),
        ..RecordsConfig::default()
    };
    let read = values.problems.len();
    match signals {
        None => {}
        Some(Value::Array(list)) => {
            let taken = list.into_iter().enumerate();
            let taken = taken.filter_map(|(i, value)| Some((i, signal(values, i, value)?)));
            (places, config.signal) = taken.unzip();
        }
        Some(_) => values.say("signal", "must be tables: [[signal]]"),
    }
    let methods = Methods::default();
    let built = match config.build() {
        Ok(schema) => methods.resolve(&schema).map(|_| schema),
        Err(mut problems) => {
            problems.extend(methods.unknown_of(&config));
            Err(problems)
        }
    };
    match built {
        Ok(schema) if values.problems.len() == before => (config, Some(schema)),
        Ok(_) => (config, None),
        Err(problems) => {
            let some_unread = values.problems.len() > read;
            for problem in problems {
                // How many there are is not known then.
                if !(some_unread && problem.path == "signal") {
                    values.say(&in_file(&problem.path, &places), problem.message);
                }
            }
            (config, None)
        }
    }
}

/// The path of a problem with the signal's place in the file.
fn in_file(path: &str, places: &[usize]) -> String {
    let found = || {
        let (place, rest) = path.strip_prefix("signal[")?.split_once(']')?;
        Some(format!("signal[{}]{rest}", places.get(place.parse::<usize>().ok()?)?))
    };
    found().unwrap_or_else(|| path.to_owned())
}

fn signal(values: &mut Values, i: usize, value: Value) -> Option<SignalConfig> {
    let path = format!("signal[{i}]");
    let Value::Table(mut table) = value else {
        values.say(&path, "must be a table");
        return None;
    };
    let before = values.problems.len();
    only(values, &path, &mut table, &SIGNAL);
    missing(values, &path, &table, &SIGNAL[..3]);
    if let Some(Value::Array(columns)) = table.get_mut("columns") {
        for (j, column) in columns.iter_mut().enumerate() {
            let path = format!("{path}.columns[{j}]");
            let Value::Table(column) = column else { continue };
            only(values, &path, column, &COLUMN);
            missing(values, &path, column, &COLUMN[..4]);
            if let Some(Value::Table(wire)) = column.get_mut("wire") {
                let path = format!("{path}.wire");
                only(values, &path, wire, &WIRE);
                missing(values, &path, wire, &WIRE);
            }
        }
    }
    match serde_path_to_error::deserialize::<_, SignalConfig>(Value::Table(table)) {
        Ok(config) => Some(config),
        // A missing key was said above.
        Err(_) if values.problems.len() > before => None,
        Err(error) => {
            let at = error.path().to_string();
            let path = if at == "." { path } else { format!("{path}.{at}") };
            let message = error.into_inner().message().replace('\n', "; ");
            values.say(&path, message);
            None
        }
    }
}

/// Takes out the keys that nobody knows, each with a problem.
fn only(values: &mut Values, path: &str, table: &mut Table, known: &[&str]) {
    table.retain(|key, _| {
        let keep = known.contains(&key);
        if !keep {
            values.say(&format!("{path}.{}", key.escape_debug()), "is no key of the configuration");
        }
        keep
    });
}

fn missing(values: &mut Values, path: &str, table: &Table, needed: &[&str]) {
    for key in needed.iter().filter(|key| !table.contains_key(**key)) {
        values.say(&format!("{path}.{key}"), "is missing");
    }
}
