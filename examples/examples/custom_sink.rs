//! A sink of one's own: keeps the top speed of each vehicle.
//! `cargo run -p fleet-examples --example custom_sink`
//!
//! A sink is given Arrow batches and says up to which one everything is durable.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use fleet_core::arrow_array::Array;
use fleet_core::arrow_array::cast::AsArray;
use fleet_core::arrow_array::types::{Float32Type, Int32Type, TimestampMicrosecondType};
use fleet_core::error::{Error, Result};
use fleet_core::sink::Progress;
use fleet_core::{Batch, Micros, Schema, Sink};
use fleet_examples::{memory_pipeline, released};

/// Vehicle → its top speed in km/h, and when.
type Records = Arc<Mutex<BTreeMap<String, (f32, Micros)>>>;

struct TopSpeed(Records);

impl Sink for TopSpeed {
    async fn accept(&mut self, batch: &Batch) -> Result<Progress> {
        let record = batch.record();
        let speeds = record
            .column_by_name("speed_kmh")
            .and_then(|c| c.as_primitive_opt::<Float32Type>())
            .ok_or_else(|| Error::configuration("the schema has no real column speed_kmh"))?;
        let times = record.column(0).as_primitive::<TimestampMicrosecondType>();
        let vehicles = record.column(1).as_dictionary::<Int32Type>();
        let mut top = self.0.lock().map_err(|_| Error::internal("a reader of the records panicked"))?;
        for row in (0..batch.len()).filter(|&row| speeds.is_valid(row)) {
            let Some(key) = vehicles.key(row) else { continue };
            let best = top.entry(batch.vehicles()[key].id.to_string()).or_default();
            if speeds.value(row) > best.0 {
                *best = (speeds.value(row), times.value(row));
            }
        }
        // In memory there is nothing more durable to wait for.
        Ok(Progress::up_to(batch.sequence()))
    }

    async fn flush(&mut self) -> Result<Progress> {
        Ok(Progress::default())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let records = Records::default();
    let pipeline = memory_pipeline(&Schema::default(), TopSpeed(Arc::clone(&records)), 3)?;
    let all_released = released(pipeline.counters(), 3);
    pipeline.run(all_released).await?;
    for (vehicle, (speed, at)) in &*records.lock().map_err(|_| "a sink panicked")? {
        println!("{vehicle}  {speed:5.1} km/h  {}", fleet_core::time::display(*at));
    }
    Ok(())
}
