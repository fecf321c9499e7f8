-- $1 the time, $2 the limit in percent; the median of ten minutes, because fuel sloshes
select vin, f.fuel_level_pct
from (
  select vehicle_id, percentile_cont(0.5) within group (order by fuel_level_pct) as fuel_level_pct
  from telemetry
  where ts > $1::timestamptz - interval '10 minutes' and ts <= $1::timestamptz
  group by vehicle_id
  having count(fuel_level_pct) >= 12
) f
join vehicle using (vehicle_id)
where f.fuel_level_pct < $2::float8
order by f.fuel_level_pct, vin
