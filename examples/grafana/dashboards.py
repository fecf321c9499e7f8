#!/usr/bin/env python3
"""Writes the dashboards, so that their panels stay alike: `python3 dashboards.py` after a change here.

With `--check` it writes nothing and fails if a file is not what it would write. Needs nothing but Python 3.
"""

import json
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "dashboards"
DATABASE = {"type": "grafana-postgresql-datasource", "uid": "fleet"}
PROMETHEUS = {"type": "prometheus", "uid": "${prometheus}"}

# Brake fluid: above 130 °C it is hot; DOT 4 that has drawn water boils at 155 °C, so 150 °C is the last call.
BRAKE = [("green", None), ("orange", 130), ("red", 150)]
FUEL = [("red", None), ("orange", 10), ("green", 20)]
AGE = [("green", None), ("orange", 60), ("red", 300)]
PLAIN = [("blue", None)]


# --- the parts of a panel -------------------------------------------------------------------------


def thresholds(steps):
    return {"mode": "absolute", "steps": [{"color": color, "value": value} for color, value in steps]}


def defaults(unit, steps=PLAIN, custom=None, color="thresholds", **more):
    return {"unit": unit, "color": {"mode": color}, "thresholds": thresholds(steps), "custom": custom or {}, **more}


def override(name, **properties):
    """Settings of one column; `custom_x` stands for `custom.x`."""
    named = [
        {"id": key.replace("custom_", "custom.", 1), "value": value} for key, value in properties.items()
    ]
    return {"matcher": {"id": "byName", "options": name}, "properties": named}


def fixed(color):
    return {"mode": "fixed", "fixedColor": color}


def sql(text, refid="A", kind="time_series"):
    """A query; its lines lose the indentation that they have in this file."""
    lines = text.strip("\n").splitlines()
    indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    raw = "\n".join(line[indent:].rstrip() for line in lines).strip()
    query = {"refId": refid, "datasource": DATABASE, "editorMode": "code", "rawQuery": True}
    return {**query, "format": kind, "rawSql": raw}


def table(text, refid="A"):
    return sql(text, refid, "table")


def promql(expression, legend, refid="A"):
    query = {"refId": refid, "datasource": PROMETHEUS, "editorMode": "code", "range": True}
    return {**query, "expr": expression, "legendFormat": legend}


def panel(kind, title, description, at, targets, field, options, overrides=(), **more):
    x, y, w, h = at
    return {
        "type": kind,
        "title": title,
        "description": description,
        "gridPos": {"x": x, "y": y, "w": w, "h": h},
        "datasource": targets[0]["datasource"],
        "targets": list(targets),
        "fieldConfig": {"defaults": field, "overrides": list(overrides)},
        "options": options,
        **more,
    }


