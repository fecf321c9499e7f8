//! The states and trips of the vehicles.

use fleet_core::align::MAX_CARRY;
use fleet_core::batch::Quality;
use fleet_core::bind::{Carry, ClaimRequest, LatestRow, StateStore, TRIP_AHEAD, VehicleState};
use fleet_core::sample::NewestSamples;
use fleet_core::time::{MINUTE, Micros, SECOND};
use fleet_sinks::timescale::TimescaleStates;

use crate::fixture::{Fixture, NONE, NOON, vin};
use crate::server::Server;

const CONTEXT: Micros = 160 * SECOND;

fn request(vehicle: usize, on_time: Micros) -> ClaimRequest {
    ClaimRequest { vehicle: vin(vehicle), on_time, started_at: on_time - SECOND, told_at: on_time }
}

fn state(vehicle: usize, epoch: i32) -> VehicleState {
    VehicleState {
        vehicle: vin(vehicle),
        epoch,
        resume_at: NOON + 5 * SECOND,
        floor: Some(NOON + 4 * SECOND),
        horizon: vec![Some(NOON), None, Some(NOON + 1), Some(NOON + 2)],
        newest: vec![Some(NOON + SECOND), None, None, Some(NOON + 3)],
        released_at: None,
        latest: None,
        samples: NewestSamples::default(),
        carry: None,
    }
}

fn latest(ts: Micros, values: [f64; 5], quality: i64) -> Option<LatestRow> {
    Some(LatestRow { ts, values: values.to_vec(), quality })
}

#[tokio::test]
async fn plain_postgres() {
    scenarios(Server::plain().await).await;
}

#[tokio::test]
async fn timescale() {
    scenarios(Server::timescale().await).await;
}

async fn scenarios(server: Server) {
    let mut f = Fixture::on(server).await;
    a_vehicle_goes_from_holder_to_holder(&f).await;
    f.empty().await;
    an_old_holder_changes_nothing(&f).await;
    f.empty().await;
    what_a_holder_leaves_is_for_the_next_claim_alone(&f).await;
    f.empty().await;
    what_nobody_left_is_nothing(&f).await;
    f.empty().await;
    a_table_without_a_place_for_them_keeps_no_carries(&f).await;
    f.empty().await;
    the_latest_record_is_kept_column_by_column(&f).await;
    f.empty().await;
    trips_begin_once_and_end(&f).await;
    f.empty().await;
    many_vehicles_keep_their_own(&f).await;
}

fn states(f: &Fixture) -> TimescaleStates {
    TimescaleStates::new(f.server.connector(), &f.schema)
}

async fn a_vehicle_goes_from_holder_to_holder(f: &Fixture) {
    let (a, b) = (states(f), states(f));
    let claims = a.claim(&[request(1, NOON), request(2, NOON)], NOON, CONTEXT).await.unwrap();
    for (claim, vehicle) in claims.iter().zip([1, 2]) {
        assert_eq!((&claim.vehicle, claim.epoch, claim.start), (&vin(vehicle), 1, NOON - CONTEXT));
        assert_eq!((claim.floor, claim.horizon.len()), (None, 0));
    }
    // A dead worker: its own claim is the plan, although nothing was ever saved.
    let claim = b.claim(&[request(1, NOON + MINUTE)], NOON + MINUTE, CONTEXT).await.unwrap().remove(0);
    assert_eq!((claim.epoch, claim.start), (2, NOON - CONTEXT));

    assert!(b.save(&[state(1, 2)]).await.unwrap().is_empty());
    let claim = a.claim(&[request(1, NOON)], NOON + MINUTE, CONTEXT).await.unwrap().remove(0);
    let saved = state(1, 2);
    assert_eq!((claim.epoch, claim.start), (3, saved.resume_at));
    assert_eq!((claim.floor, &claim.horizon), (saved.floor, &saved.horizon));

    // A release longer ago than the context; the plan that follows from it is stored with the claim.
    let released = VehicleState { released_at: Some(NOON + MINUTE), ..state(1, 3) };
    a.save(&[released]).await.unwrap();
    let (on, later) = (NOON + 10 * MINUTE, NOON + 10 * MINUTE + SECOND);
    let claim = b.claim(&[request(1, on)], later, CONTEXT).await.unwrap().remove(0);
    let after_newest: Vec<_> = saved.newest.iter().map(|t| t.map(|t| t + 1)).collect();
    assert_eq!((claim.epoch, claim.start, &claim.horizon), (4, on - CONTEXT, &after_newest));
    let again = a.claim(&[request(1, on)], later + 20 * MINUTE, CONTEXT).await.unwrap().remove(0);
    assert_eq!((again.epoch, again.start, again.horizon), (5, claim.start, claim.horizon));

    // The same vehicle twice in one group: two claims, the last one counts.
    let twice = a.claim(&[request(3, NOON), request(3, NOON)], NOON, CONTEXT).await.unwrap();
    assert_eq!(twice.iter().map(|c| c.epoch).collect::<Vec<_>>(), [1, 2]);
    assert!(a.claim(&[], NOON, CONTEXT).await.unwrap().is_empty());
}

