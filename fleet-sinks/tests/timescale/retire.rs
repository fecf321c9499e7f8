//! Days that leave the database for the archive, and come back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use fleet_core::batch::Quality;
use fleet_core::time::{MINUTE, Micros, SECOND, display};
use fleet_core::{ErrorKind, Sink};
use fleet_sinks::parquet::{ParquetOptions, ParquetSink};
use fleet_sinks::timescale::{
    Edition, MaintainOptions, RetireOptions, Retired, SetupOptions, TimescaleSink, bring_back, erase,
    maintain, retire, setup,
};
use tempfile::TempDir;

use crate::fixture::{Fixture, Random, Record, seal, speed, vin};
use crate::server::Server;
use crate::views::{answer, keep_up, run_jobs};

const DAY: Micros = 24 * 60 * MINUTE;
const AFTER: Duration = Duration::from_secs(3 * 86_400);

/// A database and an archive beside it.
struct Both {
    f: Fixture,
    archive: ParquetSink,
    root: TempDir,
    today: Micros,
}

impl Both {
    async fn on(server: Server) -> Self {
        let mut f = Fixture::on(server).await;
        f.sink = TimescaleSink::new(f.server.connector(), &f.schema).beside_archive();
        let root = tempfile::tempdir().unwrap();
        let options = ParquetOptions::new(root.path(), "w");
        let archive = ParquetSink::new(options, &f.schema, fleet_worker::clock::now).unwrap();
        let today = "select (extract(epoch from now())::bigint / 86400)";
        let today = f.client.query_one(today, &[]).await.unwrap().get::<_, i64>(0) * DAY;
        Self { f, archive, root, today }
    }

    /// Lets days leave from now on, once all is rolled up.
    async fn set_up(&self) {
        keep_up(&self.f).await;
        let options = SetupOptions { retire_after: Some(AFTER), ..SetupOptions::default() };
        setup(&self.f.server.connector(), &self.f.schema, &options).await.unwrap();
    }

    /// Stores in the database, the archive, or both.
    async fn store(&mut self, database: bool, archive: bool, records: &[Record]) {
        let batch = seal(&mut self.f.builder, records);
        if database {
            assert!(self.f.sink.accept(&batch).await.unwrap().rejected.is_empty());
        }
        if archive {
            self.archive.accept(&batch).await.unwrap();
            self.archive.flush().await.unwrap();
        }
    }

    fn options(&self) -> RetireOptions {
        RetireOptions { after: AFTER, archive: self.root.path().into() }
    }

    /// The next hour's run.
    async fn retire(&self) -> Retired {
        self.f.client.batch_execute("update fleet_upkeep set retire_turn_at = '-infinity'").await.unwrap();
        let done = retire(&self.f.server.connector(), &self.f.schema, &self.options()).await.unwrap();
        assert!(done.had_turn);
        done
    }

    /// The days of an age, as they are told.
    fn date(&self, age: i64) -> String {
        display(self.today - age * DAY)[..10].to_owned()
    }

    async fn roll_ups(&self) -> [Vec<String>; 2] {
        let of = |view: &str| format!("select * from {view} order by ts");
        [answer(&self.f.client, &of("fleet_minute")).await, answer(&self.f.client, &of("fleet_hour")).await]
    }

    /// The ages of the days that have rows, and partitions or chunks without a row among them.
    async fn ages(&self) -> Vec<i64> {
        let select = "select distinct (extract(epoch from ts)::bigint / 86400) from telemetry order by 1";
        let rows = self.f.client.query(select, &[]).await.unwrap();
        rows.iter().map(|row| self.today / DAY - row.get::<_, i64>(0)).collect()
    }

