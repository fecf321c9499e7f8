-- $1 the VIN, $2 and $3 from and to; kilometres over the ground, gaps of more than a minute not bridged
with steps as (
  select ts - lag(ts) over w as gap,
         latitude, lag(latitude) over w as latitude_before,
         longitude, lag(longitude) over w as longitude_before
  from fleet_record
  where vin = $1 and ts >= $2 and ts < $3 and latitude is not null
  window w as (order by ts)
)
select coalesce(sum(12742.0176 * asin(least(1, sqrt(
         sind((latitude - latitude_before) / 2) ^ 2
         + cosd(latitude) * cosd(latitude_before) * sind((longitude - longitude_before) / 2) ^ 2
       )))), 0) as km
from steps
where gap <= interval '1 minute'