def row(title, y, panels=None, **more):
    folded = {"collapsed": panels is not None, "panels": panels or []}
    return {"type": "row", "title": title, "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}, **folded, **more}


def stat(title, description, at, query, unit, steps=PLAIN, overrides=(), **more):
    options = {
        "colorMode": "value", "graphMode": "none", "justifyMode": "auto", "orientation": "auto",
        "percentChangeColorMode": "standard", "showPercentChange": False, "textMode": "auto", "wideLayout": True,
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    return panel("stat", title, description, at, [query], defaults(unit, steps, **more), options, overrides)


LINE = {
    "drawStyle": "line", "lineInterpolation": "linear", "lineWidth": 1, "fillOpacity": 0, "pointSize": 4,
    "showPoints": "never", "spanNulls": False, "axisPlacement": "auto", "gradientMode": "none",
}


def series(title, description, at, targets, unit, steps=PLAIN, overrides=(), custom=None, min_interval="1m", **more):
    options = {
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "none"},
    }
    style = {**LINE, **(custom or {})}
    if steps is not PLAIN:
        style["thresholdsStyle"] = {"mode": "dashed"}
    field = defaults(unit, steps, style, color="palette-classic")
    return panel("timeseries", title, description, at, targets, field, options, overrides, interval=min_interval, **more)


def rows(title, description, at, query, overrides=()):
    options = {"cellHeight": "sm", "frameIndex": 0, "showHeader": True}
    field = {"custom": {"align": "auto", "inspect": False}, "thresholds": thresholds(PLAIN)}
    return panel("table", title, description, at, [query], field, options, overrides)


def geomap(title, description, at, query, layers, overrides=(), **more):
    options = {
        "basemap": {"config": {}, "name": "base map", "type": "default"},
        "controls": {
            "mouseWheelZoom": True, "showAttribution": True, "showDebug": False, "showMeasure": False,
            "showScale": True, "showZoom": True,
        },
        "layers": layers,
        "tooltip": {"mode": "details"},
        "view": {"id": "fit", "allLayers": True, "lat": 0, "lon": 0, "zoom": 4, "padding": 5},
    }
    return panel("geomap", title, description, at, [query], defaults("short"), options, overrides, **more)


LOCATION = {"mode": "coords", "latitude": "latitude", "longitude": "longitude"}


def markers(name, color, size):
    style = {
        "color": color, "opacity": 0.8, "rotation": {"fixed": 0, "max": 360, "min": -360, "mode": "mod"},
        "size": {"fixed": size, "max": 15, "min": 2},
        "symbol": {"fixed": "img/icons/marker/circle.svg", "mode": "fixed"},
    }
    return {
        "type": "markers", "name": name, "tooltip": True, "location": LOCATION,
        "config": {"showLegend": False, "style": style},
    }


def route(name, color):
    style = {"color": {"fixed": color}, "lineWidth": 2, "opacity": 1, "size": {"fixed": 3, "max": 15, "min": 2}}
    return {
        "type": "route", "name": name, "tooltip": False, "location": LOCATION,
        "config": {"arrow": 0, "style": style},
    }


VIN_LINK = {
    "title": "Look at this vehicle",
    "url": "/d/fleet-vehicle?var-vin=${__value.raw}&${__url_time_range}",
    "targetBlank": False,
}


def vin(text="vin"):
    return override(text, displayName="VIN", links=[VIN_LINK])


def variable(name, label, query, **more):
    return {
        "type": "query", "name": name, "label": label, "datasource": DATABASE, "query": query, "refresh": 1,
        "regex": "", "sort": 0, "hide": 0, "multi": False, "includeAll": False, "options": [], **more,
    }


def dashboard(uid, title, description, panels, variables, span, refresh):
    number = 0
    for item in panels:
        for numbered in [item, *item.get("panels", [])]:
            number += 1
            numbered["id"] = number
    link = {
        "type": "dashboards", "title": "Fleet", "tags": ["fleet"], "asDropdown": False, "icon": "external link",
        "includeVars": False, "keepTime": True, "targetBlank": False, "tooltip": "",
    }
    return {
        "uid": uid, "title": title, "description": description, "tags": ["fleet"], "editable": True,
        "graphTooltip": 1, "schemaVersion": 41, "version": 1, "weekStart": "", "timezone": "browser",
        "time": {"from": span, "to": "now"}, "timepicker": {}, "refresh": refresh, "links": [link],
        "annotations": {"list": []}, "templating": {"list": variables}, "panels": panels,
    }


# --- Fleet ----------------------------------------------------------------------------------------

# A record waits for `window` and `interval` at most, 40 s, until the next sample says so, and for its batch: the one
# of a minute's second 50 is there when the minute is 105 s old.
# The groups are filled up with NULL: a minute without a record is a gap, and not a line across it.
WHOLE = "ts <= now() - interval '105 seconds'"

# The fuel slops about by tens of percent: of one vehicle only the median of ten minutes means anything. Who
# may be low by it is first looked for among the newest records, which is quick.
LOW_FUEL = """
        select l.vin, percentile_cont(0.5) within group (order by r.fuel_level_pct)::float8 as fuel,
          max(r.ts) as "last record"
        from fleet_last l
        join fleet_record r using (vehicle_id)
        where l.fuel_level_pct < 50 and l.ts > now() - interval '10 minutes' and r.fuel_level_pct is not null
          and r.ts > now() - interval '10 minutes'
        group by l.vin
        having percentile_cont(0.5) within group (order by r.fuel_level_pct) < 10
"""


def per_group(what):
    return f"""
        select $__timeGroupAlias(ts, $__interval, NULL), {what}
        from fleet_minute
        where $__timeFilter(ts) and {WHOLE}
        group by 1 order by 1
    """


def fleet():
    now = [
        stat("Active vehicles", "Vehicles whose last trip has no end.", (0, 1, 4, 4),
             table("select count(*) filter (where is_on) as vehicles from fleet_last"), "short"),
        stat("Records per second", "Of the last five whole minutes, over all vehicles.", (4, 1, 4, 4),
             table(f"""
                 select coalesce(sum(records), 0)::float8 / 300 as records
                 from fleet_minute
                 where ts > date_trunc('minute', now()) - interval '7 minutes'
                   and ts <= date_trunc('minute', now()) - interval '2 minutes'
             """), "short", decimals=1),
        stat("Fleet average speed", "Of the last five whole minutes, over all records.", (8, 1, 4, 4),
             table(f"""
                 select avg(speed_kmh_avg) as speed
                 from fleet_minute
                 where ts > now() - interval '7 minutes' and {WHOLE}
             """), "velocitykmh", decimals=0),
        stat("Newest sample", "How old the newest sample of a vehicle that is on is. It is here some seconds "
             "after it was sent.", (12, 1, 4, 4),
             table("select extract(epoch from now() - max(ts))::float8 as age from fleet_last where is_on"),
             "s", AGE, decimals=0),
        stat("Hot brakes", "Vehicles with brake fluid above 130 °C in the last ten minutes, whether they say that they are on or not.", (16, 1, 4, 4),
             table("""
                 select count(*) as vehicles
                 from fleet_last
                 where brake_fluid_temp_c > 130 and ts > now() - interval '10 minutes'
             """), "short", [("green", None), ("orange", 1)]),
        stat("Low fuel", "Vehicles whose median over the last ten minutes is less than 10 %.",
             (20, 1, 4, 4), table(f"select count(*) as vehicles from (\n{LOW_FUEL}) low"), "short",
             [("green", None), ("orange", 1)]),
        geomap("Last positions", "Where each vehicle was that sent a position in the chosen time, the 5,000 newest "
               "at most, some seconds after it was sent. Speed by colour.", (0, 5, 12, 16),
               table("""
                   select vin, position_at as time, latitude, longitude, speed_kmh, brake_fluid_temp_c, is_on
                   from fleet_last
                   where $__timeFilter(position_at) and latitude is not null and longitude is not null
                   order by position_at desc
                   limit 5000
               """), [markers("vehicles", {"field": "speed_kmh", "fixed": "blue"}, 4)],
               [vin(), override("speed_kmh", unit="velocitykmh", displayName="speed",
                                color={"mode": "continuous-BlPu"}, min=0, max=130),
                override("brake_fluid_temp_c", unit="celsius", displayName="brake fluid"),
                override("is_on", displayName="on")]),
        rows("Hot brakes", "Brake fluid above 130 °C now, the hottest first. DOT 4 that has drawn water boils at "
             "155 °C.", (12, 5, 6, 8),
             table("""
                 select vin, brake_fluid_temp_c as temperature, ts as "last record"
                 from fleet_last
                 where brake_fluid_temp_c > 130 and ts > now() - interval '10 minutes'
                 order by brake_fluid_temp_c desc
                 limit 100
             """), [vin(), override("temperature", unit="celsius", thresholds=thresholds(BRAKE), decimals=0,
                                    custom_cellOptions={"type": "color-text"})]),
        rows("Low fuel", "Median of ten minutes below 10 %, the lowest first: the fuel slops about by tens of "
             "percent.", (18, 5, 6, 8), table(f"{LOW_FUEL}        order by fuel limit 100"),
             [vin(), override("fuel", unit="percent", thresholds=thresholds(FUEL), decimals=1,
                              custom_cellOptions={"type": "color-text"})]),
        panel("barchart", "Data freshness", "How old the newest sample of each vehicle that is on is.",
              (12, 13, 12, 8), [table("""
                  select a.label as age, count(l.vin) as vehicles
                  from (values (1, '< 1 min', 0, 60), (2, '1-5 min', 60, 300), (3, '5-15 min', 300, 900),
                    (4, '15-60 min', 900, 3600), (5, '> 1 h', 3600, null)) a (n, label, low, high)
                  left join fleet_last l on l.is_on and l.ts <= now() - make_interval(secs => a.low)
                    and (a.high is null or l.ts > now() - make_interval(secs => a.high))
                  group by a.n, a.label
                  order by a.n
              """)], defaults("short", custom={"fillOpacity": 70, "lineWidth": 1, "axisLabel": "vehicles"}),
              {"barWidth": 0.8, "fullHighlight": False, "groupWidth": 0.7, "orientation": "auto",
               "showValue": "auto", "stacking": "none", "xField": "age", "xTickLabelMaxLength": 0,
               "xTickLabelRotation": 0, "tooltip": {"mode": "single", "sort": "none"},
               "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": False}}),
    ]
    over_time = [
        series("Active vehicles", "Vehicles with a record in a minute: on average, and at most.", (0, 22, 12, 8),
               [sql(per_group('avg(vehicles)::float8 as "average", max(vehicles) as "most"'))], "short"),
        series("Records per second", "On average over the group, all vehicles together. What the workers take in "
               "is in the dashboard Workers, from Prometheus.", (12, 22, 12, 8),
               [sql(f"""
                   select $__timeGroupAlias(m.ts, $__interval, NULL), avg(coalesce(r.records, 0))::float8 / 60 as "records"
                   from generate_series(date_trunc('minute', $__timeFrom()::timestamptz),
                     least($__timeTo()::timestamptz, now() - interval '105 seconds'), interval '1 minute') m (ts)
                   left join (select ts, records from fleet_minute where $__timeFilter(ts)) r on r.ts = m.ts
                   where $__timeFilter(m.ts)
                   group by 1 order by 1
               """)], "short"),
        series("Fleet speed", "Mean of the minutes' averages, and the fastest vehicle.", (0, 30, 12, 8),
               [sql(per_group('avg(speed_kmh_avg) as "average", max(speed_kmh_max) as "fastest"'))],
               "velocitykmh"),
        series("Brake fluid", "Mean of the minutes' averages, and the hottest vehicle.", (12, 30, 12, 8),
               [sql(per_group('avg(brake_fluid_temp_c_avg) as "average", max(brake_fluid_temp_c_max) as "hottest"'))],
               "celsius", BRAKE),
        series("Fuel", "Mean of the minutes' averages over the whole fleet, in which the slopping cancels out.",
               (0, 38, 12, 8), [sql(per_group('avg(fuel_level_pct_avg) as "average"'))], "percent"),
        series("Starts of trips", "Trips that began in each group.", (12, 38, 12, 8),
               [sql("""
                   select $__timeGroupAlias(started_at, $__interval, 0), count(*) as "trips"
                   from fleet_trip
                   where $__timeFilter(started_at)
                   group by 1 order by 1
               """)], "short", custom={"drawStyle": "bars", "fillOpacity": 60}),
    ]
    panels = [row("Now", 0), *now, row("Over the chosen time", 21), *over_time]
    return dashboard("fleet", "Fleet", "All vehicles: where they are, how fast, what needs a look.", panels, [],
                     "now-6h", "30s")


