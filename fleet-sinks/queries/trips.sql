-- $1 the VIN, $2 and $3 from and to
select started_at, ended_at, duration
from fleet_trip
where vin = $1 and started_at < $3 and (ended_at is null or ended_at > $2)
order by started_at
