//! Draws `docs/methods.svg`: what each method makes of the same samples.
//! `cargo run -p fleet-examples --example methods_svg > docs/methods.svg`

use std::collections::BTreeMap;
use std::fmt::Write as _;

use fleet_core::align::Methods;
use fleet_core::schema::RecordsConfig;
use fleet_core::time::YEAR_2200;
use fleet_examples::align_file::{self, Error};

/// `(second, value)`: a rise, a step, a plateau, a gap that is too long, a peak.
const SAMPLES: [(f64, f64); 15] = [
    (1.0, 10.0),
    (6.0, 14.0),
    (13.0, 30.0),
    (17.0, 82.0),
    (22.0, 84.0),
    (31.0, 84.0),
    (36.0, 60.0),
    (43.0, 55.0),
    (75.0, 20.0),
    (79.0, 24.0),
    (86.0, 70.0),
    (90.0, 92.0),
    (95.0, 66.0),
    (104.0, 40.0),
    (109.0, 42.0),
];

const MAX_GAP: &str = "20s";

const METHODS: [&str; 5] = ["linear", "pchip", "nearest", "previous", "time_weighted_mean"];

/// Values by second, every `interval` tenths of a second.
fn values(method: &str, interval: i64) -> Result<BTreeMap<i64, f64>, Error> {
    let config = format!(
        "interval = \"{}ms\"\nwindow = \"60m\"\n[[signal]]\nname = \"x\"\ninterpolation = \"{method}\"\n\
         max_gap = \"{MAX_GAP}\"\ncolumns = [{{ name = \"x\", unit = \"1\", min = 0, max = 100 }}]",
        interval * 100
    );
    let config: RecordsConfig = toml::from_str(&config)?;
    let schema = config.build().map_err(|problems| format!("{problems:?}"))?;
    let mut text = "vehicle,signal,ts_ms,value\n".to_owned();
    for (second, value) in SAMPLES {
        writeln!(text, "V,x,{},{value}", START + second * 1e3)?;
    }
    let (table, _) = align_file::align(&schema, &Methods::default(), text.as_bytes(), YEAR_2200)?;
    let rows = table.into_values().flatten();
    Ok(rows.filter_map(|(ts, row)| Some(((ts - START as i64 * 1_000) / 100_000, row.values[0]?))).collect())
}

/// Milliseconds; on the grid.
const START: f64 = 1_700_000_000_000.0;

const WIDTH: f64 = 720.0;
const PANEL: f64 = 104.0;

fn x(tenths: f64) -> f64 {
    130.0 + tenths / 1_100.0 * (WIDTH - 150.0)
}

fn y(panel: usize, value: f64) -> f64 {
    panel as f64 * PANEL + 96.0 - value * 0.84
}

fn main() -> Result<(), Error> {
    let height = PANEL * METHODS.len() as f64 + 26.0;
    println!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">"
    );
    println!("<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>");
    for (panel, method) in METHODS.iter().enumerate() {
        let base = y(panel, 0.0);
        println!(
            "<text x=\"8\" y=\"{}\" fill=\"#222\">{}</text>",
            base - 40.0,
            method.replace("time_weighted_", "time-weighted ")
        );
        println!("<path d=\"M{} {base}H{}\" stroke=\"#ccc\"/>", x(0.0), x(1_100.0));
        draw_curve(panel, &values(method, if *method == "time_weighted_mean" { 100 } else { 1 })?, method);
        for (tenths, value) in values(method, 100)? {
            let (x, y) = (x(tenths as f64), y(panel, value));
            println!(
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"7\" height=\"7\" fill=\"#d95f02\"/>",
                x - 3.5,
                y - 3.5
            );
        }
        for (second, value) in SAMPLES {
            println!(
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"none\" stroke=\"#222\"/>",
                x(second * 10.0),
                y(panel, value)
            );
        }
    }
    let foot = height - 9.0;
    for second in (0..=110).step_by(10) {
        println!(
            "<text x=\"{:.1}\" y=\"{foot}\" text-anchor=\"middle\" fill=\"#666\">{second} s</text>",
            x(f64::from(second) * 10.0)
        );
    }
    println!("</svg>");
    Ok(())
}

/// A line where neighbouring tenths have values; over a mean's interval its level.
fn draw_curve(panel: usize, values: &BTreeMap<i64, f64>, method: &str) {
    let mut path = String::new();
    let mut last = None;
    for (&tenths, &value) in values {
        let (x, y) = (|t: i64| x(t as f64), y(panel, value));
        if method == "time_weighted_mean" {
            let _ = write!(path, "M{:.1} {y:.1}H{:.1}", x(tenths - 100), x(tenths));
        } else {
            let step = if last == Some(tenths - 1) { 'L' } else { 'M' };
            let _ = write!(path, "{step}{:.1} {y:.1}", x(tenths));
        }
        last = Some(tenths);
    }
    println!("<path d=\"{path}\" fill=\"none\" stroke=\"#1b6ca8\" stroke-width=\"1.5\"/>");
}