# --- Workers --------------------------------------------------------------------------------------

CELL = 'cell=~"$cell"'


def rate(metric, by, labels=""):
    return f"sum by ({by}) (rate({metric}{{{CELL}{labels}}}[$__rate_interval]))"


def total(metric, by="instance", how="sum"):
    return f"{how} by ({by}) ({metric}{{{CELL}}})"


def workers():
    good_is_none = [("green", None), ("red", 1)]
    now = [
        stat("Alerts", "Alerts of examples/prometheus that fire now.", (0, 1, 4, 4),
             promql('count(ALERTS{alertstate="firing",alertname=~"Fleet.*"}) or vector(0)', "alerts"), "short", good_is_none),
        stat("Not ready", "Conditions of /readyz that are not met, of all programs.", (4, 1, 4, 4),
             promql(f"count(fleet_ready{{{CELL}}} == 0) or vector(0)", "conditions"), "short", good_is_none),
        stat("Sinks away", "Databases and archives that are away, as the workers see it.", (8, 1, 4, 4),
             promql(f"count(fleet_sink_available{{{CELL}}} == 0) or vector(0)", "sinks"), "short", good_is_none),
        stat("Vehicles held", "By all workers.", (12, 1, 4, 4),
             promql(f"sum(fleet_bound{{{CELL}}})", "vehicles"), "short"),
        stat("Room taken", "Vehicles held, of those that the workers may hold: above 80 % there is none for those of a worker "
             "that ends.", (16, 1, 4, 4),
             promql(f"sum(fleet_bound{{{CELL}}}) / sum(fleet_max_vehicles{{{CELL}}})", "taken"), "percentunit",
             [("green", None), ("orange", 0.8), ("red", 1)], decimals=0),
        stat("Longest catch-up", "How long the vehicle has waited that has waited longest for what the stream holds of it.",
             (20, 1, 4, 4), promql(f"max(fleet_source_catching_up_seconds{{{CELL}}})", "waits"), "s",
             [("green", None), ("orange", 60), ("red", 120)], decimals=0),
    ]
    state = [
        series("Ready", "1 where a condition of /readyz is met, by program.", (0, 6, 12, 8),
               [promql(total("fleet_ready", "instance, condition", "min"), "{{condition}} {{instance}}")], "bool",
               custom={"lineInterpolation": "stepAfter"}),
        series("Alerts", "Alerts that fire, by name.", (12, 6, 12, 8),
               [promql('count by (alertname) (ALERTS{alertstate="firing",alertname=~"Fleet.*"})', "{{alertname}}")], "short",
               custom={"lineInterpolation": "stepAfter"}),
        series("Vehicles", "Held; those of them whose live messages are taken; those that are being caught up; and those that "
               "wait for a worker.", (0, 14, 12, 8),
               [promql(f"sum(fleet_bound{{{CELL}}})", "held"),
                promql(f"sum(fleet_source_followed{{{CELL}}})", "followed", "B"),
                promql(f"sum(fleet_source_catching_up{{{CELL}}})", "catching up", "C"),
                promql(f'sum(max by (cell) (fleet_discovery_vehicles{{{CELL},state="waiting"}}))', "waiting", "D")], "short"),
        series("Vehicles held", "By worker: the figure that workers are scaled by.", (12, 14, 12, 8),
               [promql(total("fleet_bound"), "{{instance}}")], "short"),
    ]
    flow = [
        series("Messages per second", "What the workers take in, by worker.", (0, 23, 12, 8),
               [promql(rate("fleet_messages_total", "instance"), "{{instance}}")], "short"),
        series("Records made durable per second", "By worker; corrections count too.", (12, 23, 12, 8),
               [promql(rate("fleet_durable_rows_total", "instance"), "{{instance}}")], "short"),
        series("Rows that wait", "Emitted, and not taken by the sinks yet, by worker.", (0, 31, 12, 8),
               [promql(total("fleet_waiting_rows"), "{{instance}}")], "short"),
        series("Sink at work", "Share of the time in which batches were on their way, by worker: at 1 the sink is as busy as it "
               "can be.", (12, 31, 12, 8),
               [promql(rate("fleet_sink_seconds_total", "instance"), "{{instance}}")], "percentunit"),
    ]
    trouble = [
        series("Refused and late", "Messages, samples or rows a second that were refused, by reason, and samples older "
               "than the window.", (0, 40, 12, 8),
               [promql(rate("fleet_refused_total", "reason"), "{{reason}}"),
                promql(f"sum(rate(fleet_late_samples_total{{{CELL}}}[$__rate_interval]))", "late samples", "B")], "short"),
        series("Not stored by NATS", "Messages of ours that NATS did not store, by reason, and dead letters that were lost.",
               (12, 40, 12, 8),
               [promql(rate("fleet_source_not_stored_total", "reason"), "{{reason}}"),
                promql(rate("fleet_source_dead_letters_total", "outcome", ',outcome!="stored"'), "letters {{outcome}}", "B")],
               "short"),
        series("Bindings", "Made, lost and given back, a second.", (0, 48, 12, 8),
               [promql(f"sum(rate(fleet_bindings_total{{{CELL}}}[$__rate_interval]))", "made"),
                promql(f"sum(rate(fleet_bindings_lost_total{{{CELL}}}[$__rate_interval]))", "lost", "B"),
                promql(f"sum(rate(fleet_released_total{{{CELL}}}[$__rate_interval]))", "given back", "C")], "short"),
        series("Data gone", "Catch-ups whose beginning the stream no longer held, a second, by worker.", (12, 48, 12, 8),
               [promql(rate("fleet_catch_ups_unreachable_total", "instance"), "{{instance}}")], "short"),
        series("CPU", "Cores, by program.", (0, 56, 12, 8),
               [promql('sum by (instance) (rate(process_cpu_seconds_total{job=~"fleet-.*"}[$__rate_interval]))', "{{instance}}")],
               "short"),
        series("Memory", "The largest resident set so far, by program.", (12, 56, 12, 8),
               [promql('max by (instance) (process_peak_memory_bytes{job=~"fleet-.*"})', "{{instance}}")], "bytes"),
    ]
    panels = [row("Now", 0), *now, row("State", 5), *state, row("Flow", 22), *flow, row("Trouble and cost", 39), *trouble]
    variables = [
        {
            "type": "datasource", "name": "prometheus", "label": "Prometheus", "query": "prometheus", "hide": 0,
            "regex": "", "refresh": 1, "multi": False, "includeAll": False, "options": [],
        },
        variable("cell", "Cell", {"query": "label_values(fleet_ready, cell)", "refId": "cell"}, multi=True, includeAll=True,
                 allValue=".*", datasource=PROMETHEUS, current={"selected": True, "text": ["All"], "value": ["$__all"]}),
    ]
    return dashboard("fleet-workers", "Workers", "The programs, from their own metrics: what is ready, how full, what is "
                     "refused.", panels, variables, "now-6h", "30s")


