select vin, position_at, latitude, longitude, is_on
from fleet_last
where latitude is not null
order by vin
