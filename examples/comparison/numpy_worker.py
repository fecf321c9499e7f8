"""The fleet's records by nats-py, NumPy and asyncpg, as a user would write them without fleet.

python numpy_worker.py NATS_URL DATABASE_URL

It reads the telemetry stream of cell 0 by an ordered consumer, keeps the last samples of each signal of each vehicle
in arrays, and once a second computes the rows of the vehicles that were heard of. A row is stored when every signal
has a sample at or after it, or when it is too old to wait any longer; when a late sample changes it, it is stored again.
On SIGTERM it stores what is left, and ends. It does not share its work with others, and what it holds is lost with it.
"""

import asyncio
import signal
import sys
import time
from datetime import datetime, timedelta, timezone

import asyncpg
import nats
import numpy as np
from nats.js.api import ConsumerConfig, DeliverPolicy

INTERVAL = 10_000  # ms
MAX_GAP = 60_000
HORIZON = 80_000  # A row waits for so long: for the widest gap, and for messages that are late.
ROWS = HORIZON // INTERVAL + 1
KEEP = 40  # Samples of a signal: more than come between the row that waits longest, less a gap, and now.
NEVER = np.iinfo(np.int64).max // 4
SIGNALS = {  # Columns, their integers and steps, as in docs/wire-format.md.
    b"position": (2, "<i4", 1e7),
    b"speed": (1, "<u2", 100.0),
    b"fuel": (1, "<u2", 100.0),
    b"brake": (1, "<i2", 10.0),
}
COLUMNS = ["latitude", "longitude", "speed_kmh", "fuel_level_pct", "brake_fluid_temp_c"]
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Signal:
    """The last samples of a signal, of all vehicles: rings, in no order."""

    def __init__(self, columns):
        self.columns = columns
        self.times = np.full((0, KEEP), -NEVER, np.int64)
        self.values = np.zeros((0, KEEP, columns))
        self.count = np.zeros(0, np.int64)

    def grow(self, vehicles):
        more = vehicles - len(self.count)
        self.times = np.concatenate([self.times, np.full((more, KEEP), -NEVER, np.int64)])
        self.values = np.concatenate([self.values, np.zeros((more, KEEP, self.columns))])
        self.count = np.concatenate([self.count, np.zeros(more, np.int64)])

    def add(self, vehicles, times, values):
        order = np.argsort(vehicles, kind="stable")
        vehicles, times, values = vehicles[order], times[order], values[order]
        first = np.searchsorted(vehicles, vehicles)
        slots = (self.count[vehicles] + np.arange(len(vehicles)) - first) % KEEP
        self.times[vehicles, slots], self.values[vehicles, slots] = times, values
        np.add.at(self.count, vehicles, 1)

    def at(self, vehicles, instant):
        """Values, quality, and whether no more is waited for, of these vehicles at one instant."""
        times, all = self.times[vehicles], np.arange(len(vehicles))
        before = np.where(times <= instant, times, -NEVER)
        after = np.where(times >= instant, times, NEVER)
        left, right = before.argmax(1), after.argmin(1)
        t0, t1 = before[all, left], after[all, right]
        values = self.values[vehicles]
        v0, v1 = values[all, left], values[all, right]
        share = ((instant - t0) / np.maximum(t1 - t0, 1))[:, None]
        between = great_circle(v0, v1, share) if self.columns == 2 else v0 + (v1 - v0) * share
        known = (t0 > -NEVER) & (t1 < NEVER) & (t1 - t0 <= MAX_GAP)
        quality = np.where(known, np.where(t0 == instant, 1, 2), 0)
        return np.where(known[:, None], between, np.nan), quality, t1 < NEVER


def great_circle(a, b, share):
    """The point at that share of the shortest way, by spherical linear interpolation."""
    (la, oa), (lb, ob) = np.radians(a).T, np.radians(b).T
    half = np.sin((lb - la) / 2) ** 2 + np.cos(la) * np.cos(lb) * np.sin((ob - oa) / 2) ** 2
    way, share = 2 * np.arcsin(np.minimum(1, np.sqrt(half))), share[:, 0]
    moved = way > 0
    scale = np.where(moved, np.sin(way), 1)
    p, q = np.where(moved, np.sin((1 - share) * way) / scale, 1), np.where(moved, np.sin(share * way) / scale, 0)
    x = p * np.cos(la) * np.cos(oa) + q * np.cos(lb) * np.cos(ob)
    y = p * np.cos(la) * np.sin(oa) + q * np.cos(lb) * np.sin(ob)
    z = p * np.sin(la) + q * np.sin(lb)
    return np.degrees(np.stack([np.arctan2(z, np.hypot(x, y)), np.arctan2(y, x)], 1))


