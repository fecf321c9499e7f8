-- $1 and $2 from and to, $3 the limit in degrees Celsius; rows are looked at only about minutes that had one
with hot as (
  select ts, ts - lag(ts) over (order by ts) > interval '10 minutes' as anew
  from fleet_minute
  where ts >= $1 and ts < $2 and brake_fluid_temp_c_max >= $3::float8
), spans as (
  select min(ts) as since, max(ts) + interval '1 minute' as until
  from (select ts, count(*) filter (where anew) over (order by ts) as span from hot) h
  group by span
)
select r.vin, min(r.ts) as first, max(r.brake_fluid_temp_c) as hottest, count(*) as records
from spans s
cross join lateral (
  select vin, ts, brake_fluid_temp_c
  from fleet_record
  where ts >= s.since and ts < s.until and brake_fluid_temp_c >= $3::float8
  offset 0 -- span by span, not all at once
) r
group by r.vin
order by hottest desc, r.vin