# --- Vehicle --------------------------------------------------------------------------------------

CHOSEN = "vin = ${vin:sqlstring} and $__timeFilter(ts)"

HOW = ["measured", "interpolated", "held"]
MARKS = {
    "measured": {"pointSize": 7, "color": "blue"},
    "interpolated": {"pointSize": 4, "color": "super-light-blue"},
    "held": {"pointSize": 5, "color": "orange"},
}


def marked():
    """The line is thin; what it goes through is a point by how it came about."""
    points = [
        override(how, custom_drawStyle="points", custom_showPoints="always", custom_pointSize=MARKS[how]["pointSize"],
                 color=fixed(MARKS[how]["color"]))
        for how in HOW
    ]
    return points


def signal(title, description, at, column, name, unit, steps=PLAIN, **more):
    """One signal: a line, and points told apart by how the value came about. A group has one record unless
    the chosen time is long. The line is broken where nothing was for a minute, or for a group if that is longer."""
    kinds = ",\n".join(
        f"          avg({column}) filter (where {name}_how = '{how}')::float8 as \"{how}\"" for how in HOW
    )
    query = f"""
        select $__timeGroupAlias(ts, $__interval, NULL), avg({column})::float8 as "{title.lower()}",
{kinds}
        from fleet_record
        where {CHOSEN}
        group by 1 order by 1
    """
    line = override(title.lower(), color=fixed("light-blue"))
    return series(title, description, at, [sql(query)], unit, steps, [line, *marked()],
                  {"spanNulls": 60000}, min_interval="10s", **more)


