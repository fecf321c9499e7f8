//! The simulated fleet itself.

use std::time::Duration;

use fleet_worker::simulate::SimulationOptions;
use tokio::time::timeout;

use crate::world::{assert_exact, deployment, finish, fleet, vehicles};

/// A message in twenty is held back by some seconds: at the end more of them are unsent than acks may be
/// awaited at once.
#[tokio::test(flavor = "multi_thread")]
async fn it_ends_however_many_messages_are_held_back() {
    let deployment = deployment(1).await;
    let options = SimulationOptions { window: 8, ..vehicles(1_000, 10) };
    let fleet = fleet(&deployment, options).await;
    let finished = timeout(Duration::from_secs(60), finish(&deployment, fleet)).await;
    let (_, verdict) = finished.expect("the simulation never ends");
    assert_exact(&deployment, &verdict);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_vehicle_may_have_a_connection_of_its_own() {
    let deployment = deployment(1).await;
    let fleet = fleet(&deployment, SimulationOptions { connections: 60, ..vehicles(60, 10) }).await;
    let (summary, verdict) = finish(&deployment, fleet).await;
    assert!(summary.acknowledged > 100, "{} messages", summary.acknowledged);
    assert_exact(&deployment, &verdict);
}
