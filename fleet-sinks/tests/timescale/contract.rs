//! The contract of sinks, kept on PostgreSQL and on TimescaleDB.

use std::collections::BTreeMap;

use fleet_core::VehicleId;
use fleet_core::bind::{ClaimRequest, StateStore};
use fleet_core::error::Result;
use fleet_core::sink::contract::{Stored, Subject, examine};
use fleet_core::time::MINUTE;
use fleet_sinks::timescale::{TimescaleSink, TimescaleStates};

use crate::fixture::{Fixture, NOON};
use crate::server::Server;

pub(crate) struct Database {
    pub(crate) fixture: Fixture,
    claimed: BTreeMap<VehicleId, i32>,
}

impl Database {
    pub(crate) async fn on(server: Server) -> Self {
        Self { fixture: Fixture::on(server).await, claimed: BTreeMap::new() }
    }
}

impl Subject for Database {
    type Sink = TimescaleSink;

    async fn clear(&mut self) -> Result<()> {
        self.claimed.clear();
        self.fixture.empty().await;
        Ok(())
    }

    async fn open(&mut self) -> Result<TimescaleSink> {
        Ok(TimescaleSink::new(self.fixture.server.connector(), &self.fixture.schema))
    }

    async fn claim(&mut self, vehicle: &VehicleId, epoch: i32) -> Result<()> {
        let states = TimescaleStates::new(self.fixture.server.connector(), &self.fixture.schema);
        let claimed = self.claimed.entry(vehicle.clone()).or_default();
        while *claimed < epoch {
            let request =
                ClaimRequest { vehicle: vehicle.clone(), on_time: NOON, started_at: NOON, told_at: NOON };
            *claimed = states.claim(&[request], NOON, MINUTE).await?[0].epoch;
        }
        Ok(())
    }

    async fn stored(&mut self) -> Result<Stored> {
        Ok(self.fixture.table().await)
    }
}

async fn examined(server: Server, seeds: u64) {
    let mut database = Database::on(server).await;
    let schema = database.fixture.schema.clone();
    examine(&mut database, &schema, 0..seeds).await.unwrap();
}

#[tokio::test]
async fn kept_on_plain_postgres() {
    examined(Server::plain().await, 40).await;
}

#[tokio::test]
async fn kept_on_timescale() {
    examined(Server::timescale().await, 6).await;
}
