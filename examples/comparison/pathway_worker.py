"""The fleet's records by Pathway, as a user would write them without fleet.

python pathway_worker.py NATS_URL DATABASE_URL

Pathway's own reader of NATS gives payloads without their subjects, and the subject says whose a sample is: so nats-py
reads the telemetry stream of cell 0 inside Pathway's Python connector. A window around each instant of the grid gathers
the samples of a vehicle that its row can need, and closes once no late message can change it; then the row is
computed and written. On SIGTERM the input is over, all windows close, and it ends.
"""

import asyncio
import signal
import struct
import sys
import threading
from datetime import datetime, timedelta, timezone
from math import asin, atan2, cos, degrees, hypot, radians, sin, sqrt
from urllib.parse import urlparse

import asyncpg
import nats
import pathway as pw
from nats.js.api import ConsumerConfig, DeliverPolicy

INTERVAL = 10_000  # ms
MAX_GAP = 60_000
LATE = 10_000  # How late a message may be.
SIGNALS = {  # Number, the format of a sample, the values' steps, as in docs/wire-format.md.
    "position": (0, struct.Struct("<Hii"), 1e7),
    "speed": (1, struct.Struct("<HH"), 100.0),
    "fuel": (2, struct.Struct("<HH"), 100.0),
    "brake": (3, struct.Struct("<Hh"), 10.0),
}


class Sample(pw.Schema):
    vehicle: int
    t: int
    signal: int
    a: float
    b: float


class Telemetry(pw.io.python.ConnectorSubject):
    deletions_enabled = False

    def __init__(self, nats_url, database_url, over):
        super().__init__()
        self.urls, self.over, self.ids = (nats_url, database_url), over, {}

    def run(self):
        asyncio.run(self.read(*self.urls))

    async def read(self, nats_url, database_url):
        self.database = await asyncpg.connect(database_url)
        client = await nats.connect(nats_url)
        start = datetime.now(timezone.utc) - timedelta(minutes=3)
        config = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_TIME, opt_start_time=start.isoformat())
        await client.jetstream().subscribe(
            "fleet.0.>", stream="TELEMETRY_0", cb=self.on_message, config=config, ordered_consumer=True
        )
        print("ready", flush=True)
        await asyncio.to_thread(self.over.wait)
        await client.drain()

    async def on_message(self, message):
        _, _, vin, name = message.subject.split(".")
        vehicle = self.ids.get(vin) or await self.id(vin)
        number, sample, step = SIGNALS[name]
        data = message.data
        t = int.from_bytes(data[4:10], "little")
        for delta, *values in sample.iter_unpack(data[10:]):
            t += delta
            self.next(vehicle=vehicle, t=t, signal=number, a=values[0] / step, b=values[-1] / step)

    async def id(self, vin):
        await self.database.execute("insert into vehicle (vin) values ($1) on conflict do nothing", vin)
        self.ids[vin] = await self.database.fetchval("select vehicle_id from vehicle where vin = $1", vin)
        return self.ids[vin]


def great_circle(a, b, share):
    """The point at that share of the shortest way, by spherical linear interpolation."""
    (la, oa), (lb, ob) = map(radians, a), map(radians, b)
    half = sin((lb - la) / 2) ** 2 + cos(la) * cos(lb) * sin((ob - oa) / 2) ** 2
    way = 2 * asin(min(1, sqrt(half)))
    if way == 0:
        return a
    p, q = sin((1 - share) * way) / sin(way), sin(share * way) / sin(way)
    x = p * cos(la) * cos(oa) + q * cos(lb) * cos(ob)
    y = p * cos(la) * sin(oa) + q * cos(lb) * sin(ob)
    return degrees(atan2(p * sin(la) + q * sin(lb), hypot(x, y))), degrees(atan2(y, x))


def row(instant: int, samples: tuple) -> tuple:
    """The values at an instant, and their quality; the samples are in the order of signal and time."""
    left, right = [None] * 4, [None] * 4
    for number, t, *values in samples:
        if t <= instant:
            left[number] = (t, values)
        if t >= instant and right[number] is None:
            right[number] = (t, values)
    found, quality = [], 0
    for number in range(4):
        value = (None, None)
        if left[number] and right[number] and right[number][0] - left[number][0] <= MAX_GAP:
            (t0, v0), (t1, v1) = left[number], right[number]
            share = (instant - t0) / max(t1 - t0, 1)
            value = great_circle(v0, v1, share) if number == 0 else (v0[0] + (v1[0] - v0[0]) * share,)
            value = v0 if t0 == instant else value
            quality |= (1 if t0 == instant else 2) << (2 * number)
        found.extend(value[: 2 if number == 0 else 1])
    return (*found, quality)


def main(nats_url, database_url):
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    samples = pw.io.python.read(Telemetry(nats_url, database_url, over), schema=Sample, autocommit_duration_ms=1000)
    windows = samples.windowby(
        samples.t,
        window=pw.temporal.sliding(hop=INTERVAL, duration=2 * MAX_GAP, origin=0),
        instance=samples.vehicle,
        behavior=pw.temporal.exactly_once_behavior(shift=LATE),
    )
    gathered = windows.reduce(
        vehicle_id=pw.this._pw_instance,
        instant=pw.this._pw_window_start + MAX_GAP,
        samples=pw.reducers.sorted_tuple(pw.make_tuple(pw.this.signal, pw.this.t, pw.this.a, pw.this.b)),
    )
    value = tuple[float | None, float | None, float | None, float | None, float | None, int]
    rows = gathered.select(
        pw.this.vehicle_id,
        ts=pw.this.instant.dt.utc_from_timestamp(unit="ms"),
        row=pw.apply_with_type(row, value, pw.this.instant, pw.this.samples),
    )
    columns = ["latitude", "longitude", "speed_kmh", "fuel_level_pct", "brake_fluid_temp_c", "quality"]
    rows = rows.select(pw.this.vehicle_id, pw.this.ts, **{c: pw.this.row[i] for i, c in enumerate(columns)})
    rows = rows.filter(pw.this.quality != 0)
    url = urlparse(database_url)
    settings = {"host": url.hostname, "port": url.port, "dbname": url.path[1:], "user": url.username}
    if url.password:
        settings["password"] = url.password
    key = [rows.ts, rows.vehicle_id]
    pw.io.postgres.write(rows, settings, "telemetry", output_table_type="snapshot", primary_key=key)
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)


main(*sys.argv[1:])