    /// How many partitions or chunks there are of days before today.
    async fn parts(&self) -> i64 {
        let count = match self.f.edition {
            Edition::Plain => {
                "select count(*) from pg_class where relname ~ '^telemetry_p[0-9]{8}$' and relkind = 'r' \
                   and to_date(right(relname, 8), 'YYYYMMDD') < (now() at time zone 'UTC')::date - 1"
            }
            _ => {
                "select count(*) from timescaledb_information.chunks where hypertable_name = 'telemetry' \
                   and range_end <= now() - interval '1 day'"
            }
        };
        self.f.client.query_one(count, &[]).await.unwrap().get(0)
    }

    fn archived_only(&self) -> u64 {
        self.f.sink.counters().retired.load(Ordering::Relaxed)
    }
}

/// Some vehicles' rows of a day, an hour before and after noon.
fn drive(from: Micros, vehicles: usize) -> Vec<Record> {
    let at = |vehicle, n: i64| {
        let record =
            speed(vehicle, from + 11 * 60 * MINUTE + n * 3 * MINUTE, n as f64 + vehicle as f64 / 8.0);
        record.with(0, 48.1 + n as f64 / 7.0, Quality::Interpolated).with(2, -0.0, Quality::Held)
    };
    (0..40).flat_map(|n| (1..=vehicles).map(move |vehicle| at(vehicle, n))).collect()
}

#[tokio::test]
async fn what_the_archive_has_leaves_and_comes_back_on_plain_postgresql() {
    leaves_and_comes_back(Server::plain().await).await;
}

#[tokio::test]
async fn what_the_archive_has_leaves_and_comes_back_on_community() {
    leaves_and_comes_back(Server::timescale().await).await;
}

#[tokio::test]
async fn what_the_archive_has_leaves_and_comes_back_on_apache() {
    leaves_and_comes_back(Server::apache().await).await;
}

async fn leaves_and_comes_back(server: Server) {
    let mut b = Both::on(server).await;
    for age in [40, 20, 5, 3, 0] {
        b.store(true, age != 20, &drive(b.today - age * DAY, 3)).await;
    }
    // Some once more, other signals of some of them: each is as the newest emission has it.
    let again: Vec<Record> = drive(b.today - 5 * DAY, 2)
        .into_iter()
        .step_by(3)
        .map(|r| Record { correction: true, ..r.without(0) }.with(1, 0.25, Quality::Measured))
        .collect();
    b.store(true, true, &again).await;
    b.set_up().await;
    let (roll_ups, records) = (b.roll_ups().await, b.f.table().await);
    let parts = b.parts().await;

    let done = b.retire().await;
    assert_eq!(done.days, [(b.date(40), 120), (b.date(5), 120)]);
    assert_eq!(done.kept, [(b.date(20), "the archive lacks the day".to_owned())]);
    assert_eq!(b.ages().await, [20, 3, 0]);
    assert_eq!(b.parts().await, parts - 2);
    let kept_up = async |b: &Both| -> [Vec<String>; 2] {
        keep_up(&b.f).await;
        run_jobs(&b.f, "policy_refresh_continuous_aggregate").await;
        b.roll_ups().await
    };
    assert!(kept_up(&b).await == roll_ups, "what is known of days that have left stays");

    // What comes late for a day that has left makes no partition or chunk.
    let late = speed(2, b.today - 40 * DAY + 17 * SECOND, 9.0);
    b.store(true, true, &[late, speed(3, late.ts + 1, 1.0).correction(), speed(2, b.today + SECOND, 9.0)])
        .await;
    assert_eq!((b.archived_only(), b.parts().await), (2, parts - 2));
    assert_eq!(b.ages().await, [20, 3, 0]);
    // Without an archive it would be nowhere.
    let mut alone = TimescaleSink::new(b.f.server.connector(), &b.f.schema);
    let rejected = alone.accept(&seal(&mut b.f.builder, &[late])).await.unwrap().rejected;
    assert_eq!(rejected.len(), 1);
    let why = &rejected[0].reason;
    assert!(why.ends_with(":00:17Z: its day has left the database for the archive"), "{why}");

    // The missing day is there now.
    b.store(false, true, &drive(b.today - 20 * DAY, 3)).await;
    let done = b.retire().await;
    assert_eq!((done.days, done.kept), (vec![(b.date(20), 120)], vec![]));

    // Back, in part; it stays as long as it was asked to, and what comes meanwhile too.
    let connector = b.f.server.connector();
    assert!(bring_back(&connector, &b.date(5), Some(AFTER)).await.unwrap());
    assert!(!bring_back(&connector, &b.date(3), Some(AFTER)).await.unwrap());
    b.store(true, false, &drive(b.today - 5 * DAY, 2)[..40]).await;
    b.store(true, false, &again).await;
    b.store(true, true, &[speed(1, b.today - 5 * DAY + SECOND, 1.0)]).await;
    let back = b.f.table().await.into_iter().filter(|((_, ts), _)| *ts < b.today - 4 * DAY);
    let (known, new): (Vec<_>, Vec<_>) = back.partition(|(key, _)| records.contains_key(key));
    assert_eq!((known.len(), new.len()), (40 + 13, 1));
    assert_eq!(b.retire().await, Retired { had_turn: true, ..Retired::default() });
    b.f.client
        .batch_execute("update fleet_day set back_until = now() where back_until is not null")
        .await
        .unwrap();
    assert_eq!(b.retire().await.days, [(b.date(5), 54)]);
    assert_eq!(b.ages().await, [3, 0]);
    // Nor can a vehicle be taken out of a sum whose parts are gone.
    assert_eq!(erase(&connector, &vin(2)).await.unwrap().records, 40 + 40 + 1);
    let now = kept_up(&b).await;
    let of_gone = |roll_ups: &[Vec<String>; 2]| (roll_ups[0][..120].to_vec(), roll_ups[1][..6].to_vec());
    assert!(of_gone(&now) == of_gone(&roll_ups) && now != roll_ups);
    let first = "select records, retired_at is not null as retired from fleet_day where day = to_date($1, 'YYYY-MM-DD')";
    let row = b.f.client.query_one(first, &[&b.date(5)]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, bool>(1)), (120, true));
}

