-- $1 the VIN, $2 and $3 from and to, $4 the limit in degrees Celsius; cooler for a minute begins anew
with hot as (
  select ts, brake_fluid_temp_c, ts - lag(ts) over (order by ts) > interval '1 minute' as anew
  from fleet_record
  where vin = $1 and ts >= $2 and ts < $3 and brake_fluid_temp_c >= $4::float8
), numbered as (
  select ts, brake_fluid_temp_c, count(*) filter (where anew) over (order by ts) as episode
  from hot
)
select min(ts) as since, max(ts) as until, max(brake_fluid_temp_c) as hottest
from numbered
group by episode
order by since
