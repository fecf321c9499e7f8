//! A database that refuses claims, states or rows with an error that no table lists.

use std::time::Duration;

use fleet_worker::clock::now;
use fleet_worker::deployment::Deployment;

use crate::failures::until_readyz;
use crate::world::{Hand, QUICK, count, deployment, deployment_by, eventually, until_bound};

/// Lets a table refuse rows, those of a vehicle or all, with this SQLSTATE, until it is [forgiven](forgive).
async fn refuse(deployment: &Deployment, table: &str, event: &str, sqlstate: &str, vehicle: Option<&str>) {
    let of = vehicle.map_or_else(String::new, |vin| {
        format!("and exists (select from vehicle v where v.vehicle_id = new.vehicle_id and v.vin = '{vin}')")
    });
    let sql = format!(
        "create table if not exists refusing (since timestamptz);
         create or replace function refuse() returns trigger language plpgsql as $$ begin
             if exists (select from refusing) {of} then
                 raise exception using errcode = '{sqlstate}', message = 'as told';
             end if;
             return new;
         end $$;
         create or replace trigger refuse before {event} on {table} for each row execute function refuse();
         insert into refusing values (now())"
    );
    deployment.client().await.unwrap().batch_execute(&sql).await.unwrap();
}

/// Without a change of the table, which would have to wait for those who write to it, or they for it.
async fn forgive(deployment: &Deployment) {
    deployment.client().await.unwrap().batch_execute("delete from refusing").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_that_fail_are_tried_again() {
    let deployment = deployment(1).await;
    let worker = &deployment.workers[0];
    let mut hands = Vec::new();
    for (n, sqlstate) in ["P0001", "XX000", "55000"].into_iter().enumerate() {
        refuse(&deployment, "vehicle_latest", "insert", sqlstate, None).await;
        let failed = worker.metric("fleet_claims_failed_total").await.unwrap();
        for m in 0..20 {
            let mut hand = Hand::new(&deployment, &format!("CAR-{n}-{m}")).await;
            hand.send("on", "").await;
            hand.drive(now() - 5_000_000, 5).await;
            hands.push(hand);
        }
        until_readyz(worker, 503, "not ready: states\n").await;
        eventually("they are given back", Duration::from_secs(30), async || {
            worker.metric("fleet_claims_failed_total").await.is_some_and(|now| now >= failed + 20)
        })
        .await;
        forgive(&deployment).await;
        until_bound(&deployment, hands.len() as u64, Duration::from_secs(90)).await;
        until_readyz(worker, 200, "ok\n").await;
    }
    for hand in &hands {
        hand.send("off", "").await;
    }
    deployment.until_released(Duration::from_secs(60)).await.unwrap();
    let mut ledger = fleet_worker::simulate::Ledger::new(hands.iter().map(|h| h.vehicle.clone()).collect());
    hands.iter().enumerate().for_each(|(n, hand)| hand.add_to(&mut ledger, n));
    ledger.sort();
    let verdict = crate::world::compare(&deployment, &ledger).await;
    crate::world::assert_exact(&deployment, &verdict);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vehicle_that_can_not_be_claimed_stands_in_nobodys_way() {
    let deployment = deployment(1).await;
    refuse(&deployment, "vehicle_latest", "insert", "P0001", Some("BAD")).await;
    let mut hands = Vec::new();
    for name in ["A", "B", "BAD", "C", "D"] {
        let mut hand = Hand::new(&deployment, name).await;
        hand.send("on", "").await;
        hand.drive(now() - 5_000_000, 5).await;
        hands.push(hand);
    }
    until_bound(&deployment, 4, Duration::from_secs(30)).await;
    let late = Hand::new(&deployment, "LATE").await;
    late.send("on", "").await;
    until_bound(&deployment, 5, Duration::from_secs(30)).await;
    // One vehicle shows in the metric. Readiness speaks of the database, which takes all others.
    let worker = &deployment.workers[0];
    eventually("it is tried again and again", Duration::from_secs(90), async || {
        let (status, said) = worker.get("/readyz").await.unwrap();
        assert_eq!(status, 200, "{said}");
        worker.metric("fleet_claims_failed_total").await.unwrap() >= 4
    })
    .await;
    forgive(&deployment).await;
    until_bound(&deployment, 6, Duration::from_secs(90)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vehicle_that_can_not_be_released_stands_in_nobodys_way() {
    let deployment = deployment(1).await;
    let mut hands = Vec::new();
    for name in ["A", "B", "BAD", "C", "D"] {
        let mut hand = Hand::new(&deployment, name).await;
        hand.send("on", "").await;
        hand.drive(now() - 5_000_000, 5).await;
        hands.push(hand);
    }
    until_bound(&deployment, 5, Duration::from_secs(30)).await;
    refuse(&deployment, "vehicle_latest", "update", "P0001", Some("BAD")).await;
    for hand in &hands {
        hand.send("off", "").await;
    }
    eventually("the others are released", Duration::from_secs(60), async || {
        deployment.bindings().await.is_some_and(|bindings| bindings.active == 1)
    })
    .await;
    eventually("it is counted", Duration::from_secs(60), async || {
        deployment.workers[0].metric("fleet_saves_failed_total").await.is_some_and(|failed| failed > 0)
    })
    .await;
    forgive(&deployment).await;
    deployment.until_released(Duration::from_secs(120)).await.unwrap();
    for hand in &hands {
        let ended = format!(
            "select count(*) from trip join vehicle using (vehicle_id) where vin = '{}' and ended_at is not null",
            hand.vehicle
        );
        assert_eq!(count(&deployment, &ended).await, 1, "{}", hand.vehicle);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_may_not_claim_ends_and_keeps_no_request() {
    // Nothing comes back by itself.
    let config = QUICK.replace("ack_wait = \"4s\"", "ack_wait = \"10m\"");
    let mut deployment = deployment_by(&config, 1).await;
    refuse(&deployment, "vehicle_latest", "insert", "42501", None).await;
    for n in 0..10 {
        Hand::new(&deployment, &format!("CAR-{n}")).await.send("on", "").await;
    }
    let mut worker = deployment.workers.remove(0);
    let status = worker.process.wait(Duration::from_secs(60)).await.unwrap().0;
    assert_eq!(status.code(), Some(64), "{}", worker.process.tail());
    assert!(worker.process.logs().contains("as told"), "{}", worker.process.tail());
    eventually("all wait for another", Duration::from_secs(20), async || {
        deployment.bindings().await.is_some_and(|b| b.waiting + b.bound == 10)
    })
    .await;
    forgive(&deployment).await;
    deployment.add_worker().await.unwrap();
    until_bound(&deployment, 10, Duration::from_secs(60)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_refused_for_a_while_are_stored_afterwards() {
    let deployment = deployment(1).await;
    let worker = &deployment.workers[0];
    refuse(&deployment, "telemetry", "insert", "P0001", None).await;
    let mut hand = Hand::new(&deployment, "CAR").await;
    hand.send("on", "").await;
    hand.drive(now() - 10_000_000, 10).await;
    until_readyz(worker, 503, "not ready: sink timescale\n").await;
    forgive(&deployment).await;
    until_readyz(worker, 200, "ok\n").await;
    hand.send("off", "").await;
    deployment.until_released(Duration::from_secs(60)).await.unwrap();
    hand.assert_exact(&deployment).await;
}
