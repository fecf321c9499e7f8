-- $1 the VIN, $2 and $3 from and to
select ts, latitude, longitude, speed_kmh, fuel_level_pct, brake_fluid_temp_c
from fleet_record
where vin = $1 and ts >= $2 and ts < $3
order by ts