async fn an_old_holder_changes_nothing(f: &Fixture) {
    let (old, new) = (states(f), states(f));
    old.claim(&[request(1, NOON)], NOON, CONTEXT).await.unwrap();
    new.claim(&[request(1, NOON)], NOON, CONTEXT).await.unwrap();
    new.save(&[state(1, 2)]).await.unwrap();
    let seen = async || {
        let select = "select l::text from vehicle_latest l order by vehicle_id limit 1";
        f.client.query_one(select, &[]).await.unwrap().get::<_, String>(0)
    };
    let before = seen().await;
    let speed = Quality::Measured.at(1);
    let stale = VehicleState {
        resume_at: NOON + MINUTE,
        released_at: Some(NOON),
        latest: latest(NOON, [NONE, NONE, 5.0, NONE, NONE], speed),
        ..state(1, 1)
    };
    old.claim(&[request(2, NOON)], NOON, CONTEXT).await.unwrap();
    let superseded = old.save(&[state(2, 1), stale]).await.unwrap();
    assert_eq!(superseded, [vin(1)], "and it is told");
    assert_eq!(seen().await, before);
}

fn carry(until: Micros, length: usize) -> Carry {
    Carry { until, track: (0..length).map(|n| (n * 31) as u8).collect() }
}

async fn stored_carries(f: &Fixture) -> i64 {
    let select = "select count(carry) from vehicle_latest";
    f.client.query_one(select, &[]).await.unwrap().get(0)
}

async fn what_a_holder_leaves_is_for_the_next_claim_alone(f: &Fixture) {
    let (a, b) = (states(f), states(f));
    let claim = async |store: &TimescaleStates| {
        let requests = [request(1, NOON), request(2, NOON), request(3, NOON)];
        let claims = store.claim(&requests, NOON + MINUTE, CONTEXT).await.unwrap();
        assert!(claims.iter().zip(&requests).all(|(claim, request)| claim.vehicle == request.vehicle));
        claims.into_iter().map(|claim| (claim.start, claim.carry)).collect::<Vec<_>>()
    };
    claim(&a).await;
    // One as long as they may be, and a vehicle that has none.
    let carries = [Some(carry(NOON + 3, 700)), None, Some(carry(NOON + 4, MAX_CARRY))];
    let with_carries: Vec<_> =
        (1..).zip(&carries).map(|(v, carry)| VehicleState { carry: carry.clone(), ..state(v, 1) }).collect();
    assert!(a.save(&with_carries).await.unwrap().is_empty());
    assert_eq!(stored_carries(f).await, 2);
    // Where it begins without them is the same.
    let start = state(1, 1).resume_at;
    assert_eq!(claim(&b).await, carries.map(|carry| (start, carry)));
    assert_eq!(stored_carries(f).await, 0);
    assert_eq!(claim(&a).await, [const { None }; 3].map(|none| (start, none)), "taken");

    // A state without one makes void what was left before, and an old holder leaves nothing.
    let leaves = |epoch| [VehicleState { carry: Some(carry(NOON, 5)), ..state(1, epoch) }];
    a.save(&leaves(3)).await.unwrap();
    a.save(&[state(1, 3)]).await.unwrap();
    assert_eq!(b.save(&leaves(2)).await.unwrap(), [vin(1)]);
    assert_eq!(stored_carries(f).await, 0);
    // A program that knows nothing of them claims the vehicle, and dies.
    a.save(&leaves(3)).await.unwrap();
    f.client.batch_execute("update vehicle_latest set epoch = epoch + 1").await.unwrap();
    assert_eq!((stored_carries(f).await, claim(&b).await[0].1.clone()), (1, None));
    assert_eq!(stored_carries(f).await, 0);
}

async fn what_nobody_left_is_nothing(f: &Fixture) {
    let store = states(f);
    let vehicles = || (0..6).map(|v| request(v, NOON)).collect::<Vec<_>>();
    store.claim(&vehicles(), NOON, CONTEXT).await.unwrap();
    let left: Vec<_> =
        (0..6).map(|v| VehicleState { carry: Some(carry(NOON, 600)), ..state(v, 1) }).collect();
    store.save(&left).await.unwrap();
    let garbage = format!(
        "update vehicle_latest l set carry = case right(vin, 1) when '1' then '\\x00'::bytea when '2' then '' \
           when '3' then decode(repeat('01', {}), 'hex') when '4' then substring(carry for 12) \
           when '5' then (select carry from vehicle_latest join vehicle using (vehicle_id) \
             where right(vin, 1) = '0') else carry end \
         from vehicle v where v.vehicle_id = l.vehicle_id",
        64 << 20
    );
    f.client.batch_execute(&garbage).await.unwrap();
    let claims = store.claim(&vehicles(), NOON, CONTEXT).await.unwrap();
    let found: Vec<_> = claims.iter().map(|claim| claim.carry.is_some()).collect();
    assert_eq!(found, [true, false, false, false, false, false]);
    assert_eq!(stored_carries(f).await, 0, "nor is it kept");
}

