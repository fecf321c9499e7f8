-- $1 and $2 from and to, $3 the limit in degrees Celsius; rows are looked at only in minutes that had one
select r.vin, min(r.ts) as first, max(r.brake_fluid_temp_c) as hottest, count(*) as records
from fleet_minute m
cross join lateral (
  select vin, ts, brake_fluid_temp_c
  from fleet_record
  where ts >= m.ts and ts < m.ts + interval '1 minute' and brake_fluid_temp_c >= $3::float8
  offset 0 -- minute by minute, not all at once
) r
where m.ts >= $1 and m.ts < $2 and m.brake_fluid_temp_c_max >= $3::float8
group by r.vin
order by hottest desc, r.vin
