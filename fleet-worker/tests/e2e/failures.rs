//! Servers that go away and come back.

use std::time::Duration;

use fleet_worker::clock::now;
use fleet_worker::deployment::{Deployment, Program};
use tokio::time::sleep;

use crate::alerts::Recording;
use crate::replay::rows;
use crate::world::{
    Hand, QUICK, assert_exact, deployment, deployment_by, durable_deployment, endless_fleet, eventually,
    finish, fleet, until_bound, vehicles,
};

#[tokio::test(flavor = "multi_thread")]
async fn nats_is_killed_and_comes_back() {
    let mut deployment = durable_deployment(2).await;
    let fleet = fleet(&deployment, vehicles(100, 30)).await;
    until_bound(&deployment, 100, Duration::from_secs(15)).await;
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

/// Waits until a program is ready, or is not and says so with these words; all along it is alive.
pub(crate) async fn until_readyz(program: &Program, status: u16, said: &str) {
    let what = format!("readyz {status} {said:?}");
    let answered = async || {
        let (alive, _) = program.get("/healthz").await.unwrap();
        assert_eq!(alive, 200, "{}", program.process.tail());
        let (found, body) = program.get("/readyz").await.unwrap();
        found == status && body == said
    };
    eventually(&what, Duration::from_secs(60), answered).await;
}

/// One that takes no requests for the time being must know it too.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_worker_learns_that_the_queue_is_away() {
    // Long enough for it to hold what it has throughout.
    let config = QUICK.replace("ack_wait = \"4s\"", "ack_wait = \"10m\"\nmax_vehicles = 1");
    let mut deployment = deployment_by(&config, 1).await;
    let mut recording = Recording::of(&deployment.workers).await;
    let mut hand = Hand::new(&deployment, "CAR").await;
    hand.drive(now() - 5_000_000, 5).await;
    hand.send("on", "").await;
    until_bound(&deployment, 1, Duration::from_secs(30)).await;
    let unready = async |deployment: &Deployment| {
        let (status, said) = deployment.workers[0].get("/readyz").await.unwrap();
        status == 503 && said.contains("bind queue")
    };
    until_readyz(&deployment.workers[0], 200, "ok\n").await;
    let followed =
        async |deployment: &Deployment| deployment.workers[0].metric("fleet_source_followed").await;
    eventually("it is followed", Duration::from_secs(30), async || followed(&deployment).await == Some(1))
        .await;
    // A broker that says nothing, and one that is gone.
    deployment.nats.process().pause().unwrap();
    eventually("it is told", Duration::from_secs(60), async || unready(&deployment).await).await;
    eventually("and that nothing is stored", Duration::from_secs(60), async || {
        let logs = deployment.workers[0].process.logs();
        deployment.workers[0].metric("fleet_ready{condition=\"nats storage\"").await == Some(0)
            && logs.contains("no bind queue")
    })
    .await;
    recording.scrape(&deployment.workers).await;
    let alerts = recording.alerts();
    let words = [deployment.workers[0].address(), "cell 0"];
    alerts.assert_leads("FleetNatsAway", &words, &deployment.workers[0].process.logs());
    alerts.assert_silent(&["FleetNatsStoresNothing", "FleetSinkAway"]);
    deployment.nats.process().resume().unwrap();
    until_readyz(&deployment.workers[0], 200, "ok\n").await;
    deployment.nats.stop().await.unwrap();
    eventually("it is told", Duration::from_secs(60), async || unready(&deployment).await).await;
    eventually("it is not followed", Duration::from_secs(30), async || {
        followed(&deployment).await == Some(0)
    })
    .await;
    deployment.nats.start_again().await.unwrap();
    until_readyz(&deployment.workers[0], 200, "ok\n").await;
    assert_eq!(deployment.workers[0].metric("fleet_bound").await, Some(1));
}

/// Every worker is unready while the database is away, whether it has rows or none.
async fn away_and_back(deployment: &mut Deployment) {
    let mut recording = Recording::of(&deployment.workers).await;
    deployment.postgres.crash().await.unwrap();
    for worker in &deployment.workers {
        until_readyz(worker, 503, "not ready: sink timescale\n").await;
        assert_eq!(worker.metric("fleet_sink_available{sink=\"timescale\"").await, Some(0));
    }
    recording.scrape(&deployment.workers).await;
    let alerts = recording.alerts();
    for worker in &deployment.workers {
        let words = ["Sink timescale is away", worker.address()];
        alerts.assert_leads("FleetSinkAway", &words, &worker.process.logs());
    }
    alerts.assert_silent(&["FleetNatsAway", "FleetNatsStoresNothing", "FleetProgramDown"]);
    deployment.postgres.start_again().await.unwrap();
    for worker in &deployment.workers {
        until_readyz(worker, 200, "ok\n").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_waits_for_a_lock_is_told_and_is_no_outage() {
    let deployment = deployment(1).await;
    let (fleet, on) = endless_fleet(&deployment, 50).await;
    let (client, worker) = (deployment.client().await.unwrap(), &deployment.workers[0]);
    eventually("there are rows", Duration::from_secs(30), || async { rows(&deployment).await > 0 }).await;
    let process: i32 = client.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    client.batch_execute("begin; lock table telemetry in access exclusive mode").await.unwrap();
    let told = format!("in its way: process {process}");
    eventually("it is told who is in its way", Duration::from_secs(60), async || {
        worker.process.logs().lines().any(|l| l.contains("statement running for") && l.contains(&told))
    })
    .await;
    eventually("rows wait", Duration::from_secs(30), async || {
        worker.metric("fleet_waiting_rows").await > Some(0)
    })
    .await;
    assert_eq!(worker.get("/readyz").await.unwrap(), (200, "ok\n".to_owned()), "the server answers");
    client.batch_execute("commit").await.unwrap();
    drop(on);
    let (_, verdict) = finish(&deployment, fleet).await;
    assert_exact(&deployment, &verdict);
    let logs = deployment.workers[0].process.logs();
    assert_eq!(logs.matches("statement running for").count(), 1, "{logs}");
    assert!(!logs.contains("the sink is unavailable"), "{logs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_ready_while_the_database_is_there() {
    let mut deployment = deployment(2).await;
    // Not even connected.
    away_and_back(&mut deployment).await;
    // Connected by having been asked.
    away_and_back(&mut deployment).await;

    let (fleet, on) = endless_fleet(&deployment, 100).await;
    eventually("every worker stores rows", Duration::from_secs(30), || async {
        for worker in &deployment.workers {
            if worker.metric("fleet_durable_rows_total").await == Some(0) {
                return false;
            }
        }
        true
    })
    .await;
    away_and_back(&mut deployment).await;
    assert!(!fleet.is_finished(), "the rows ended before the database was back");
    drop(on);
    // Discovery does its part without it.
    assert_eq!(deployment.discovery.get("/readyz").await.unwrap().0, 200);
    let (_, verdict) = finish(&deployment, fleet).await;
    assert_exact(&deployment, &verdict);
    for worker in &deployment.workers {
        let logs = worker.process.logs();
        let count = |said: &str| logs.lines().filter(|line| line.contains(said)).count();
        assert_eq!(count("the sink is unavailable"), 3, "{logs}");
        assert_eq!(count("the sink is available again"), 3, "{logs}");
    }
}
