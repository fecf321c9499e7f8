"""Asks an archive, the folder `archive` here, what a page of the documentation asks.

Prints JSON lines: the rows of the view, the answer to the question by date, and what became of a column that only
later files have, read by name and without.
"""

import json
import pathlib
import re
import sys

import duckdb

page = pathlib.Path(sys.argv[1]).read_text()
view, by_date = [block for block in re.findall(r"```sql\n(.*?)```", page, re.S) if "file_fdw" not in block]
duckdb.sql(view)
rows = duckdb.sql("select vehicle, epoch_us(ts), columns(* exclude (vehicle, ts))::double from record order by all")
print(json.dumps(rows.fetchall()))
print(json.dumps(duckdb.sql(by_date).fetchall()))
read = "select count(later), count(*) from read_parquet('archive/*/*.parquet', hive_partitioning = true"
print(json.dumps(duckdb.sql(f"{read}, union_by_name = true)").fetchall()[0]))
try:
    duckdb.sql(f"{read})").fetchall()
except duckdb.Error as error:
    print(json.dumps(str(error)))
