//! Servers that go away and come back.

use std::time::Duration;

use tokio::time::sleep;

use crate::world::{assert_exact, deployment, durable_deployment, eventually, finish, fleet, vehicles};

#[tokio::test(flavor = "multi_thread")]
async fn nats_is_killed_and_comes_back() {
    let mut deployment = durable_deployment(2).await;
    let fleet = fleet(&deployment, vehicles(100, 30)).await;
    eventually("100 vehicles are bound", Duration::from_secs(15), || async {
        deployment.bound_by_living().await == 100
    })
    .await;
    sleep(Duration::from_secs(4)).await;
    deployment.nats.kill().await;
    sleep(Duration::from_secs(2)).await;
    deployment.nats.start_again().await.unwrap();
    for worker in &deployment.workers {
        eventually("the worker has connected again", Duration::from_secs(10), || async {
            worker.metric("fleet_source_reconnects_total").await == Some(1)
        })
        .await;
    }
    let (_, verdict) = finish(&deployment, fleet).await;
    assert_exact(&deployment, &verdict);
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_is_away_for_longer_than_ack_wait() {
    let mut deployment = deployment(2).await;
    let fleet = fleet(&deployment, vehicles(50, 30)).await;
    sleep(Duration::from_secs(6)).await;
    deployment.nats.stop().await.unwrap();
    sleep(Duration::from_secs(7)).await;
    deployment.nats.start_again().await.unwrap();
    let (_, verdict) = finish(&deployment, fleet).await;
    assert_exact(&deployment, &verdict);
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_crashes_and_comes_back() {
    let mut deployment = deployment(2).await;
    let fleet = fleet(&deployment, vehicles(100, 30)).await;
    sleep(Duration::from_secs(8)).await;
    deployment.postgres.crash().await.unwrap();
    sleep(Duration::from_secs(5)).await;
    deployment.postgres.start_again().await.unwrap();
    let (_, verdict) = finish(&deployment, fleet).await;
    assert_exact(&deployment, &verdict);
}
