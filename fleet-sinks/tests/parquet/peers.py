"""Reads an archive as others do: pyarrow looks at every file, DuckDB resolves corrections by SQL.

Prints the table as JSON lines: vehicle, ts in microseconds, values, quality.
"""

import json
import pathlib
import sys

import duckdb
import pyarrow
import pyarrow.parquet

root = pathlib.Path(sys.argv[1])
files = sorted(root.glob("date=*/*.parquet"))
schema = json.loads(pyarrow.parquet.read_metadata(files[0]).metadata[b"fleet.schema"])

rows = 0
for file in files:
    table = pyarrow.parquet.ParquetFile(file).read()
    table.validate(full=True)
    rows += table.num_rows
    for signal in schema["signals"]:
        for column in signal["columns"]:
            unit = table.schema.field(column["name"]).metadata[b"unit"].decode()
            assert unit == column["unit"], (column, unit)

# Per signal the newest emission that has it, by its two bits of quality.
values, quality = [], []
for number, signal in enumerate(schema["signals"]):
    here = f"(quality >> {2 * number}) & 3"
    newest = f"(epoch, stored_at, batch)) filter (where {here} != 0)"
    quality.append(f"(coalesce(arg_max({here}, {newest}, 0) << {2 * number})")
    values += [f'arg_max("{column["name"]}", {newest}' for column in signal["columns"]]
sql = f"""
    select vehicle, epoch_us(ts), [{", ".join(f"({value})::double" for value in values)}], {" + ".join(quality)}
    from read_parquet('{root}/*/*.parquet', hive_partitioning = true)
    group by vehicle, ts"""
assert duckdb.sql(f"select count(*) from read_parquet('{root}/*/*.parquet')").fetchall() == [(rows,)]
for row in duckdb.sql(sql).fetchall():
    print(json.dumps(row))