/// One of them at a time keeps its day.
#[tokio::test]
async fn whatever_the_archive_lacks_of_a_day_keeps_it() {
    let mut b = Both::on(Server::plain().await).await;
    let noon = b.today - 9 * DAY + 12 * 60 * MINUTE;
    let rows = drive(b.today - 9 * DAY, 2);
    b.store(true, true, &rows).await;
    keep_up(&b.f).await;
    let kept = async |b: &mut Both, extra: Record, why: String| {
        b.store(true, false, &[extra]).await;
        keep_up(&b.f).await;
        let done = b.retire().await;
        assert_eq!((done.days, done.kept), (vec![], vec![(b.date(9), why)]));
        b.store(false, true, &[extra]).await;
    };
    let at = display(noon + SECOND);
    let (of, to) = (display(noon), display(noon + 60 * MINUTE));
    kept(&mut b, speed(1, noon + SECOND, 1.0), format!("the archive lacks the record of V0001 at {at}"))
        .await;
    kept(
        &mut b,
        speed(7, noon + SECOND, 1.0),
        format!("the archive lacks all 1 records of V0007 from {of} to {to}"),
    )
    .await;
    let other = speed(1, noon + SECOND, 1.5).correction();
    kept(&mut b, other, format!("the archive has another speed of V0001 at {at}")).await;
    let held = Record { signals: [None, Some((1.5, Quality::Held)), None, None], ..other };
    kept(&mut b, held, format!("the archive has another speed of V0001 at {at}")).await;
    let fuel = held.without(1).with(2, 80.0, Quality::Measured);
    kept(&mut b, fuel, format!("the archive has another fuel of V0001 at {at}")).await;

    // Nobody knows whose this is.
    let lost = format!("insert into telemetry (ts, vehicle_id, quality) values ('{of}', 99, 0)");
    b.f.client.batch_execute(&lost).await.unwrap();
    let why = "it has records of a vehicle that the archive can't name: null".to_owned();
    assert_eq!(b.retire().await.kept, [(b.date(9), why)]);
    b.f.client.batch_execute("delete from telemetry where vehicle_id = 99").await.unwrap();

    // A file that can't be read.
    let day = b.root.path().join(format!("date={}", b.date(9)));
    std::fs::write(day.join("a.parquet"), "no Parquet").unwrap();
    let done = b.retire().await;
    assert!(done.days.is_empty() && done.kept[0].1.contains("a.parquet: "), "{done:?}");
    std::fs::remove_file(day.join("a.parquet")).unwrap();

    // The archive may have more.
    let more =
        [speed(8, noon, 1.0), speed(1, noon + 2 * SECOND, 1.0), fuel.without(2).with(3, 9.0, Quality::Held)];
    b.store(false, true, &more).await;
    let done = b.retire().await;
    assert_eq!((done.days, done.kept), (vec![(b.date(9), 82)], vec![]));
}

