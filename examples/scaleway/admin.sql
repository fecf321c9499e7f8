-- Once, as the administrator, in the database fleet.
create extension if not exists timescaledb;
grant connect, temporary on database fleet to fleet;
grant connect on database fleet to grafana;
grant usage, create on schema public to fleet;
grant usage on schema public to grafana;
-- Compiling its queries would take longer than running them.
alter role grafana set jit = off;
