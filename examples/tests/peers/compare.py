"""Compares aligned records with what NumPy, pandas and SciPy make of the same samples.

compare.py INPUT.csv OUTPUT.csv INTERVAL_MS MAX_GAP_MS

The signals are named after their methods. Where fleet differs on purpose it is done by hand here, marked
"on purpose"; docs/interpolation.md lists these places.
"""

import sys

import numpy as np
import pandas as pd
from scipy.interpolate import PchipInterpolator, interp1d, make_interp_spline
from scipy.spatial import geometric_slerp


def runs(times, max_gap):
    """On purpose: a gap longer than max_gap ends a curve. Positions of the runs without one."""
    return np.split(np.arange(len(times)), np.flatnonzero(np.diff(times) > max_gap) + 1)


def by_run(times, values, grid, max_gap, curve, least=2):
    """A curve through each run of at least so many samples, NaN elsewhere."""
    out = np.full(len(grid), np.nan)
    for run in runs(times, max_gap):
        inside = (grid >= times[run[0]]) & (grid <= times[run[-1]])
        if len(run) >= least and inside.any():
            out[inside] = curve(times[run], values[run], grid[inside])
    # Exact hits are kept, also those of a lone sample.
    hit = np.isin(grid, times)
    out[hit] = values[np.searchsorted(times, grid[hit])]
    return out


def linear(times, values, grid, interval, max_gap):
    return by_run(times, values, grid, max_gap, lambda x, y, at: np.interp(at, x, y, left=np.nan, right=np.nan))


def pandas_time(times, values, grid, interval, max_gap):
    def curve(x, y, at):
        series = pd.Series(y, index=pd.to_datetime(x, unit="ms"))
        at = pd.to_datetime(at, unit="ms")
        series = series.reindex(series.index.union(at))
        return series.interpolate(method="time", limit_area="inside").reindex(at).to_numpy()

    return by_run(times, values, grid, max_gap, curve)


def heading(times, values, grid, interval, max_gap):
    def curve(x, y, at):
        return np.interp(at, x, np.unwrap(y, period=360)) % 360

    return by_run(times, values, grid, max_gap, curve)


def pchip(times, values, grid, interval, max_gap):
    return by_run(times, values, grid, max_gap, lambda x, y, at: PchipInterpolator(x, y)(at))


def nearest(times, values, grid, interval, max_gap):
    # "nearest" rounds halves down, to the earlier sample.
    return by_run(times, values, grid, max_gap, lambda x, y, at: interp1d(x, y, kind="nearest")(at))


def previous(times, values, grid, interval, max_gap):
    # On purpose: held for max_gap and no longer, but up to then whatever follows.
    samples = pd.DataFrame({"t": times, "value": values})
    merged = pd.merge_asof(pd.DataFrame({"t": grid}), samples, on="t", tolerance=int(max_gap))
    return merged["value"].to_numpy()


def time_weighted_mean(times, values, grid, interval, max_gap):
    out = np.full(len(grid), np.nan)
    for run in runs(times, max_gap):
        if len(run) < 2:
            continue
        # In seconds from the run's start: a spline of numbers like 1.7e12 loses digits.
        x = (times[run] - times[run[0]]) / 1e3
        spline = make_interp_spline(x, values[run], k=1)
        # On purpose: only where all of the interval is covered.
        inside = (grid - interval >= times[run[0]]) & (grid <= times[run[-1]])
        ends = (grid[inside] - times[run[0]]) / 1e3
        length = interval / 1e3
        out[inside] = [spline.integrate(end - length, end) / length for end in ends]
    return out


def great_circle(times, values, grid, interval, max_gap):
    def unit(point):
        lat, lon = np.radians(point)
        return np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])

    out = np.full((len(grid), 2), np.nan)
    for i, at in enumerate(grid):
        right = np.searchsorted(times, at)
        if right < len(times) and times[right] == at:
            out[i] = values[right]
        elif 0 < right < len(times) and times[right] - times[right - 1] <= max_gap:
            a, b = unit(values[right - 1]), unit(values[right])
            share = (at - times[right - 1]) / (times[right] - times[right - 1])
            p = geometric_slerp(a, b, share) if np.linalg.norm(a - b) > 1e-12 else a
            out[i] = np.degrees([np.arctan2(p[2], np.hypot(p[0], p[1])), np.arctan2(p[1], p[0])])
    return out


METHODS = {
    "linear": [linear, pandas_time],
    "heading": [heading],
    "pchip": [pchip],
    "nearest": [nearest],
    "previous": [previous],
    "time_weighted_mean": [time_weighted_mean],
    "great_circle": [great_circle],
}


def samples_of(rows, columns):
    # On purpose: of two values for an instant the larger counts, the first column deciding first.
    rows = rows.sort_values(["ts_ms", *columns]).drop_duplicates("ts_ms", keep="last")
    values = rows[columns].to_numpy()
    return rows["ts_ms"].to_numpy(), values if len(columns) > 1 else values[:, 0]


def differ(signal, got, want):
    """Where two results differ by more than rounding; NaN equals NaN."""
    off = np.abs(got - want)
    if signal in ("heading", "great_circle"):
        off = np.minimum(off, 360 - off)
    close = (off <= 1e-9 * np.maximum(1, np.abs(want))) | (np.isnan(got) & np.isnan(want))
    return ~(close if close.ndim == 1 else close.all(axis=1))


def main():
    samples, records = (pd.read_csv(path) for path in sys.argv[1:3])
    interval, max_gap = (int(text) for text in sys.argv[3:5])
    values, wrong = 0, 0
    for vehicle, of_vehicle in samples.groupby("vehicle"):
        times = of_vehicle["ts_ms"]
        grid = np.arange(-(-times.min() // interval), times.max() // interval + 1) * interval
        table = records[records["vehicle"] == vehicle].set_index("ts_ms").reindex(grid)
        for signal, rows in of_vehicle.groupby("signal"):
            wide = signal == "great_circle"
            columns = ["value", "value2"] if wide else ["value"]
            names = ["latitude", "longitude"] if wide else [signal]
            got = table[names].to_numpy() if wide else table[signal].to_numpy()
            for method in METHODS[signal]:
                want = method(*samples_of(rows, columns), grid, interval, max_gap)
                bad = differ(signal, got, want)
                values += int(np.isfinite(want).sum())
                wrong += int(bad.sum())
                for at in np.flatnonzero(bad)[:3]:
                    print(f"{vehicle} {method.__name__} at {grid[at]}: {got[at]} is not {want[at]}")
    print(f"{values} values, {wrong} differ")
    sys.exit(0 if values and not wrong else 1)


main()
