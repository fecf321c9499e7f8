//! Takes one vehicle out of the database, for good.

use fleet_core::VehicleId;
use fleet_core::error::Result;
use fleet_core::time::{YEAR_2000, grid_at_or_before};
use tokio_postgres::Client;

use super::connect::Connector;
use super::layout::layout;
use super::partition::DAY;
use super::rollup::tables::delete;
use super::value::Time;

/// What was removed of a vehicle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ErasedRows {
    /// Rows of `telemetry`.
    pub records: u64,
    /// Rows of `trip`.
    pub trips: u64,
    /// Whether the database knew the vehicle.
    pub known: bool,
}

/// Raises the vehicle's epoch, so that nobody who holds it replaces anything any more; gives the new one,
/// if anybody ever claimed the vehicle.
///
/// # Errors
/// [`Unavailable`](fleet_core::ErrorKind::Unavailable) or
/// [`Configuration`](fleet_core::ErrorKind::Configuration).
pub async fn disown(connector: &Connector, vehicle: &VehicleId) -> Result<Option<i32>> {
    const DISOWN: &str = "update vehicle_latest l set epoch = l.epoch + 1 from vehicle v \
        where v.vin = $1 and l.vehicle_id = v.vehicle_id returning l.epoch";
    let connection = connector.connect().await?;
    let epoch = connection.client().query_opt(DISOWN, &[&vehicle.as_str()]).await;
    Ok(epoch.map_err(connection.failed("disown a vehicle"))?.map(|row| row.get(0)))
}

/// Removes a vehicle's records day by day, then its trips, state and name in one transaction. Roll-ups are made anew
/// without it, by the server or the [maintenance](super::maintain), where the database still has the rows of all
/// others; what they say of older times stays as it is.
///
/// A worker that still holds the vehicle writes more, see [`disown`].
///
/// # Errors
/// As [`disown`]. What was removed is gone; it may be repeated.
pub async fn erase(connector: &Connector, vehicle: &VehicleId) -> Result<ErasedRows> {
    let connection = connector.connect().await?;
    connection.unlimit_decompression().await?;
    let client = connection.client();
    let is_noted = layout(&connection).await?.noted;
    let erased = async {
        // Nobody waits for these: they lock nothing but the vehicle's records.
        let by_day = records_by_day(client, vehicle, is_noted).await?;
        client.batch_execute("begin; lock table vehicle_latest in row exclusive mode").await?;
        // Locked, so that nobody claims it meanwhile.
        let select = "select vehicle_id from vehicle where vin = $1 for update";
        let Some(row) = client.query_opt(select, &[&vehicle.as_str()]).await? else {
            client.batch_execute("rollback").await?;
            return Ok(ErasedRows::default());
        };
        let id: i32 = row.get(0);
        // What came since. The records first, as those do who merge: nobody waits in a circle.
        let last = client.query_one(&delete("vehicle_id = $1", is_noted), &[&id]).await?;
        let records = by_day + count(&last);
        client.execute("delete from vehicle_latest where vehicle_id = $1", &[&id]).await?;
        let trips = client.execute("delete from trip where vehicle_id = $1", &[&id]).await?;
        client.execute("delete from vehicle where vehicle_id = $1", &[&id]).await?;
        client.batch_execute("commit").await?;
        Ok(ErasedRows { records, trips, known: true })
    };
    let erased: std::result::Result<_, tokio_postgres::Error> = erased.await;
    erased.map_err(connection.failed("erase a vehicle"))
}

fn count(row: &tokio_postgres::Row) -> u64 {
    row.get::<_, i64>(0).unsigned_abs()
}

/// Removes the records, a day in each transaction, the oldest first; how many.
async fn records_by_day(
    client: &Client,
    vehicle: &VehicleId,
    is_noted: bool,
) -> Result<u64, tokio_postgres::Error> {
    const FIND: &str = "select min(t.ts), max(t.ts) from telemetry t join vehicle v using (vehicle_id) \
        where v.vin = $1 and t.ts >= $2";
    const OF_DAY: &str =
        "ts >= $2 and ts < $3 and vehicle_id = (select vehicle_id from vehicle where vin = $1)";
    let delete = delete(OF_DAY, is_noted);
    let (mut records, mut from, mut until) = (0, YEAR_2000, None);
    loop {
        let found = client.query_one(FIND, &[&vehicle.as_str(), &Time(from)]).await?;
        let (Some(Time(first)), Some(Time(last))) = (found.get(0), found.get(1)) else { return Ok(records) };
        // What somebody writes meanwhile is newer.
        if first > *until.get_or_insert(last) {
            return Ok(records);
        }
        let end = grid_at_or_before(first, DAY) + DAY;
        let deleted = client.query_one(&delete, &[&vehicle.as_str(), &Time(first), &Time(end)]).await?;
        records += count(&deleted);
        from = end;
    }
}
