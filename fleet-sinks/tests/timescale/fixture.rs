//! Batches to store and tables to look at.

use std::collections::BTreeMap;

use fleet_core::batch::{Batch, BatchBuilder, Quality, Record as Stored, Row};
use fleet_core::schema::{ColumnType, Schema};
use fleet_core::time::{Micros, SECOND};
use fleet_core::{Sink, VehicleId};
use fleet_sinks::timescale::{Edition, SetupOptions, TimescaleSink, setup};
use tokio_postgres::Client;

use crate::server::Server;

/// Noon of 1 February 2026.
pub(crate) const NOON: Micros = 1_769_947_200 * SECOND;
pub(crate) const NONE: f64 = f64::NAN;

pub(crate) fn vin(n: usize) -> VehicleId {
    VehicleId::new(&format!("V{n:04}")).unwrap()
}

pub(crate) type Table = BTreeMap<(VehicleId, Micros), Stored>;

/// A row of the default schema: position, speed, fuel and brake, where there is a value with its
/// quality.
#[derive(Clone, Copy)]
pub(crate) struct Record {
    pub(crate) vehicle: usize,
    pub(crate) epoch: i32,
    pub(crate) ts: Micros,
    pub(crate) signals: [Option<(f64, Quality)>; 4],
    pub(crate) correction: bool,
}

/// A new row with nothing but a measured speed.
pub(crate) fn speed(vehicle: usize, ts: Micros, value: f64) -> Record {
    let signals = [None, Some((value, Quality::Measured)), None, None];
    Record { vehicle, epoch: 1, ts, signals, correction: false }
}

impl Record {
    pub(crate) fn epoch(self, epoch: i32) -> Self {
        Self { epoch, ..self }
    }

    pub(crate) fn correction(self) -> Self {
        Self { correction: true, ..self }
    }

    pub(crate) fn with(mut self, signal: usize, value: f64, quality: Quality) -> Self {
        self.signals[signal] = Some((value, quality));
        self
    }

    pub(crate) fn without(mut self, signal: usize) -> Self {
        self.signals[signal] = None;
        self
    }
}

/// Seals records into a batch.
pub(crate) fn seal(builder: &mut BatchBuilder, records: &[Record]) -> Batch {
    for record in records {
        let key = builder.vehicle(&vin(record.vehicle), record.epoch);
        let value = |signal: usize| record.signals[signal].map_or(NONE, |(v, _)| v);
        let quality = record.signals.iter().enumerate().map(|(i, s)| s.map_or(0, |(_, q)| q.at(i))).sum();
        let values = [value(0), -value(0), value(1), value(2), value(3)];
        let (ts, correction) = (record.ts, record.correction);
        builder.push(key, Row { ts, values: &values, quality, correction });
    }
    builder.seal().unwrap()
}

/// A database with tables, and a sink into it.
pub(crate) struct Fixture {
    pub(crate) server: Server,
    pub(crate) schema: Schema,
    pub(crate) builder: BatchBuilder,
    pub(crate) sink: TimescaleSink,
    pub(crate) client: Client,
    pub(crate) edition: Edition,
}

impl Fixture {
    pub(crate) async fn on(server: Server) -> Self {
        let schema = Schema::default();
        let connector = server.connector();
        let edition = setup(&connector, &schema, &SetupOptions::default()).await.unwrap();
        let sink = TimescaleSink::new(connector, &schema);
        let client = server.client().await;
        let builder = BatchBuilder::new(&schema);
        Self { server, schema, builder, sink, client, edition }
    }

    /// Stores records in one batch, all of which must be taken.
    pub(crate) async fn store(&mut self, records: &[Record]) {
        let batch = seal(&mut self.builder, records);
        let progress = self.sink.accept(&batch).await.unwrap();
        assert_eq!(progress.durable, batch.sequence());
        assert!(progress.rejected.is_empty(), "{:?}", progress.rejected);
    }

    /// Empties the tables and forgets the ids.
    pub(crate) async fn empty(&mut self) {
        self.client.batch_execute("truncate telemetry, vehicle_latest, trip, vehicle").await.unwrap();
        if self.edition != Edition::Community {
            let rollups = "truncate fleet_touched, fleet_rollup_minute, fleet_rollup_hour";
            self.client.batch_execute(rollups).await.unwrap();
        }
        self.sink = TimescaleSink::new(self.server.connector(), &self.schema);
        self.builder = BatchBuilder::new(&self.schema);
    }

    pub(crate) async fn table(&self) -> Table {
        table(&self.client, &self.schema).await
    }

    /// The speed and the quality of a row.
    pub(crate) async fn speed(&self, vehicle: usize, ts: Micros) -> Option<(Option<f64>, i64)> {
        self.table().await.get(&(vin(vehicle), ts)).map(|row| (row.values[2], row.quality))
    }
}

/// SplitMix64: the same seed gives the same test.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    /// A record of one of few vehicles and instants, so that many meet.
    pub(crate) fn record(&mut self) -> Record {
        let mut record = speed(self.below(4) as usize, NOON + self.below(30) as i64 * 10 * SECOND, 0.0);
        for signal in &mut record.signals {
            let quality = [Quality::Measured, Quality::Interpolated, Quality::Held][self.below(3) as usize];
            *signal = (self.below(2) == 0).then(|| (self.below(3) as f64 + 0.1, quality));
        }
        record.correction = self.below(3) == 0;
        record
    }
}

/// What is stored, in the form of the memory sink.
pub(crate) async fn table(client: &Client, schema: &Schema) -> Table {
    let columns: String = schema.columns().map(|c| format!("t.\"{}\", ", c.name)).collect();
    let select = format!(
        "select vin, (extract(epoch from ts) * 1000000)::bigint, {columns} quality \
         from telemetry t join vehicle using (vehicle_id)"
    );
    let rows = client.query(&select, &[]).await.unwrap();
    rows.iter()
        .map(|row| {
            let values = schema.columns().enumerate().map(|(i, column)| match column.kind {
                ColumnType::Double => row.get::<_, Option<f64>>(i + 2),
                ColumnType::Real => row.get::<_, Option<f32>>(i + 2).map(f64::from),
            });
            let stored = Stored { values: values.collect(), quality: row.get(schema.column_count() + 2) };
            ((VehicleId::new(row.get(0)).unwrap(), row.get(1)), stored)
        })
        .collect()
}