/// Whatever order emissions came in, in many files.
#[tokio::test]
async fn both_sides_add_up_alike() {
    let mut b = Both::on(Server::plain().await).await;
    let mut random = Random(11);
    let noon = b.today - 6 * DAY + 12 * 60 * MINUTE - crate::fixture::NOON;
    for _ in 0..30 {
        let records = (0..20).map(|_| random.record());
        let records: Vec<_> = records
            .filter(|r| r.signals.iter().any(Option::is_some))
            .map(|r| Record { ts: r.ts + noon, ..r })
            .collect();
        b.store(true, true, &records).await;
    }
    keep_up(&b.f).await;
    let rows = b.f.table().await.len() as u64;
    // Not by way of the rows: on the server a function of that name would be missed.
    b.f.client.batch_execute("alter table telemetry rename column quality to other").await.unwrap();
    b.f.client.batch_execute("alter table telemetry rename column other to quality").await.unwrap();
    let done = b.retire().await;
    assert_eq!((done.days, done.kept), (vec![(b.date(6), rows)], vec![]));
}

/// Until somebody waits for a lock on this table.
async fn until_waiting(b: &Both, table: &str) {
    let waiting = "select exists (select from pg_locks where not granted and relation = to_regclass($1))";
    for _ in 0..500 {
        if b.f.client.query_one(waiting, &[&table]).await.unwrap().get(0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nobody waits for {table}");
}

#[tokio::test]
async fn rows_that_come_while_a_day_is_looked_at_keep_it() {
    let mut b = Both::on(Server::plain().await).await;
    b.store(true, true, &drive(b.today - 9 * DAY, 2)).await;
    keep_up(&b.f).await;
    let locker = b.f.server.client().await;
    // The sums need the names of vehicles; a sink knows them.
    locker.batch_execute("begin; lock table vehicle").await.unwrap();
    let (connector, schema, options) = (b.f.server.connector(), b.f.schema.clone(), b.options());
    let looking = tokio::spawn(async move { retire(&connector, &schema, &options).await });
    until_waiting(&b, "vehicle").await;
    // Its archive has it at once: what counts is that it came.
    b.store(true, true, &[speed(1, b.today - 9 * DAY + SECOND, 1.0)]).await;
    // Another process finds the turn taken.
    let other = retire(&b.f.server.connector(), &b.f.schema, &b.options()).await.unwrap();
    assert_eq!(other, Retired::default());
    locker.batch_execute("rollback").await.unwrap();
    keep_up(&b.f).await;
    let done = looking.await.unwrap().unwrap();
    assert_eq!(done, Retired { had_turn: true, ..Retired::default() });
    assert_eq!(b.ages().await, [9]);
    assert_eq!(b.retire().await.days, [(b.date(9), 81)]);
}

#[tokio::test]
async fn who_is_about_to_write_is_waited_for() {
    let mut b = Both::on(Server::plain().await).await;
    b.store(true, true, &drive(b.today - 9 * DAY, 2)).await;
    keep_up(&b.f).await;
    // As a sink's transaction does.
    let writer = b.f.server.client().await;
    writer.batch_execute("begin; lock table fleet_late in row exclusive mode").await.unwrap();
    let error = retire(&b.f.server.connector(), &b.f.schema, &b.options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    writer.batch_execute("rollback").await.unwrap();
    assert_eq!(b.retire().await.days.len(), 1);

    // A sink that has looked just before finds the day closed within its transaction.
    b.f.client.batch_execute("update fleet_day set back_until = 'infinity'").await.unwrap();
    let locker = b.f.server.client().await;
    locker.batch_execute("begin; lock table fleet_late").await.unwrap();
    let batch = seal(&mut b.f.builder, &[speed(1, b.today - 9 * DAY, 1.0)]);
    let (writing, closing) = tokio::join!(b.f.sink.accept(&batch), async {
        let close = "update fleet_day set back_until = null; commit";
        for _ in 0..500 {
            let waiting = "select exists (select from pg_locks where not granted \
                             and relation = 'fleet_late'::regclass)";
            if locker.query_one(waiting, &[]).await.unwrap().get(0) {
                return locker.batch_execute(close).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the sink does not wait");
    });
    closing.unwrap();
    let error = writing.unwrap_err();
    assert!(
        error.kind() == ErrorKind::Unavailable && error.to_string().contains("left the database"),
        "{error}"
    );
    b.f.sink.accept(&batch).await.unwrap();
    assert_eq!((b.archived_only(), b.f.table().await.len()), (1, 0));
}

/// A day whose roll-ups are not made yet would lose them.
#[tokio::test]
async fn roll_ups_are_made_first() {
    for server in [Server::plain().await, Server::timescale().await] {
        let mut b = Both::on(server).await;
        b.store(true, true, &drive(b.today - 9 * DAY, 2)).await;
        b.store(true, true, &[speed(1, b.today, 1.0)]).await;
        if b.f.edition == Edition::Community {
            b.set_up().await;
            b.store(true, true, &drive(b.today - 12 * DAY, 1)).await;
        }
        let before = b.roll_ups().await;
        let done = b.retire().await;
        if b.f.edition == Edition::Plain {
            assert_eq!(done, Retired { had_turn: true, ..Retired::default() });
            let options = MaintainOptions { partitions_ahead: 1, retention: None };
            maintain(&b.f.server.connector(), &options).await.unwrap();
            assert_eq!(b.retire().await.days.len(), 1);
        } else {
            assert_eq!(done.days.len(), 2);
        }
        let [minutes, hours] = b.roll_ups().await;
        if b.f.edition == Edition::Community {
            // Rows that came after their time was rolled up, further back than the server looks.
            assert_eq!((before[0].len(), before[1].len()), (41, 3));
            assert_eq!((minutes.len(), hours.len()), (81, 5));
        } else {
            assert!([&minutes, &hours] == [&before[0], &before[1]]);
        }
        keep_up(&b.f).await;
        assert!(b.roll_ups().await == [minutes, hours]);
    }
}

#[tokio::test]
async fn what_is_not_set_up_for_it_is_refused() {
    let mut b = Both::on(Server::timescale().await).await;
    b.store(true, true, &drive(b.today - 9 * DAY, 1)).await;
    let (connector, schema) = (b.f.server.connector(), b.f.schema.clone());
    let refused = async |after: u64| {
        let options = RetireOptions { after: Duration::from_secs(after * 86_400), ..b.options() };
        b.f.client.batch_execute("update fleet_upkeep set retire_turn_at = '-infinity'").await.unwrap();
        let error = retire(&connector, &schema, &options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
        error.to_string()
    };
    assert_eq!(refused(1).await, "a day of 86400 s can't be retired yet");
    let said = refused(2).await;
    assert!(said.contains("fleet_hour_1, fleet_minute_1") && said.contains("run the setup"), "{said}");
    assert_eq!(b.ages().await, [9]);
}
