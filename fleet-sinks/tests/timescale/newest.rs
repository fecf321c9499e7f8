//! The newest samples of vehicles, in `vehicle_latest` and `fleet_last`.

use fleet_core::bind::{ClaimRequest, LatestRow, Newest, NewestStore, StateStore, VehicleState};
use fleet_core::sample::NewestSamples;
use fleet_core::time::{MINUTE, Micros, SECOND, YEAR_2000};
use fleet_sinks::timescale::{TimescaleNewest, TimescaleStates, disown, erase};

use crate::fixture::{Fixture, NONE, NOON, vin};
use crate::server::Server;

#[tokio::test]
async fn plain_postgres() {
    let f = scenarios(Server::plain().await).await;
    what_others_are_writing_to_is_passed_over(&f).await;
}

#[tokio::test]
async fn community() {
    scenarios(Server::timescale().await).await;
}

#[tokio::test]
async fn apache() {
    scenarios(Server::apache().await).await;
}

async fn scenarios(server: Server) -> Fixture {
    let mut f = Fixture::on(server).await;
    newer_samples_replace_and_older_ones_do_not(&f).await;
    f.empty().await;
    nobody_but_the_holder_shows_anything(&f).await;
    f.empty().await;
    states_show_them_too(&f).await;
    f.empty().await;
    what_an_older_program_has_seen_is_newer(&f).await;
    f.empty().await;
    no_vehicle_spoils_the_view(&f).await;
    f.empty().await;
    f
}

/// Claims vehicles.
async fn claim(f: &Fixture, vehicles: &[usize]) -> TimescaleStates {
    let states = TimescaleStates::new(f.server.connector(), &f.schema);
    let of = |v: &usize| ClaimRequest { vehicle: vin(*v), on_time: NOON, started_at: NOON, told_at: NOON };
    let requests: Vec<_> = vehicles.iter().map(of).collect();
    states.claim(&requests, NOON, MINUTE).await.unwrap();
    states
}

/// Position, speed, fuel and brake, so many seconds after noon.
fn samples(seconds: [Option<i64>; 4], values: [f64; 5]) -> NewestSamples {
    let times = seconds.map(|second| second.map(|second| NOON + second * SECOND));
    let values = values.map(|value| Some(value).filter(|value| !value.is_nan()));
    NewestSamples { times: times.to_vec(), values: values.to_vec() }
}

fn newest(vehicle: usize, epoch: i32, samples: NewestSamples) -> Newest {
    Newest { vehicle: vin(vehicle), epoch, samples }
}

fn state(vehicle: usize, newest: [Option<i64>; 4]) -> VehicleState {
    VehicleState {
        vehicle: vin(vehicle),
        epoch: 1,
        resume_at: NOON,
        floor: None,
        horizon: vec![None; 4],
        newest: newest.iter().map(|second| second.map(|second| NOON + second * SECOND)).collect(),
        released_at: None,
        latest: None,
        samples: NewestSamples::default(),
        carry: None,
    }
}

/// A vehicle as `fleet_last` has it: times in seconds after noon.
async fn last(f: &Fixture, vehicle: usize) -> Option<String> {
    let after = |column: &str| format!("coalesce((extract(epoch from {column} - $2))::int::text, '-')");
    let select = format!(
        "select format('%s: %s,%s@%s %s@%s %s@%s %s@%s %s', {}, latitude, longitude, {}, speed_kmh, {}, \
           fuel_level_pct, {}, brake_fluid_temp_c, {}, quality) from fleet_last where vin = $1",
        after("ts"),
        after("position_at"),
        after("speed_at"),
        after("fuel_at"),
        after("brake_at"),
    );
    let noon = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_micros(NOON.unsigned_abs());
    let row = f.client.query_opt(&select, &[&vin(vehicle).as_str(), &noon]).await.unwrap();
    row.map(|row| row.get(0))
}

