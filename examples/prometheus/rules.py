#!/usr/bin/env python3
"""Writes the alerts in the forms of those who evaluate them: `python3 rules.py` after a change here.

`rules.yaml` is for Prometheus, `../kubernetes/monitoring/rules.yaml` for its operator, and
`../grafana/provisioning/alerting/workers.yaml` for Grafana. With `--check` it writes nothing and fails if a file is not
what it would write. Needs nothing but Python 3.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
PAGE = "docs/operations.md#alarms-and-what-to-do"
NOTE = "# Written by examples/prometheus/rules.py: change that and not this.\n"

WORKER = "{{ $labels.instance }} (cell {{ $labels.cell }})"


def grows(metric, by="cell, instance", than="0"):
    """A counter that grows, and one that has grown before it was scraped for the first time."""
    total = f"sum by ({by}) ({metric})"
    before = f"sum by ({by}) ({metric} offset 10m)"
    return f"sum by ({by}) (increase({metric}[10m])) > {than} or ({total} > {than} unless {before})"


def condition(name):
    return f'min by (cell, instance) (fleet_ready{{condition="{name}"}})'


def alert(name, severity, hold, expr, summary, description, log=None):
    """`log` is what a line of the log of the program in the label `instance` has, word for word."""
    return {
        "name": name, "severity": severity, "for": hold, "expr": expr, "summary": summary,
        "description": description, "log": log,
    }


ALERTS = [
    alert(
        "FleetProgramDown", "critical", "2m", 'up{job=~"fleet-.*"} == 0',
        "{{ $labels.job }} {{ $labels.instance }} does not answer Prometheus",
        "The process has ended, hangs or can't be reached. A dead worker's vehicles go to others after ack_wait.",
        "fleet-worker ends",
    ),
    alert(
        "FleetSinkAway", "critical", "1m", "min by (cell, instance, sink) (fleet_sink_available) == 0",
        "Sink {{ $labels.sink }} is away for " + WORKER,
        "The database or archive can't be reached, is read-only or refuses all rows. Rows wait, and beyond "
        "worker.max_waiting_rows the stream keeps the messages: nothing is lost before its max_age.",
        "the sink is unavailable",
    ),
    alert(
        "FleetRowsWait", "warning", "2m",
        "sum by (cell, instance) (fleet_waiting_rows) > 0.5 * sum by (cell, instance) (fleet_max_waiting_rows)",
        "Rows wait for a sink of " + WORKER,
        "More than half of worker.max_waiting_rows wait: a sink is away, or slower than the fleet.",
        "the sink is unavailable",
    ),
    alert(
        "FleetNatsAway", "critical", "1m",
        f'{condition("bind queue")} == 0 and {condition("nats storage")} == 0',
        "NATS is away for " + WORKER,
        "The server is down or can't be reached, or the cell's streams are gone. Vehicles keep their messages and send them "
        "later; a worker that could not renew for ack_wait drops its vehicles.",
        "no bind queue",
    ),
    alert(
        "FleetNatsStoresNothing", "critical", "1m",
        f'{condition("nats storage")} == 0 unless {condition("bind queue")} == 0',
        "NATS answers " + WORKER + " and stores nothing",
        "Its disk is full or its limits are reached; vehicles get no acknowledgements. Make room, then restart a server "
        "whose disk was full.",
        "NATS stores no message",
    ),
    alert(
        "FleetCatchUpStuck", "warning", "1m",
        f'max by (cell, instance) (fleet_source_catching_up_seconds) > 120 or {condition("catch-up")} == 0',
        "A vehicle's catch-up does not end at " + WORKER,
        "It waits for what the stream holds of it: its records are late, and lost once the stream's max_age is over. NATS "
        "is slow, a right is missing, or something cuts the link.",
        "a catch-up round failed",
    ),
    alert(
        "FleetDataGone", "critical", "0m", grows("fleet_catch_ups_unreachable_total"),
        "Data is gone that " + WORKER + " had to catch up",
        "The telemetry stream begins later than what vehicles needed of it: workers were away for longer than nats.max_age "
        "or max_bytes keep, or the stream was emptied or made anew.",
        "data is gone",
    ),
    alert(
        "FleetStreamLost", "critical", "0m", grows("fleet_source_stream_losses_total"),
        "The telemetry stream of cell {{ $labels.cell }} was made anew or lost its end",
        "Seen by {{ $labels.instance }}, which goes on with what it has; after a crash it could not catch up from before. "
        "Look for a lost disk or a deleted stream; set sync_interval: always, or three replicas.",
        "look for a lost disk",
    ),
    alert(
        "FleetJobsFail", "warning", "10m", "max by (instance) (fleet_upkeep_jobs_in_trouble) > 0",
        "Jobs of TimescaleDB fail or don't run, says {{ $labels.instance }}",
        "Compression, roll-ups or retention are not done: rows stay large, queries get slow. Ask "
        "timescaledb_information.job_errors.",
        "a job of the database server does not do its work",
    ),
    alert(
        "FleetDaysStay", "warning", "1h", "max by (instance) (fleet_upkeep_unarchived) > 0",
        "Old days stay in the database, says {{ $labels.instance }}",
        "The archive lacks records of {{ $value }} days, or has other values: the database grows.",
        "an old day stays in the database",
    ),
    alert(
        "FleetMaintenanceFails", "warning", "10m", grows("fleet_upkeep_failures_total", "instance"),
        "The database's maintenance fails at {{ $labels.instance }}",
        "Roll-ups, partitions or retention are not done by it; others may have more luck.",
        "the database could not be maintained",
    ),
    alert(
        "FleetNoRoom", "critical", "5m",
        'max by (cell, instance) (fleet_discovery_vehicles{state="waiting"}) > 0',
        "Vehicles of cell {{ $labels.cell }} wait for a worker",
        "No worker runs, or none has room: more workers, KEDA's ceiling, or another cell.",
        "vehicles wait for a worker",
    ),
    alert(
        "FleetRoomScarce", "warning", "10m",
        "sum by (cell) (fleet_bound) > 0.8 * sum by (cell) (fleet_max_vehicles)",
        "The workers of cell {{ $labels.cell }} are full to more than 80 %",
        "There is little room for the next vehicles, and none for those of a worker that ends: more workers, KEDA's ceiling, "
        "or another cell.",
    ),
    alert(
        "FleetNotReady", "critical", "5m", "min by (cell, instance, condition) (fleet_ready) == 0",
        "{{ $labels.condition }}: not ready at " + WORKER,
        "A condition of /readyz is not met. The log has a line of the time when it began.",
    ),
    alert(
        "FleetNothingStored", "critical", "5m",
        "sum by (cell) (increase(fleet_durable_rows_total[10m])) == 0 and sum by (cell) (fleet_bound) > 0",
        "Nothing is stored of cell {{ $labels.cell }}",
        "Vehicles are held, and no row of them has become durable for ten minutes: database, then NATS, then vehicles.",
    ),
    alert(
        "FleetBindingsLost", "warning", "0m", grows("fleet_bindings_lost_total"),
        WORKER + " lost vehicles that it held",
        "It could not renew its bindings for ack_wait: is its CPU throttled, is NATS overloaded or away? Where another worker "
        "took over a vehicle it counts, too.",
        "could not hold the bindings",
    ),
    alert(
        "FleetRefused", "warning", "0m", grows("fleet_refused_total", "cell, instance, reason"),
        "Messages are refused as {{ $labels.reason }} at " + WORKER,
        "Sensors send what can't be used, or a sink refuses rows; each is a dead letter that says why: "
        "fleet-worker replay --dead-letters --list --reason {{ $labels.reason }}",
    ),
    alert(
        "FleetOverflowed", "warning", "0m", grows("fleet_overflowed_samples_total"),
        "Samples find no room at " + WORKER,
        "A signal sends more than max_samples or max_vehicle_memory hold; corrections and means over longer times are missing.",
        "no room for a signal's samples",
    ),
    alert(
        "FleetLateSamples", "warning", "10m",
        "sum by (cell) (rate(fleet_late_samples_total[10m])) > 0.01 * sum by (cell) (rate(fleet_samples_total[10m]))",
        "More than 1 % of the samples of cell {{ $labels.cell }} come too late",
        "Sensors buffer for longer than window, their clocks are wrong, or NATS elects a leader. "
        "fleet-worker replay sorts in what came too late.",
    ),
    alert(
        "FleetUnreadable", "warning", "0m", grows("fleet_source_unreadable_total"),
        "Stored messages can't be read and are passed over by " + WORKER,
        "They break the reading of their stream wherever they come; the log has their sequences.",
        "a stored message can't be read",
    ),
    alert(
        "FleetArchiveMissed", "warning", "0m", grows("fleet_optional_missed_rows_total", "cell, instance, sink"),
        "Archive {{ $labels.sink }} misses rows of " + WORKER,
        'It is optional, and slower than the fleet or away: when_down = "hold" if it must be complete.',
        "the sink is unavailable",
    ),
    alert(
        "FleetClaimsFail", "warning", "0m",
        f'{grows("fleet_claims_failed_total")} or {grows("fleet_saves_failed_total")}',
        "The database refuses vehicles of " + WORKER,
        "Claims or states of single vehicles fail; the log has vehicle and reason.",
    ),
    alert(
        "FleetLettersLost", "warning", "0m",
        grows('fleet_source_dead_letters_total{outcome=~"queue_full|refused|failed"}', "cell, instance, outcome"),
        "Dead letters are lost ({{ $labels.outcome }}) at " + WORKER,
        "What could not be used was not kept either: NATS refused it, was away for a minute, or came to more than fits.",
    ),
]


# --- the forms -------------------------------------------------------------------------------------


def quoted(text):
    """A JSON string is a YAML string."""
    return json.dumps(text, ensure_ascii=False)


def annotations(one):
    given = [("summary", one["summary"]), ("description", one["description"]), ("log", one["log"]), ("page", PAGE)]
    return [(key, text) for key, text in given if text]


def group(indent):
    lines = ["groups:", "  - name: fleet", "    rules:"]
    for one in ALERTS:
        lines += [
            f"      - alert: {one['name']}",
            f"        expr: {quoted(one['expr'])}",
            f"        for: {one['for']}",
            f"        labels: {{ severity: {one['severity']}, team: fleet }}",
            "        annotations:",
            *(f"          {key}: {quoted(text)}" for key, text in annotations(one)),
        ]
    return "".join(f"{indent}{line}\n" for line in lines)


def for_operator():
    head = [
        "apiVersion: monitoring.coreos.com/v1", "kind: PrometheusRule", "metadata:", "  name: fleet",
        "  labels: { app.kubernetes.io/part-of: fleet }", "spec:",
    ]
    return NOTE + "\n".join(head) + "\n" + group("  ")


def for_grafana():
    lines = [
        "# The workers' alerts, evaluated by Grafana over the data source of ../datasources/prometheus.yaml. Where",
        "# Prometheus evaluates them itself, leave this file out.",
        "apiVersion: 1", "", "groups:", "  - orgId: 1", "    name: workers", "    folder: Fleet", "    interval: 1m", "    rules:",
    ]
    for one in ALERTS:
        uid = "".join(f"-{c.lower()}" if c.isupper() else c for c in one["name"]).lstrip("-")
        query = {
            "refId": "A", "editorMode": "code", "expr": one["expr"], "instant": True, "range": False,
            "datasource": {"type": "prometheus", "uid": "fleet-prometheus"},
        }
        # Whatever the query gives is beyond its limit already.
        threshold = {
            "refId": "C", "type": "threshold", "expression": "A",
            "conditions": [{"evaluator": {"type": "gt", "params": [-1]}}],
        }
        lines += [
            f"      - uid: {uid}",
            f"        title: {one['name']}",
            "        condition: C",
            f"        for: {one['for']}",
            "        noDataState: OK",
            "        execErrState: Error",
            f"        labels: {{ severity: {one['severity']}, team: fleet }}",
            "        annotations:",
            *(f"          {key}: {quoted(text)}" for key, text in annotations(one)),
            "        data:",
            "          - refId: A",
            "            relativeTimeRange: { from: 600, to: 0 }",
            "            datasourceUid: fleet-prometheus",
            f"            model: {quoted(query)}",
            "          - refId: C",
            "            relativeTimeRange: { from: 600, to: 0 }",
            "            datasourceUid: __expr__",
            f"            model: {quoted(threshold)}",
        ]
    return NOTE + "\n".join(lines) + "\n"


FILES = {
    HERE / "rules.yaml": NOTE + group(""),
    HERE / "../kubernetes/monitoring/rules.yaml": for_operator(),
    HERE / "../grafana/provisioning/alerting/workers.yaml": for_grafana(),
}


def main():
    for path, text in FILES.items():
        if "--check" not in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"{path} is not what rules.py writes")


main()
