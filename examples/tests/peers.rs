//! Records against those of NumPy, pandas and SciPy, over generated samples.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use fleet_core::align::Methods;
use fleet_core::schema::RecordsConfig;
use fleet_core::time::YEAR_2200;
use fleet_examples::align_file;
use fleet_worker::local::python_packages;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

const INTERVAL_MS: i64 = 1_000;
const MAX_GAP_MS: i64 = 20_000;

/// A vehicle's samples of every signal, each signal named after its method.
const SIGNALS: [&str; 7] =
    ["great_circle", "linear", "heading", "pchip", "nearest", "previous", "time_weighted_mean"];

fn config() -> RecordsConfig {
    // Wide, so that no sample is late: the order is not what is compared here.
    let mut text =
        "interval = \"1s\"\nwindow = \"60m\"\nmax_samples = 65536\nmax_vehicle_memory = \"1GiB\"\n"
            .to_owned();
    for name in SIGNALS {
        let method = if name == "heading" { "linear" } else { name };
        let columns = match name {
            "great_circle" => {
                "{ name = \"latitude\", unit = \"deg\", min = -90, max = 90 }, \
                 { name = \"longitude\", unit = \"deg\", min = -180, max = 180 }"
            }
            "heading" => "{ name = \"heading\", unit = \"deg\", min = 0, max = 360, wraps = true }",
            _ => &format!("{{ name = \"{name}\", unit = \"1\", min = -1e6, max = 1e6, type = \"double\" }}"),
        };
        write!(
            text,
            "[[signal]]\nname = \"{name}\"\ncolumns = [{columns}]\ninterpolation = \"{method}\"\n\
             max_gap = \"{MAX_GAP_MS}ms\"\n"
        )
        .unwrap();
    }
    toml::from_str(&text).unwrap()
}

/// Steps in ms, often short, some beyond the gap, some 0 for two values at one instant; and values.
fn samples() -> impl Strategy<Value = Vec<(i64, f64, f64)>> {
    let step = proptest::prop_oneof![
        12 => 1_i64..5_000,
        4 => (1_i64..20).prop_map(|s| s * 500),
        2 => 15_000_i64..40_000,
        1 => proptest::strategy::Just(0),
        1 => proptest::strategy::Just(MAX_GAP_MS),
    ];
    proptest::collection::vec((step, -90.0..90.0_f64, 0.0..360.0_f64), 1..60)
}

fn write_samples(vehicles: usize) -> String {
    let mut runner = TestRunner::deterministic();
    let mut text = "vehicle,signal,ts_ms,value,value2\n".to_owned();
    for vehicle in 0..vehicles {
        for signal in SIGNALS {
            let drawn = samples().new_tree(&mut runner).unwrap().current();
            let mut ms = 1_700_000_000_000 + 700 * i64::try_from(vehicle).unwrap();
            for (step, small, turn) in drawn {
                ms += step;
                let values = match signal {
                    "great_circle" => format!("{small},{}", turn - 180.0),
                    "heading" => format!("{turn},"),
                    _ => format!("{},", small * 100.0),
                };
                writeln!(text, "V{vehicle},{signal},{ms},{values}").unwrap();
            }
        }
    }
    text
}

/// The packages of `requirements.txt`, fetched once.
fn packages() -> PathBuf {
    let fetched = python_packages(include_str!("peers/requirements.txt"));
    tokio::runtime::Runtime::new().unwrap().block_on(fetched).unwrap()
}

/// What the script says of the table of these samples; `Err` if it finds differences.
fn compare(samples: &str, spoil: impl FnOnce(&mut align_file::Table)) -> Result<String, String> {
    let schema = config().build().unwrap();
    let methods = Methods::default();
    let (mut table, report) = align_file::align(&schema, &methods, samples.as_bytes(), YEAR_2200).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    spoil(&mut table);
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("samples.csv"), folder.path().join("records.csv"));
    std::fs::write(&input, samples).unwrap();
    align_file::write(&schema, &table, &output).unwrap();
    let mut python = Command::new("python3");
    python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/compare.py"));
    python.args([input, output]).args([INTERVAL_MS.to_string(), MAX_GAP_MS.to_string()]);
    let done = python.env("PYTHONPATH", packages()).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    if done.status.success() { Ok(said) } else { Err(said) }
}

#[test]
fn numpy_pandas_and_scipy_agree() {
    let said = compare(&write_samples(150), |_| {}).unwrap_or_else(|said| panic!("{said}"));
    let values: u64 = said.split_whitespace().next().unwrap().parse().unwrap();
    assert!(values > 50_000, "{said}");
}

#[test]
fn a_wrong_value_is_seen() {
    let said = compare(&write_samples(2), |table| {
        let record = table.values_mut().flat_map(|rows| rows.values_mut()).nth(20).unwrap();
        let value = record.values.iter_mut().flatten().next().unwrap();
        *value += 1e-3;
    });
    assert!(said.unwrap_err().contains(" is not "));
}