/// An older program has set it up.
async fn a_table_without_a_place_for_them_keeps_no_carries(f: &Fixture) {
    f.client.batch_execute("alter table vehicle_latest rename carry to later").await.unwrap();
    let store = states(f);
    store.claim(&[request(1, NOON)], NOON, CONTEXT).await.unwrap();
    let leaves = VehicleState { carry: Some(carry(NOON, 600)), ..state(1, 1) };
    assert!(store.save(std::slice::from_ref(&leaves)).await.unwrap().is_empty());
    let claim = store.claim(&[request(1, NOON)], NOON, CONTEXT).await.unwrap().remove(0);
    assert_eq!((claim.start, claim.carry), (leaves.resume_at, None));
    f.client.batch_execute("alter table vehicle_latest rename later to carry").await.unwrap();
}

async fn the_latest_record_is_kept_column_by_column(f: &Fixture) {
    let store = states(f);
    store.claim(&[request(1, NOON)], NOON, CONTEXT).await.unwrap();
    let save = async |ts, values, quality| {
        let state = VehicleState { latest: latest(ts, values, quality), ..state(1, 1) };
        store.save(&[state]).await.unwrap();
        let select = "select (extract(epoch from ts) * 1000000)::bigint, latitude, speed_kmh, \
                      fuel_level_pct, quality from vehicle_latest";
        let row = f.client.query_one(select, &[]).await.unwrap();
        (
            row.get::<_, i64>(0),
            row.get::<_, Option<f64>>(1),
            row.get::<_, Option<f32>>(2),
            row.get::<_, Option<f32>>(3),
            row.get::<_, i64>(4),
        )
    };
    let (m, h) = (Quality::Measured, Quality::Held);
    let first = save(NOON, [48.0, 11.0, 50.0, NONE, NONE], m.at(0) | m.at(1)).await;
    assert_eq!(first, (NOON, Some(48.0), Some(50.0), None, m.at(0) | m.at(1)));
    let second = save(NOON + SECOND, [NONE, NONE, 51.0, 70.0, NONE], h.at(1) | m.at(2)).await;
    let quality = m.at(0) | h.at(1) | m.at(2);
    assert_eq!(second, (NOON + SECOND, Some(48.0), Some(51.0), Some(70.0), quality));
    let older = save(NOON, [1.0, 1.0, 1.0, 1.0, 1.0], 0b01_01_01_01).await;
    assert_eq!(older, second, "an older record");
    let same = save(NOON + SECOND, [NONE, NONE, 52.0, NONE, NONE], m.at(1)).await;
    assert_eq!(same, (NOON + SECOND, Some(48.0), Some(52.0), Some(70.0), m.at(0) | m.at(1) | m.at(2)));
    store.save(&[state(1, 1)]).await.unwrap();
    let never = save(i64::MAX, [1.0; 5], 0b01_01_01_01).await;
    assert_eq!(never, same, "no record, and one of a time that can't be");
}

