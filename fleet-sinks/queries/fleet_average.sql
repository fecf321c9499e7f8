-- $1 and $2 from and to
select ts, vehicles, speed_kmh_avg, speed_kmh_min, speed_kmh_max
from fleet_minute
where ts >= $1 and ts < $2
order by ts