def last_of(column):
    return f"(array_agg({column} order by ts desc) filter (where {column} is not null))[1]"


def vehicle():
    newest = "from fleet_last where vin = ${vin:sqlstring}"
    top = [
        stat("State", "Whether the last trip has no end.", (0, 0, 4, 4),
             table(f"select is_on::int as state {newest}"), "short",
             mappings=[{"type": "value", "options": {"0": {"text": "off", "color": "text", "index": 0},
                                                     "1": {"text": "on", "color": "green", "index": 1}}}]),
        stat("Speed", "The newest that was sent.", (4, 0, 4, 4),
             table(f"select speed_kmh::float8 as speed {newest}"), "velocitykmh", decimals=0),
        stat("Fuel", "Median of the ten minutes before the newest record: the fuel slops about.", (8, 0, 4, 4),
             table("""
                 select percentile_cont(0.5) within group (order by r.fuel_level_pct)::float8 as fuel
                 from fleet_last l
                 join fleet_record r using (vehicle_id)
                 where l.vin = ${vin:sqlstring} and r.ts > l.ts - interval '10 minutes'
             """), "percent", FUEL, decimals=1),
        stat("Brake fluid", "The newest that was sent.", (12, 0, 4, 4),
             table(f"select brake_fluid_temp_c::float8 as temperature {newest}"), "celsius", BRAKE, decimals=0),
        stat("Newest sample", "How old it is; it is here some seconds after it was sent.", (16, 0, 4, 4),
             table(f"select extract(epoch from now() - ts)::float8 as age {newest}"), "s", AGE, decimals=0),
        stat("Measured", "Share of the speeds in the chosen time that were measured at that very instant and not "
             "interpolated.", (20, 0, 4, 4),
             table(f"""
                 select count(*) filter (where speed_how = 'measured') * 100.0::float8 / nullif(count(speed_how), 0)
                   as share
                 from fleet_record
                 where {CHOSEN}
             """), "percent", decimals=0),
        geomap("Route", "Where the vehicle was in the chosen time. Speed by colour.", (0, 4, 12, 18),
               table(f"""
                   select $__timeGroupAlias(ts, $__interval), {last_of("latitude")} as latitude,
                     {last_of("longitude")} as longitude, avg(speed_kmh)::float8 as speed_kmh
                   from fleet_record
                   where {CHOSEN} and latitude is not null and longitude is not null
                   group by 1 order by 1
               """), [route("way", "blue"), markers("records", {"field": "speed_kmh", "fixed": "blue"}, 3)],
               [override("speed_kmh", unit="velocitykmh", displayName="speed", color={"mode": "continuous-BlPu"},
                         min=0, max=130)], interval="10s"),
        signal("Speed", "Through measured, interpolated and held values; where the line is broken there is none.",
               (12, 4, 12, 9), "speed_kmh", "speed", "velocitykmh"),
        series("Position", "Latitude on the left and longitude on the right, the last of each group.", (12, 13, 12, 9),
               [sql(f"""
                   select $__timeGroupAlias(ts, $__interval, NULL), {last_of("latitude")} as "latitude",
                     {last_of("longitude")} as "longitude",
                     {last_of("latitude").replace("is not null", "is not null and position_how = 'measured'")}
                       as "measured"
                   from fleet_record
                   where {CHOSEN}
                   group by 1 order by 1
               """)], "degree", overrides=[override("latitude", color=fixed("light-blue")),
                                           override("longitude", color=fixed("orange"), custom_axisPlacement="right"),
                                           *marked()[:1]],
               custom={"spanNulls": 60000}, min_interval="10s"),
        signal("Fuel", "The fuel slops about; look at the trend. Points as beside.", (0, 22, 12, 9), "fuel_level_pct",
               "fuel", "percent", FUEL),
        signal("Brake fluid", "Above 130 °C it is hot; DOT 4 that has drawn water boils at 155 °C. Points as beside.",
               (12, 22, 12, 9), "brake_fluid_temp_c", "brake", "celsius", BRAKE),
    ]
    hows = ",\n".join(
        f"                mode() within group (order by {name}_how) as \"{name}\""
        for name in ["position", "speed", "fuel", "brake"]
    )
    colors = {how: {"color": MARKS[how]["color"], "index": n} for n, how in enumerate(HOW)}
    origin = panel(
        "state-timeline", "How the values came about",
        "Of each signal, what most of a group's values are: measured at that instant, interpolated between two "
        "samples, or held from the last one. Where there is nothing there is no value.",
        (0, 31, 24, 7), [sql(f"""
            select $__timeGroupAlias(ts, $__interval),
{hows}
            from fleet_record
            where {CHOSEN}
            group by 1 order by 1
        """)],
        {"color": fixed("text"), "thresholds": thresholds(PLAIN), "mappings": [{"type": "value", "options": colors}],
         "custom": {"fillOpacity": 80, "lineWidth": 0}},
        {"alignValue": "left", "mergeValues": True, "rowHeight": 0.8, "showValue": "never",
         "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
         "tooltip": {"mode": "single", "sort": "none"}},
        interval="10s",
    )
    tables = [
        rows("Trips", "Trips that touch the chosen time; the last one may go on.", (0, 38, 12, 9),
             table("""
                 select started_at, ended_at, extract(epoch from coalesce(duration, now() - started_at))::float8 as duration
                 from fleet_trip
                 where vin = ${vin:sqlstring} and started_at <= $__timeTo()::timestamptz
                   and coalesce(ended_at, now()) >= $__timeFrom()::timestamptz
                 order by started_at desc
                 limit 200
             """), [override("started_at", displayName="from"), override("ended_at", displayName="to"),
                    override("duration", unit="dtdurations")]),
        rows("Gaps", "Where a signal has no value for more than 60 s, within the chosen time.", (12, 38, 12, 9),
             table(f"""
                 select signal, since, ts as until, extract(epoch from ts - since)::float8 as duration
                 from (
                   select s.name as signal, r.ts, lag(r.ts) over (partition by s.position order by r.ts) as since
                   from fleet_record r
                   cross join fleet_signal s
                   where {CHOSEN} and ((r.quality >> (2 * s.position)) & 3) <> 0
                 ) g
                 where ts - since > interval '60 seconds'
                 order by since desc
                 limit 200
             """), [override("since", displayName="from"), override("until", displayName="to"),
                    override("duration", unit="dtdurations")]),
    ]
    any_signal = series(
        "$signal", "Every column of the signal as stored, whatever signals the deployment has: a line, and points "
        "where a value was measured. Its unit is that of the configuration.", (0, 48, 12, 9),
        [sql("""
            select $__timeGroupAlias(t.ts, $__interval, NULL), c.name as metric,
              avg((to_jsonb(t) ->> c.name)::float8) as value,
              avg((to_jsonb(t) ->> c.name)::float8) filter (where (t.quality >> (2 * c.position)) & 3 = 1) as measured
            from telemetry t
            join vehicle v using (vehicle_id)
            cross join (select position, unnest(columns) as name from fleet_signal where name = ${signal:sqlstring}) c
            where v.vin = ${vin:sqlstring} and $__timeFilter(t.ts)
            group by 1, 2 order by 1, 2
        """)], "short", custom={"spanNulls": 60000}, min_interval="10s", repeat="signal", repeatDirection="h",
        maxPerRow=2,
        overrides=[override("value", displayName="${__field.labels.metric}"),
                   override("measured", displayName="${__field.labels.metric} measured", custom_drawStyle="points",
                            custom_showPoints="always", custom_pointSize=MARKS["measured"]["pointSize"])],
    )
    panels = [*top, origin, *tables, row("Any signal", 47), any_signal]
    variables = [
        variable("vin", "VIN", "select vin from vehicle where vin ilike '$__searchFilter' order by vin limit 1000"),
        variable("signal", "Signals below", "select name from fleet_signal order by position", multi=True,
                 includeAll=True, current={"selected": True, "text": ["All"], "value": ["$__all"]}),
    ]
    return dashboard("fleet-vehicle", "Vehicle", "One vehicle over time.", panels, variables, "now-1h", "30s")


def main():
    stale = []
    for name, made in [("fleet.json", fleet()), ("vehicle.json", vehicle()), ("workers.json", workers())]:
        path = FOLDER / name
        text = json.dumps(made, indent=2, ensure_ascii=False) + "\n"
        if "--check" not in sys.argv[1:]:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(name)
    if stale:
        sys.exit(f"run dashboards.py: {', '.join(stale)} is not what it makes")


main()