async fn trips_begin_once_and_end(f: &Fixture) {
    let store = states(f);
    for _ in 0..2 {
        store.claim(&[request(1, NOON), request(2, NOON)], NOON, CONTEXT).await.unwrap();
    }
    let wild = ClaimRequest { started_at: i64::MAX, ..request(3, NOON) };
    store.claim(&[wild], NOON, CONTEXT).await.unwrap();
    let trips = async || {
        let select = "select vin, (extract(epoch from started_at) * 1000000)::bigint, \
                        (extract(epoch from ended_at) * 1000000)::bigint \
                      from trip join vehicle using (vehicle_id) order by 1, 2";
        let rows = f.client.query(select, &[]).await.unwrap();
        rows.iter()
            .map(|r| (r.get::<_, String>(0), r.get::<_, i64>(1), r.get::<_, Option<i64>>(2)))
            .collect::<Vec<_>>()
    };
    let open = |n: usize, from| (vin(n).to_string(), from, None);
    assert_eq!(trips().await, [open(1, NOON - SECOND), open(2, NOON - SECOND), open(3, NOON)]);

    store.end_trips(&[(vin(1), NOON + MINUTE), (vin(77), NOON)]).await.unwrap();
    store.end_trips(&[(vin(1), NOON + 2 * MINUTE)]).await.unwrap();
    store.begin_trip(&vin(1), NOON + 5 * MINUTE, NOON + MINUTE).await.unwrap();
    store.begin_trip(&vin(1), NOON + 5 * MINUTE, NOON + MINUTE).await.unwrap();
    // The end before, told once more, is not the end of the new trip.
    store.end_trips(&[(vin(1), NOON + MINUTE)]).await.unwrap();
    let ended = (vin(1).to_string(), NOON - SECOND, Some(NOON + MINUTE));
    let expected = [ended.clone(), open(1, NOON + 5 * MINUTE), open(2, NOON - SECOND), open(3, NOON)];
    assert_eq!(trips().await, expected);

    // The request comes again: what it began with has ended, and so has the newest trip.
    store.claim(&[request(1, NOON)], NOON, CONTEXT).await.unwrap();
    assert_eq!(trips().await, expected);
    let end = async |vehicle, at| store.end_trips(&[(vin(vehicle), at)]).await.unwrap();
    end(1, NOON + 9 * MINUTE).await;
    let over = trips().await;
    store.claim(&[request(1, NOON)], NOON, CONTEXT).await.unwrap();
    assert_eq!(trips().await, over);

    // Lost for a while, and on again with the same `since`: the same trip, until its last `off`.
    let of = async |vehicle| {
        let all = trips().await.into_iter().filter(|(vin, ..)| *vin == self::vin(vehicle).to_string());
        all.map(|(_, start, end)| (start - NOON, end.map(|end| end - NOON))).collect::<Vec<_>>()
    };
    end(2, NOON + MINUTE).await;
    assert_eq!(of(2).await, [(-SECOND, Some(MINUTE))]);
    let again = ClaimRequest { told_at: NOON + 2 * MINUTE, ..request(2, NOON) };
    store.claim(&[again.clone(), again.clone()], NOON, CONTEXT).await.unwrap();
    assert_eq!(of(2).await, [(-SECOND, None)]);
    end(2, NOON + 3 * MINUTE).await;
    store.begin_trip(&vin(2), NOON - SECOND, NOON + 3 * MINUTE).await.unwrap();
    assert_eq!(of(2).await, [(-SECOND, None)], "by who holds it");
    end(2, NOON + 5 * MINUTE).await;
    store.claim(&[again], NOON, CONTEXT).await.unwrap();
    assert_eq!(of(2).await, [(-SECOND, Some(5 * MINUTE))], "a request that comes again");

    // A clock that is ahead: the trip ends, and not before it began.
    let ahead = 6 * MINUTE + TRIP_AHEAD;
    store.begin_trip(&vin(2), NOON + ahead, NOON + 5 * MINUTE).await.unwrap();
    end(2, NOON + 6 * MINUTE - 1).await;
    assert_eq!(of(2).await[1], (ahead, None), "the end of a trip before");
    end(2, NOON + 6 * MINUTE).await;
    assert_eq!(of(2).await[1], (ahead, Some(ahead)));
    store.begin_trip(&vin(2), NOON + ahead, NOON + 6 * MINUTE).await.unwrap();
    assert_eq!(of(2).await[1], (ahead, None));
    // A clock that went back: the newest trip goes on, and no older one is open for ever.
    end(2, NOON + 8 * MINUTE).await;
    store.begin_trip(&vin(2), NOON - MINUTE, NOON + 9 * MINUTE).await.unwrap();
    assert_eq!(of(2).await, [(-SECOND, Some(5 * MINUTE)), (ahead, None)]);
}

/// More than one statement's worth, so that no array is cut in the wrong place.
async fn many_vehicles_keep_their_own(f: &Fixture) {
    let store = states(f);
    let requests: Vec<_> = (0..700).rev().map(|v| request(v, NOON)).collect();
    let claims = store.claim(&requests, NOON, CONTEXT).await.unwrap();
    assert!(claims.iter().zip(&requests).all(|(c, r)| c.vehicle == r.vehicle && c.epoch == 1));
    let own = |v: usize| VehicleState {
        resume_at: NOON + v as i64,
        horizon: vec![Some(NOON + v as i64), None, Some(NOON - v as i64), None],
        ..state(v, 1)
    };
    let saved: Vec<_> = (0..700).map(own).collect();
    store.save(&saved).await.unwrap();
    let claims = store.claim(&requests, NOON + MINUTE, CONTEXT).await.unwrap();
    for (claim, v) in claims.iter().zip((0..700).rev()) {
        assert_eq!((claim.start, &claim.horizon), (own(v).resume_at, &own(v).horizon), "{v}");
    }
    let claims = states(f).claim(&requests, NOON + MINUTE, CONTEXT).await.unwrap();
    for (claim, v) in claims.iter().zip((0..700).rev()) {
        assert_eq!((claim.epoch, claim.start, &claim.horizon), (3, own(v).resume_at, &own(v).horizon));
    }
}