class Worker:
    def __init__(self, database):
        self.database, self.waiting = database, []
        self.signals = {name: Signal(columns) for name, (columns, _, _) in SIGNALS.items()}
        self.numbers, self.ids = {}, np.zeros(0, np.int64)
        # Of each vehicle, by the instant's number modulo ROWS: what is stored, if anything is.
        self.stored = np.zeros((0, ROWS, len(COLUMNS) + 1))
        self.closed = None  # The last instant that is not waited for any longer.

    async def take(self):
        """Takes the messages that have come; gives the vehicles that they are of."""
        messages, self.waiting = self.waiting, []
        by_signal = {name: ([], [], []) for name in SIGNALS}
        for subject, payload in messages:
            _, _, vehicle, name = subject.encode().split(b".")
            if (number := self.numbers.get(vehicle)) is None:
                number = self.numbers[vehicle] = len(self.numbers)
            vehicles, counts, payloads = by_signal[name]
            vehicles.append(number), counts.append(payload[1]), payloads.append(payload)
        if len(self.numbers) > len(self.ids):
            await self.grow()
        touched = [np.zeros(0, np.int64)]
        for name, (vehicles, counts, payloads) in by_signal.items():
            columns, integer, step = SIGNALS[name]
            sample = np.dtype([("delta", "<u2"), ("value", integer, (columns,))])
            vehicles, counts = np.array(vehicles, np.int64), np.array(counts)
            for count in np.unique(counts):
                frame = np.dtype([("head", "<u4"), ("base", "<u2", 3), ("samples", sample, (count,))])
                these = np.flatnonzero(counts == count)
                frames = np.frombuffer(b"".join(payloads[i] for i in these), frame)
                base = frames["base"].astype(np.int64) @ [1, 1 << 16, 1 << 32]
                times = base[:, None] + frames["samples"]["delta"].cumsum(1, np.int64)
                values = frames["samples"]["value"].reshape(-1, columns) / step
                self.signals[name].add(np.repeat(vehicles[these], count), times.ravel(), values)
            touched.append(vehicles)
        return np.unique(np.concatenate(touched))

    async def grow(self):
        vins = [vehicle.decode() for vehicle in list(self.numbers)[len(self.ids):]]
        await self.database.execute("insert into vehicle (vin) select unnest($1::text[]) on conflict do nothing", vins)
        found = await self.database.fetch("select vin, vehicle_id from vehicle where vin = any($1)", vins)
        ids = dict(found)
        self.ids = np.concatenate([self.ids, [ids[vin] for vin in vins]])
        for of_signal in self.signals.values():
            of_signal.grow(len(self.ids))
        more = np.full((len(vins), ROWS, len(COLUMNS) + 1), np.nan)
        self.stored = np.concatenate([self.stored, more])

    def rows(self, vehicles, instant, due):
        """The rows of these vehicles that are complete, or all if they are due, and not stored as they are."""
        parts = [of_signal.at(vehicles, instant) for of_signal in self.signals.values()]
        quality = sum(part[1] << (2 * number) for number, part in enumerate(parts))
        rows = np.concatenate([part[0] for part in parts] + [quality[:, None].astype(float)], 1)
        place = instant // INTERVAL % ROWS
        same = ((rows == self.stored[vehicles, place]) | np.isnan(rows)).all(1)
        ready = np.logical_and.reduce([part[2] for part in parts]) | due
        wanted = ready & ~same & (quality > 0)
        self.stored[vehicles[wanted], place] = rows[wanted]
        at = EPOCH + timedelta(milliseconds=int(instant))
        for vehicle, (*values, bits) in zip(self.ids[vehicles[wanted]].tolist(), rows[wanted].tolist()):
            yield (at, vehicle, *(None if v != v else v for v in values), int(bits))

    async def turn(self, now):
        touched = await self.take()
        horizon = (now - HORIZON) // INTERVAL * INTERVAL
        rows = []
        if self.closed is None:
            self.closed = horizon
        while self.closed < horizon:
            self.closed += INTERVAL
            rows.extend(self.rows(np.arange(len(self.ids)), self.closed, True))
            self.stored[:, self.closed // INTERVAL % ROWS] = np.nan
        for instant in range(horizon + INTERVAL, now + 1, INTERVAL):
            rows.extend(self.rows(touched, instant, False))
        if rows:
            await self.store(rows)

    async def store(self, rows):
        columns = ["ts", "vehicle_id", *COLUMNS, "quality"]
        async with self.database.transaction():
            await self.database.copy_records_to_table("fresh", records=rows, columns=columns)
            sets = ", ".join(f"{c} = excluded.{c}" for c in [*COLUMNS, "quality"])
            await self.database.execute(
                f"insert into telemetry ({', '.join(columns)}) select {', '.join(columns)} from fresh "
                f"on conflict (ts, vehicle_id) do update set {sets}; truncate fresh"
            )


async def main(nats_url, database_url):
    database = await asyncpg.connect(database_url)
    await database.execute("create temp table fresh (like telemetry)")
    worker = Worker(database)
    client = await nats.connect(nats_url)

    async def on_message(message):
        worker.waiting.append((message.subject, message.data))

    start = datetime.now(timezone.utc) - timedelta(milliseconds=2 * HORIZON)
    config = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_TIME, opt_start_time=start.isoformat())
    await client.jetstream().subscribe(
        "fleet.0.>", stream="TELEMETRY_0", cb=on_message, config=config, ordered_consumer=True
    )
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    print("ready", flush=True)
    while not over.is_set():
        await worker.turn(int(time.time() * 1000))
        try:
            await asyncio.wait_for(over.wait(), 1)
        except TimeoutError:
            pass
    await client.drain()
    await worker.turn(int(time.time() * 1000))
    await worker.turn(int(time.time() * 1000) + 2 * HORIZON)


asyncio.run(main(*sys.argv[1:]))