async fn newer_samples_replace_and_older_ones_do_not(f: &Fixture) {
    claim(f, &[1, 2]).await;
    let store = TimescaleNewest::new(f.server.connector(), &f.schema);
    assert!(store.show(&[]).await.unwrap().is_empty());
    assert_eq!(last(f, 1).await, None, "nothing is known");
    let first = samples([Some(5), Some(7), None, None], [48.0, 11.0, 50.5, NONE, NONE]);
    let other = samples([None, None, Some(1), None], [NONE, NONE, NONE, 70.0, NONE]);
    assert!(store.show(&[newest(2, 1, other), newest(1, 1, first.clone())]).await.unwrap().is_empty());
    assert_eq!(last(f, 1).await.unwrap(), "7: 48,11@5 50.5@7 @- @- 5");
    assert_eq!(last(f, 2).await.unwrap(), "1: ,@- @- 70@1 @- 16");
    // Each signal by itself.
    let mixed = samples([Some(4), Some(9), None, Some(2)], [1.0, 2.0, 60.0, NONE, 90.5]);
    store.show(&[newest(1, 1, mixed.clone())]).await.unwrap();
    assert_eq!(last(f, 1).await.unwrap(), "9: 48,11@5 60@9 @- 90.5@2 69");
    let written = async || {
        let select = "select string_agg(xmin::text, ' ' order by vehicle_id) from vehicle_latest";
        f.client.query_one(select, &[]).await.unwrap().get::<_, String>(0)
    };
    let before = written().await;
    store.show(&[newest(1, 1, mixed), newest(1, 1, first)]).await.unwrap();
    assert_eq!(written().await, before, "nothing is written where nothing changes");
}

async fn nobody_but_the_holder_shows_anything(f: &Fixture) {
    claim(f, &[1]).await;
    claim(f, &[1]).await;
    let store = TimescaleNewest::new(f.server.connector(), &f.schema);
    let speed = |second, value| samples([None, Some(second), None, None], [NONE, NONE, value, NONE, NONE]);
    assert!(
        store.show(&[newest(1, 1, speed(9, 1.0))]).await.unwrap().is_empty(),
        "nor is it to be given again"
    );
    assert_eq!(last(f, 1).await, None);
    store.show(&[newest(1, 2, speed(5, 2.0))]).await.unwrap();
    store.show(&[newest(1, 1, speed(9, 1.0)), newest(1, 3, speed(9, 3.0))]).await.unwrap();
    assert_eq!(last(f, 1).await.unwrap(), "5: ,@- 2@5 @- @- 4");
    // One that is erased stays so, and one that nobody has claimed does not come into being.
    disown(&f.server.connector(), &vin(1)).await.unwrap();
    erase(&f.server.connector(), &vin(1)).await.unwrap();
    assert!(
        store.show(&[newest(1, 2, speed(6, 2.0)), newest(7, 1, speed(6, 2.0))]).await.unwrap().is_empty()
    );
    for table in ["vehicle", "vehicle_latest"] {
        let count = f.client.query_one(&format!("select count(*) from {table}"), &[]).await.unwrap();
        assert_eq!(count.get::<_, i64>(0), 0, "{table}");
    }
}

async fn states_show_them_too(f: &Fixture) {
    let states = claim(f, &[1]).await;
    let store = TimescaleNewest::new(f.server.connector(), &f.schema);
    let speed = |second, value| samples([None, Some(second), None, None], [NONE, NONE, value, NONE, NONE]);
    let saved = |second, value| VehicleState {
        samples: speed(second, value),
        ..state(1, [None, Some(second), None, None])
    };
    states.save(&[saved(5, 5.0)]).await.unwrap();
    assert_eq!(last(f, 1).await.unwrap(), "5: ,@- 5@5 @- @- 4");
    store.show(&[newest(1, 1, speed(8, 8.0))]).await.unwrap();
    states.save(&[saved(6, 6.0)]).await.unwrap();
    assert_eq!(
        last(f, 1).await.unwrap(),
        "8: ,@- 8@8 @- @- 4",
        "a state that was made before is saved after"
    );
}

