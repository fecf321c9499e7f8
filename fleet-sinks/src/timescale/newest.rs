//! The newest samples of vehicles, in `vehicle_latest`.

use fleet_core::bind::{Newest, NewestStore};
use fleet_core::error::Result;
use fleet_core::sample::NewestSamples;
use fleet_core::schema::{Column, ColumnType};
use fleet_core::time::{YEAR_2000, YEAR_2200};
use fleet_core::{Error, Schema, VehicleId};
use hashbrown::HashMap;
use tokio::sync::Mutex;
use tokio_postgres::Statement;

use super::connect::{Connection, Connector};
use super::layout::{self, Later};
use super::sql;
use super::state::GROUP;
use super::value::Time;
use super::vehicles::VehicleIds;

/// Shows newest samples in `vehicle_latest`, over a connection of its own, so that nothing waits for it: a row that is
/// locked is passed over, and a commit does not wait for the disk.
///
/// It connects when it must, and again after an error. A call that is dropped half-way closes the connection.
pub struct TimescaleNewest {
    connector: Connector,
    schema: Schema,
    link: Mutex<Option<Link>>,
}

impl std::fmt::Debug for TimescaleNewest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TimescaleNewest").field("connector", &self.connector).finish_non_exhaustive()
    }
}

struct Link {
    connection: Connection,
    ids: VehicleIds,
    show: Statement,
}

impl TimescaleNewest {
    /// A store for vehicles of this schema. Connects when it is first used.
    pub fn new(connector: Connector, schema: &Schema) -> Self {
        Self { connector, schema: schema.clone(), link: Mutex::new(None) }
    }
}

impl NewestStore for TimescaleNewest {
    async fn show(&self, newest: &[Newest]) -> Result<Vec<VehicleId>> {
        let mut slot = self.link.lock().await;
        let mut link = match slot.take().filter(|link| !link.connection.is_closed()) {
            Some(link) => link,
            None => Box::pin(Link::open(&self.connector, &self.schema)).await?,
        };
        let mut left = Vec::new();
        for group in newest.chunks(GROUP) {
            left.extend(link.show(&self.schema, group).await?);
        }
        *slot = Some(link);
        Ok(left)
    }
}

impl Link {
    async fn open(connector: &Connector, schema: &Schema) -> Result<Self> {
        const WHAT: &str = "prepare to show the newest samples";
        let connection = connector.connect().await?;
        layout::require(&connection, schema, Later::Ignored).await?;
        if !layout::has(&connection).await?.samples {
            return Err(Error::configuration("vehicle_latest has no place for samples: run the setup"));
        }
        let client = connection.client();
        // What is lost when the server fails comes again with the next sample.
        client.batch_execute("set synchronous_commit = off").await.map_err(connection.failed(WHAT))?;
        let show = client.prepare(&sql::show(schema)).await.map_err(connection.failed(WHAT))?;
        Ok(Self { connection, ids: VehicleIds::default(), show })
    }

    /// The vehicles that others were writing to.
    async fn show(&mut self, schema: &Schema, group: &[Newest]) -> Result<Vec<VehicleId>> {
        let vehicles: Vec<_> = group.iter().map(|newest| (&newest.vehicle, newest.epoch)).collect();
        // An erased vehicle must not come into being again.
        let found = self.ids.find(&self.connection, &vehicles).await?;
        let known: HashMap<i32, &Newest> =
            found.into_iter().zip(group).filter_map(|(id, newest)| Some((id?, newest))).collect();
        let ids: Vec<i32> = known.keys().copied().collect();
        let epochs: Vec<i32> = known.values().map(|newest| newest.epoch).collect();
        let (times, values) = end_to_end(schema, known.values().map(|newest| &newest.samples));
        let [signals, columns] = [schema.signals().len(), schema.column_count()]
            .map(|count| i32::try_from(count).unwrap_or_default());
        let left = self.connection.client();
        let left = left.query(&self.show, &[&ids, &epochs, &times, &values, &signals, &columns]).await;
        let left = left.map_err(self.connection.failed("show the newest samples"))?;
        Ok(left.iter().filter_map(|row| Some(known.get(&row.get::<_, i32>(0))?.vehicle.clone())).collect())
    }
}

/// The times and values of samples in two lists, of each as many as the schema has signals and columns.
pub(super) fn end_to_end<'a>(
    schema: &Schema,
    samples: impl Iterator<Item = &'a NewestSamples>,
) -> (Vec<Option<Time>>, Vec<Option<f64>>) {
    let (mut times, mut values) = (Vec::new(), Vec::new());
    for of in samples {
        // A time that no sample can have would be the newest for ever.
        let time = |s: usize| {
            of.times.get(s).copied().flatten().filter(|time| (YEAR_2000..YEAR_2200).contains(time)).map(Time)
        };
        times.extend((0..schema.signals().len()).map(time));
        let value = |(c, column): (usize, &Column)| {
            let value = of.values.get(c).copied().flatten().filter(|value| !value.is_nan())?;
            // The view makes it a real: what is none would be an error for all who look.
            #[allow(clippy::cast_possible_truncation, reason = "the column is real by configuration")]
            Some(if column.kind == ColumnType::Real { f64::from(value as f32) } else { value })
        };
        values.extend(schema.columns().enumerate().map(value));
    }
    (times, values)
}
