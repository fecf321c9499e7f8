-- $1 the limit in degrees Celsius
select vin, ts, brake_fluid_temp_c
from fleet_last
where brake_fluid_temp_c >= $1::float8
order by brake_fluid_temp_c desc, vin
