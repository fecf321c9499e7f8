-- $1 the time, $2 the limit in percent; the median of ten minutes, because fuel sloshes
select vin, percentile_cont(0.5) within group (order by fuel_level_pct) as fuel_level_pct
from fleet_record
where ts > $1::timestamptz - interval '10 minutes' and ts <= $1::timestamptz
group by vin
having count(fuel_level_pct) >= 12
   and percentile_cont(0.5) within group (order by fuel_level_pct) < $2::float8
order by fuel_level_pct, vin