async fn what_an_older_program_has_seen_is_newer(f: &Fixture) {
    let states = claim(f, &[1]).await;
    let store = TimescaleNewest::new(f.server.connector(), &f.schema);
    let both = samples([Some(5), Some(6), None, None], [48.0, 11.0, 50.0, NONE, NONE]);
    store.show(&[newest(1, 1, both)]).await.unwrap();
    // It saves no samples, and keeps the fifth signal's.
    let fifth =
        "update vehicle_latest set sampled_at = sampled_at || now(), sampled = sampled || 7.5::float8";
    f.client.batch_execute(fifth).await.unwrap();
    let row = LatestRow { ts: NOON + 10 * SECOND, values: vec![NONE, NONE, 70.0, NONE, NONE], quality: 8 };
    let saved = VehicleState { latest: Some(row), ..state(1, [Some(5), Some(12), None, None]) };
    states.save(&[saved]).await.unwrap();
    assert_eq!(last(f, 1).await.unwrap(), "10: 48,11@5 70@10 @- @- 9");
    let speed = samples([None, Some(13), None, None], [NONE, NONE, 75.0, NONE, NONE]);
    store.show(&[newest(1, 1, speed)]).await.unwrap();
    assert_eq!(last(f, 1).await.unwrap(), "13: 48,11@5 75@13 @- @- 5");
    let kept =
        f.client.query_one("select sampled[6], cardinality(sampled_at) from vehicle_latest", &[]).await;
    let kept = kept.unwrap();
    assert_eq!((kept.get::<_, Option<f64>>(0), kept.get::<_, i32>(1)), (Some(7.5), 5));
}

/// What is no `real`, or no time that can be, is an error for all who look, or the newest for ever.
async fn no_vehicle_spoils_the_view(f: &Fixture) {
    claim(f, &[1, 2, 3]).await;
    let store = TimescaleNewest::new(f.server.connector(), &f.schema);
    let speed = |value| samples([None, Some(5), None, None], [NONE, NONE, value, NONE, NONE]);
    let mut odd = speed(1.0);
    for time in [Micros::MAX, Micros::MIN, YEAR_2000 - 1] {
        odd.times[1] = Some(time);
        store.show(&[newest(3, 1, odd.clone())]).await.unwrap();
    }
    store.show(&[newest(1, 1, speed(1e300)), newest(2, 1, speed(1e-300))]).await.unwrap();
    assert_eq!(last(f, 1).await.unwrap(), "5: ,@- Infinity@5 @- @- 4");
    assert_eq!(last(f, 2).await.unwrap(), "5: ,@- 0@5 @- @- 4");
    assert_eq!(last(f, 3).await, None);
    // Shorter lists than the schema's.
    store.show(&[newest(3, 1, NewestSamples::default())]).await.unwrap();
    assert_eq!(last(f, 3).await, None);
}

/// One backend alone can't hold a lock against another, so on PostgreSQL only.
async fn what_others_are_writing_to_is_passed_over(f: &Fixture) {
    claim(f, &[1, 2]).await;
    let store = TimescaleNewest::new(f.server.connector(), &f.schema);
    let speed = |value| samples([None, Some(5), None, None], [NONE, NONE, value, NONE, NONE]);
    let mut other = f.server.client().await;
    let held = other.transaction().await.unwrap();
    let lock = "select from vehicle_latest join vehicle using (vehicle_id) where vin = $1 for share of vehicle_latest";
    held.query(lock, &[&vin(1).as_str()]).await.unwrap();
    let both = [newest(1, 1, speed(1.0)), newest(2, 1, speed(2.0))];
    let shown = tokio::time::timeout(std::time::Duration::from_secs(20), store.show(&both)).await;
    assert_eq!(shown.expect("it waits for nobody").unwrap(), [vin(1)]);
    assert_eq!((last(f, 1).await, last(f, 2).await.is_some()), (None, true));
    held.commit().await.unwrap();
    assert!(store.show(&both[..1]).await.unwrap().is_empty());
    assert!(last(f, 1).await.is_some());
}
