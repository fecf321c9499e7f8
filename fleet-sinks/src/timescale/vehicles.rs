//! From a vehicle's name to its id in the database.

use fleet_core::VehicleId;
use fleet_core::error::{Error, Result};
use hashbrown::HashMap;

use super::connect::Connection;

/// More than a cell's vehicles; past it the memory is worth more than the look-ups.
const MOST: usize = 100_000;

/// Ids that were looked up on one connection: a new one may lead to another server.
#[derive(Debug, Default)]
pub(super) struct VehicleIds {
    known: HashMap<VehicleId, Known>,
}

/// An id holds for one claim: an operator may have deleted the vehicle before the next.
#[derive(Debug, Clone, Copy)]
struct Known {
    epoch: i32,
    id: i32,
}

impl VehicleIds {
    pub(super) fn clear(&mut self) {
        self.known.clear();
    }

    pub(super) fn insert(&mut self, vehicle: &VehicleId, epoch: i32, id: i32) {
        if self.known.len() >= MOST {
            self.known.clear();
        }
        self.known.insert(vehicle.clone(), Known { epoch, id });
    }

    /// The ids of these vehicles under these claims, in their order; they are made where they are new.
    pub(super) async fn resolve(
        &mut self,
        connection: &Connection,
        vehicles: &[(&VehicleId, i32)],
    ) -> Result<Vec<i32>> {
        let mut ids = self.known(vehicles);
        let missing = unknown(vehicles, &ids);
        if !missing.is_empty() {
            let found = look_up(connection, &missing).await?;
            self.learn(vehicles, &mut ids, &found);
        }
        ids.into_iter().collect::<Option<_>>().ok_or_else(vanished)
    }

    /// The same of vehicles that are there; none is made.
    pub(super) async fn find(
        &mut self,
        connection: &Connection,
        vehicles: &[(&VehicleId, i32)],
    ) -> Result<Vec<Option<i32>>> {
        let mut ids = self.known(vehicles);
        let missing = unknown(vehicles, &ids);
        if !missing.is_empty() {
            let found = select(connection, &missing).await?;
            self.learn(vehicles, &mut ids, &found);
        }
        Ok(ids)
    }

    fn known(&self, vehicles: &[(&VehicleId, i32)]) -> Vec<Option<i32>> {
        let known = |(vehicle, epoch): &(&VehicleId, i32)| {
            self.known.get(*vehicle).filter(|k| k.epoch == *epoch).map(|k| k.id)
        };
        vehicles.iter().map(known).collect()
    }

    fn learn(
        &mut self,
        vehicles: &[(&VehicleId, i32)],
        ids: &mut [Option<i32>],
        found: &HashMap<String, i32>,
    ) {
        for ((vehicle, epoch), id) in vehicles.iter().zip(ids).filter(|(_, id)| id.is_none()) {
            *id = found.get(vehicle.as_str()).copied();
            if let Some(id) = *id {
                self.insert(vehicle, *epoch, id);
            }
        }
    }
}

fn unknown<'a>(vehicles: &[(&'a VehicleId, i32)], ids: &[Option<i32>]) -> Vec<&'a str> {
    vehicles
        .iter()
        .zip(ids)
        .filter(|(_, id)| id.is_none())
        .map(|((vehicle, _), _)| vehicle.as_str())
        .collect()
}

fn vanished() -> Error {
    Error::unavailable("a vehicle was deleted from the database while it was looked up")
}

/// The ids of these vehicles, which are made where they are new.
pub(super) async fn look_up(connection: &Connection, names: &[&str]) -> Result<HashMap<String, i32>> {
    let mut found = select(connection, names).await?;
    let new: Vec<&str> = names.iter().copied().filter(|name| !found.contains_key(*name)).collect();
    if !new.is_empty() {
        // Only what is missing, because a conflict uses up an id too; in order, against deadlocks.
        connection
            .client()
            .execute(
                "insert into vehicle (vin) select vin from unnest($1::text[]) vin order by vin \
                 on conflict (vin) do nothing",
                &[&new],
            )
            .await
            .map_err(connection.failed("add vehicles"))?;
        found.extend(select(connection, &new).await?);
    }
    Ok(found)
}

async fn select(connection: &Connection, names: &[&str]) -> Result<HashMap<String, i32>> {
    let rows = connection
        .client()
        .query("select vin, vehicle_id from vehicle where vin = any($1)", &[&names])
        .await
        .map_err(connection.failed("look vehicles up"))?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
