//! A signal and a method of one's own: tyre pressures, and the lowest of each interval.
//! `cargo run -p fleet-examples --example own_method`

use std::sync::Arc;

use fleet_core::Micros;
use fleet_core::align::{At, Interpolator, Methods, Reach, View};
use fleet_core::batch::Quality;
use fleet_core::schema::RecordsConfig;
use fleet_core::time::YEAR_2200;
use fleet_examples::align_file::{self, Error};

/// The lowest value of the interval that ends at the instant, that of the sample before it included: a
/// leak must not hide between two records.
#[derive(Debug)]
struct Lowest;

impl Interpolator for Lowest {
    // One sample before the interval, all in it, and one after it, which proves that there is no gap.
    fn reach(&self, interval: Micros) -> Reach {
        Reach { before: 1, after: 1, look_back: interval }
    }

    fn value(&self, samples: View<'_>, at: At<'_>, out: &mut [f64]) -> Option<Quality> {
        let first = samples.count_before(at.t - at.interval + 1).checked_sub(1)?;
        let after = samples.count_before(at.t);
        if !(first..after).all(|position| samples.is_bridged(position, at.max_gap)) {
            return None;
        }
        let hit = usize::from(samples.time(after) == Some(at.t));
        for (column, out) in out.iter_mut().enumerate() {
            let values = (first..after + hit).filter_map(|i| samples.get(i)).map(|s| s.value(column));
            *out = values.fold(f64::INFINITY, f64::min);
        }
        Some(Quality::Interpolated)
    }

    // A sample on the instant is one of several, not the record's value.
    fn keeps_hits(&self) -> bool {
        false
    }
}

const CONFIG: &str = r#"
    interval = "10s"
    [[signal]]
    name = "tyre"
    interpolation = "lowest"
    columns = [
        { name = "tyre_fl_kpa", unit = "kPa", min = 0, max = 1000 },
        { name = "tyre_fr_kpa", unit = "kPa", min = 0, max = 1000 },
        { name = "tyre_rl_kpa", unit = "kPa", min = 0, max = 1000 },
        { name = "tyre_rr_kpa", unit = "kPa", min = 0, max = 1000 },
    ]
"#;

const SAMPLES: &str = "\
vehicle,signal,ts_ms,value,value2,value3,value4
CAR-1,tyre,1780300799000,250,251,240,241
CAR-1,tyre,1780300803000,250,251,239,241
CAR-1,tyre,1780300807000,250,198,240,241
CAR-1,tyre,1780300811000,250,231,240,241
CAR-1,tyre,1780300821000,250,230,240,240
";

fn main() -> Result<(), Error> {
    let config: RecordsConfig = toml::from_str(CONFIG)?;
    let schema = config.build().map_err(|problems| format!("{problems:?}"))?;
    let mut methods = Methods::default();
    methods.register("lowest", Arc::new(Lowest));
    let (table, _) = align_file::align(&schema, &methods, SAMPLES.as_bytes(), YEAR_2200)?;
    for (vehicle, rows) in &table {
        for (ts, record) in rows {
            println!("{vehicle}  {}  {:?}", fleet_core::time::display(*ts), record.values);
        }
    }
    Ok(())
}
