//! What the page is told, as JSON. Times are milliseconds since 1970.

use fleet_core::VehicleId;
use fleet_core::batch::{Quality, Record};
use fleet_core::schema::Schema;
use fleet_core::time::Micros;
use fleet_sinks::timescale::Fleet;
use serde_json::{Value, json};

use super::Counts;

const MILLI: Micros = 1_000;

/// The signal that the map draws: the first one that is interpolated along great circles has latitude
/// and longitude.
fn position(schema: &Schema) -> Option<usize> {
    schema.signals().iter().position(|s| s.interpolation == "great_circle" && s.columns.len() == 2)
}

/// The signals, as configured.
pub(super) fn schema(schema: &Schema, scope: &str) -> Value {
    let signals = schema.signals().iter().map(|signal| {
        let column = |c: &fleet_core::schema::Column| {
            json!({ "name": c.name, "unit": c.unit, "min": c.min, "max": c.max })
        };
        let columns: Vec<_> = signal.columns.iter().map(column).collect();
        json!({ "name": signal.name, "interpolation": signal.interpolation, "columns": columns })
    });
    json!({
        "scope": scope,
        "interval": schema.interval() / MILLI,
        "position": position(schema),
        "signals": signals.collect::<Vec<_>>(),
    })
}

/// The fleet at `now`: a vehicle is its name, 1 if it is on, its newest record's time and position.
pub(super) fn fleet(schema: &Schema, now: Micros, fleet: &Fleet, counts: &[Counts]) -> Value {
    let position = position(schema).map(|signal| schema.signals()[signal].column_range());
    let newest = fleet.newest.iter().map(|newest| {
        let mut vehicle = vec![json!(newest.vehicle), json!(i32::from(newest.on)), json!(newest.ts / MILLI)];
        if let Some(columns) = &position {
            vehicle.extend(columns.clone().map(|c| json!(newest.record.values[c])));
        }
        Value::Array(vehicle)
    });
    let counts = counts.iter().map(|c| (c.process.clone(), json!([c.messages, c.records])));
    json!({
        "now": now / MILLI,
        "vehicles": fleet.vehicles,
        "on": fleet.on,
        "newest": newest.collect::<Vec<_>>(),
        "counts": counts.collect::<serde_json::Map<_, _>>(),
    })
}

/// One vehicle's records, column by column; `how` has a text per signal with a letter per record.
pub(super) fn vehicle(schema: &Schema, vehicle: &VehicleId, records: &[(Micros, Record)]) -> Value {
    let times: Vec<_> = records.iter().map(|(ts, _)| ts / MILLI).collect();
    let column = |c: usize| records.iter().map(|(_, r)| json!(r.values[c])).collect::<Vec<_>>();
    let how = |signal: usize| records.iter().map(|(_, r)| letter(r.quality, signal)).collect::<String>();
    json!({
        "vehicle": vehicle,
        "times": times,
        "columns": (0..schema.column_count()).map(column).collect::<Vec<_>>(),
        "how": (0..schema.signals().len()).map(how).collect::<Vec<_>>(),
    })
}

fn letter(quality: i64, signal: usize) -> char {
    match Quality::of(quality, signal) {
        Quality::Missing => '-',
        Quality::Measured => 'm',
        Quality::Interpolated => 'i',
        Quality::Held => 'h',
    }
}

#[cfg(test)]
mod tests {
    use fleet_core::schema::RecordsConfig;

    use super::*;

    #[test]
    fn records_are_told_column_by_column() {
        let schema = Schema::default();
        let quality = Quality::Measured.at(0) | Quality::Interpolated.at(1) | Quality::Held.at(3);
        let values = vec![Some(48.5), Some(11.25), Some(50.0), None, Some(80.5)];
        let records = [(5_000_000, Record { values, quality })];
        let told = vehicle(&schema, &VehicleId::new("V1").unwrap(), &records);
        let expected = json!({
            "vehicle": "V1",
            "times": [5000],
            "columns": [[48.5], [11.25], [50.0], [null], [80.5]],
            "how": ["m", "i", "-", "h"],
        });
        assert_eq!(told, expected);
    }

    #[test]
    fn without_a_position_there_is_no_place_on_the_map() {
        let mut config = RecordsConfig::default();
        config.signal.remove(0);
        let schema = config.build().unwrap();
        assert_eq!(super::schema(&schema, "x")["position"], Value::Null);
        assert_eq!(super::schema(&Schema::default(), "x")["position"], json!(0));
        let record = Record { values: vec![Some(1.0); schema.column_count()], quality: 0 };
        let newest = fleet_sinks::timescale::Newest {
            vehicle: VehicleId::new("V1").unwrap(),
            on: true,
            ts: 7_000,
            record,
        };
        let seen = Fleet { vehicles: 1, on: 1, newest: vec![newest] };
        let told = fleet(&schema, 9_000, &seen, &[]);
        assert_eq!(told["newest"], json!([["V1", 1, 7]]));
    }
}
