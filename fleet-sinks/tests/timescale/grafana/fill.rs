//! A fleet in the database up to now, with what the dashboards are there to show.

use tokio_postgres::Client;

/// Some vehicles by what is with them.
pub(super) const HOT: &str = "V0002";
pub(super) const BOILING: &str = "V0003";
pub(super) const LOW: &str = "V0004";
/// Its fuel is enough, but slops down to 2 %.
pub(super) const SLOPPY: &str = "V0005";
/// It was silent for ten minutes, half an hour ago.
pub(super) const GAPPY: &str = "V0006";
/// It is off.
pub(super) const PARKED: &str = "V0007";

/// `vehicles` of them with a record every 10 s for `hours`, by SQL alone, and a note of the minutes that
/// are to be rolled up, as the sink makes it where the server doesn't roll up by itself.
pub(super) async fn fill(client: &Client, vehicles: u32, hours: u32) {
    client.batch_execute(&format!(
        "insert into vehicle (vin) select 'V' || lpad(n::text, 4, '0') from generate_series(1, {vehicles}) n order by n; \
         insert into telemetry (vehicle_id, ts, latitude, longitude, speed_kmh, fuel_level_pct, \
             brake_fluid_temp_c, quality) \
         select v.vehicle_id, ts, 45 + v.vehicle_id % 8 + sin(k / 400.0) / 20, 2 + v.vehicle_id % 17 + cos(k / 400.0) / 20, \
             60 + 40 * sin(k / 30.0 + v.vehicle_id), \
             case vin when '{LOW}' then 5 + 4 * (k % 3) \
               when '{SLOPPY}' then case k % 5 when 0 then 2 else 30 end \
               else 30 + (v.vehicle_id + k / 100) % 60 end, \
             case vin when '{HOT}' then 140 when '{BOILING}' then 153 else 60 + 20 * sin(k / 50.0) end, \
             1 + (1 + k % 3) * 4 + 2 * 16 + 2 * 64 \
         from vehicle v cross join lateral ( \
           select ts, (extract(epoch from ts) / 10)::bigint k from generate_series( \
             date_bin('10 s', now(), timestamptz '2000-01-01Z') - interval '{hours} hours', \
             now() - interval '20 seconds', interval '10 s') ts) t \
         where not (vin = '{GAPPY}' and ts between now() - interval '40 minutes' and now() - interval '30 minutes') \
         order by 1, 2; \
         insert into vehicle_latest (vehicle_id, epoch, ts, latitude, longitude, speed_kmh, fuel_level_pct, \
             brake_fluid_temp_c, quality) \
         select v.vehicle_id, 1, t.ts, t.latitude, t.longitude, t.speed_kmh, t.fuel_level_pct, \
             t.brake_fluid_temp_c, t.quality \
         from vehicle v cross join lateral ( \
           select * from telemetry t where t.vehicle_id = v.vehicle_id \
             and t.ts > now() - interval '5 minutes' order by ts desc limit 1) t; \
         insert into trip (vehicle_id, started_at, ended_at) \
         select vehicle_id, now() - interval '{hours} hours', now() - interval '50 minutes' from vehicle; \
         insert into trip (vehicle_id, started_at, ended_at) \
         select vehicle_id, now() - interval '45 minutes', case vin when '{PARKED}' then now() end from vehicle; \
         do $$ begin \
           if to_regclass('fleet_touched') is not null then \
             insert into fleet_touched select distinct date_bin('1 minute', ts, '2000-01-01+00') from telemetry; \
           end if; end $$",
    )).await.unwrap();
}
