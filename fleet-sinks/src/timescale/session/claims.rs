//! Rows are written only under the newest claim of their vehicle.
//!
//! A transaction reads the claims, writes, then locks them and looks again, and commits at once: a claim that came
//! meanwhile has it rolled back, and one that comes later waits for the commit, for a moment. So nobody who has
//! lost a vehicle writes over what the next holder wrote, and nobody waits for a long merge to claim a vehicle or
//! to save its state.

use hashbrown::HashSet;

use super::{Fault, Load, Session};

/// Which vehicles of a load are still those of its claims.
#[derive(Debug)]
pub(super) struct Claims {
    /// By their place in the load.
    fresh: HashSet<usize>,
}

impl Claims {
    pub(super) fn is_fresh(&self, vehicle: usize) -> bool {
        self.fresh.contains(&vehicle)
    }

    /// The ids of those that are, in the order in which everybody locks them.
    pub(super) fn ids(&self, load: Load<'_>) -> Vec<i32> {
        let mut ids: Vec<i32> = self.fresh.iter().map(|vehicle| load.ids[*vehicle]).collect();
        ids.sort_unstable();
        ids
    }
}

impl Session {
    /// Reads the claims of these vehicles of a load.
    pub(super) async fn claims(
        &self,
        load: Load<'_>,
        vehicles: impl Iterator<Item = usize>,
    ) -> Result<Claims, Fault> {
        let mut claims = Claims { fresh: vehicles.collect() };
        let newer = self.newer(load, &claims, "").await?;
        claims.fresh.retain(|vehicle| !newer.contains(&load.ids[*vehicle]));
        Ok(claims)
    }

    /// Locks the claims until the transaction ends: whether none of them is newer by now.
    pub(super) async fn still_hold(&self, load: Load<'_>, claims: &Claims) -> Result<bool, Fault> {
        Ok(self.newer(load, claims, "order by vehicle_id for share").await?.is_empty())
    }

    /// The ids of those vehicles that were claimed since; one that never was is anyone's.
    async fn newer(&self, load: Load<'_>, claims: &Claims, locking: &str) -> Result<HashSet<i32>, Fault> {
        let select =
            format!("select vehicle_id, epoch from vehicle_latest where vehicle_id = any($1) {locking}");
        let found = self.connection.client().query(&select, &[&claims.ids(load)]).await;
        let found = found.map_err(|e| self.fault("look at the claims", &e))?;
        let epochs: hashbrown::HashMap<i32, i32> = found.iter().map(|row| (row.get(0), row.get(1))).collect();
        let is_newer = |vehicle: &&usize| {
            epochs.get(&load.ids[**vehicle]).is_some_and(|epoch| *epoch > load.vehicles[**vehicle].epoch)
        };
        Ok(claims.fresh.iter().filter(is_newer).map(|vehicle| load.ids[*vehicle]).collect())
    }
}
