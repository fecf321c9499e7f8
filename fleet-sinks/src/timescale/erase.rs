//! Takes one vehicle out of the database, for good.

use fleet_core::VehicleId;
use fleet_core::error::Result;

use super::connect::Connector;

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

/// Removes a vehicle's records, trips, state and name, in one transaction. What roll-ups say of the whole
/// fleet stays as it is.
///
/// A worker that still holds the vehicle writes more, see [`disown`].
///
/// # Errors
/// As [`disown`]; nothing is removed then.
pub async fn erase(connector: &Connector, vehicle: &VehicleId) -> Result<ErasedRows> {
    let connection = connector.connect().await?;
    connection.unlimit_decompression().await?;
    let client = connection.client();
    let erased = async {
        client.batch_execute("begin").await?;
        // Locked, so that nobody claims it meanwhile.
        let select = "select vehicle_id from vehicle where vin = $1 for update";
        let Some(row) = client.query_opt(select, &[&vehicle.as_str()]).await? else {
            client.batch_execute("rollback").await?;
            return Ok(ErasedRows::default());
        };
        let id: i32 = row.get(0);
        // The state first, as those do who merge: nobody waits in a circle.
        client.execute("delete from vehicle_latest where vehicle_id = $1", &[&id]).await?;
        let records = client.execute("delete from telemetry where vehicle_id = $1", &[&id]).await?;
        let trips = client.execute("delete from trip where vehicle_id = $1", &[&id]).await?;
        client.execute("delete from vehicle where vehicle_id = $1", &[&id]).await?;
        client.batch_execute("commit").await?;
        Ok(ErasedRows { records, trips, known: true })
    };
    let erased: std::result::Result<_, tokio_postgres::Error> = erased.await;
    erased.map_err(connection.failed("erase a vehicle"))
}
