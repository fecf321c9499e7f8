-- Once, as the role fleet, which owns what setup makes: Grafana may look at all of it, and no more.
grant select on all tables in schema public to grafana;
alter default privileges in schema public grant select on tables to grafana;
