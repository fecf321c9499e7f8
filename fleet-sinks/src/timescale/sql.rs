//! The statements that depend on the configured columns.

use std::fmt::Write as _;

use fleet_core::Schema;
use fleet_core::schema::{Column, ColumnType, Signal};

/// How the rows of `telemetry` are unique, which is also the order in which they are written: one vehicle's
/// rows lie together in the index.
pub(super) const KEY: &str = "vehicle_id, ts";

/// The lower of the two bits of every signal that fits: 31 of them.
const LOW_BITS: i64 = 0x1555_5555_5555_5555;

/// fleet-core lets only `[a-z][a-z0-9_]*` through; the quotes are for words that SQL keeps to itself.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub(super) fn type_name(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Double => "double precision",
        ColumnType::Real => "real",
    }
}

/// `"latitude" double precision`.
pub(super) fn definition(column: &Column) -> String {
    format!("{} {}", quote(&column.name), type_name(column.kind))
}

/// `ts, vehicle_id, "latitude", …, quality`, the order of the encoder.
fn row(schema: &Schema) -> String {
    let values: String = schema.columns().map(|c| quote(&c.name) + ", ").collect();
    format!("ts, vehicle_id, {values}quality")
}

pub(super) fn copy_into(table: &str, schema: &Schema) -> String {
    format!("copy {table} ({}) from stdin (format binary)", row(schema))
}

/// The table through which rows are merged. It empties itself at the end of each transaction.
pub(super) fn staging(name: &str, schema: &Schema) -> String {
    let values: String = schema.columns().map(|c| definition(c) + ", ").collect();
    format!(
        "create temporary table {name} (ts timestamptz not null, vehicle_id int not null, \
         {values}quality bigint not null) on commit delete rows"
    )
}

/// From the staging table into `telemetry`: signal by signal a value replaces and NULL never erases;
/// a row that would stay the same is not written.
pub(super) fn merge(staging: &str, schema: &Schema) -> String {
    let row = row(schema);
    let mut set = String::new();
    let mut differs = String::new();
    for (i, signal) in schema.signals().iter().enumerate() {
        let has = has(i);
        for column in &signal.columns {
            let c = quote(&column.name);
            let _ = write!(set, "{c} = case when {has} then excluded.{c} else old.{c} end, ");
        }
        let _ = write!(differs, " or ({has} and {})", distinct(signal));
    }
    let quality = merged_quality("old.quality");
    format!(
        "insert into telemetry as old ({row}) select {row} from {staging} order by {KEY} \
         on conflict ({KEY}) do update set {set}quality = {quality} \
         where old.quality <> {quality}{differs}"
    )
}

fn has(signal: usize) -> String {
    format!("(excluded.quality & {}) <> 0", 3_i64 << (2 * signal))
}

fn distinct(signal: &Signal) -> String {
    let column = |c: &Column| {
        let c = quote(&c.name);
        format!("old.{c} is distinct from excluded.{c}")
    };
    format!("({})", signal.columns.iter().map(column).collect::<Vec<_>>().join(" or "))
}

/// The old bits with those of the signals that `excluded` has in their place.
fn merged_quality(old: &str) -> String {
    format!(
        "(({old} & ~(((excluded.quality | (excluded.quality >> 1)) & {LOW_BITS}) * 3)) | excluded.quality)"
    )
}

/// Which of a table's columns came with a step that an older program, which has set it up, does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Has {
    pub(super) carry: bool,
    pub(super) samples: bool,
}

/// The arrays `sampled_at` and `sampled` of `old` with those samples of `new` in their place that are newer. What a newer
/// program keeps behind them stays.
pub(super) fn newer_samples(schema: &Schema, new: &str, old: &str) -> (String, String) {
    let newer = |i: usize| {
        let i = i + 1;
        format!("{new}.sampled_at[{i}] >= coalesce({old}.sampled_at[{i}], '-infinity')")
    };
    let (mut times, mut values) = (Vec::new(), Vec::new());
    for (i, signal) in schema.signals().iter().enumerate() {
        let newer = newer(i);
        let either = |array: &str, n: usize| {
            format!("case when {newer} then {new}.{array}[{n}] else {old}.{array}[{n}] end")
        };
        times.push(either("sampled_at", i + 1));
        values.extend(signal.column_range().map(|c| either("sampled", c + 1)));
    }
    let array =
        |all: &[String], name: &str| format!("array[{}] || {old}.{name}[{}:]", all.join(", "), all.len() + 1);
    (array(&times, "sampled_at"), array(&values, "sampled"))
}

/// The `n`-th of lists that lie end to end in a parameter, each as long as another parameter says.
fn part(list: &str, kind: &str, length: &str) -> String {
    format!("({list}::{kind}[])[(n - 1) * {length}::int + 1 : n * {length}::int]")
}

/// Shows newest samples: `$1` vehicle ids, `$2` epochs, `$3` times and `$4` values end to end, `$5` and `$6` how many of
/// them a vehicle has. Rows that others have locked are passed over; their ids are returned.
pub(super) fn show(schema: &Schema) -> String {
    let (times, values) = newer_samples(schema, "u", "l");
    let (at, sampled) = (part("$3", "timestamptz", "$5"), part("$4", "float8", "$6"));
    format!(
        "with u as ( \
           select id, epoch, {at} as sampled_at, {sampled} as sampled \
           from unnest($1::int[], $2::int[]) with ordinality as u(id, epoch, n)), \
         held as ( \
           select l.vehicle_id from vehicle_latest l join u on u.id = l.vehicle_id and u.epoch = l.epoch \
           order by l.vehicle_id for no key update of l skip locked), \
         shown as ( \
           update vehicle_latest l set sampled_at = {times}, sampled = {values} \
           from held join u on u.id = held.vehicle_id \
           where l.vehicle_id = held.vehicle_id \
             and (l.sampled_at is distinct from {times} or l.sampled is distinct from {values})) \
         select l.vehicle_id from vehicle_latest l join u on u.id = l.vehicle_id and u.epoch = l.epoch \
         where not exists (select from held where held.vehicle_id = l.vehicle_id)"
    )
}

/// Stores states with their newest records. `$1` vehicle ids, `$2` epochs, `$3` resume_at, `$4`
/// released_at, `$5` floors, `$6` and `$7` horizons and newests end to end, `$8` how many of them each
/// vehicle has, `$9` ts, `$10` quality, then the columns, the carries where the table keeps them (most states have none, and
/// it stays null), and where it keeps samples their times and values, end to end, and how many values a vehicle has.
pub(super) fn save(schema: &Schema, keeps: Has) -> String {
    let newer = "(excluded.ts >= coalesce(old.ts, '-infinity'))";
    let (mut names, mut parameters, mut set) = (String::new(), String::new(), String::new());
    for (n, column) in schema.columns().enumerate() {
        let c = quote(&column.name);
        let _ = write!(names, ", {c}");
        let _ = write!(parameters, ", ${}::{}[]", n + 11, array_type(column.kind));
    }
    let mut next = schema.column_count() + 11;
    if keeps.carry {
        names.push_str(", carry");
        let _ = write!(parameters, ", ${next}::bytea[]");
        set.push_str(", carry = excluded.carry");
        next += 1;
    }
    let (mut sampled, mut samples) = ("", String::new());
    if keeps.samples {
        sampled = ", sampled_at, sampled";
        let values = part(&format!("${}", next + 1), "float8", &format!("${}", next + 2));
        samples = format!(", {}, {values}", part(&format!("${next}"), "timestamptz", "$8"));
        let (times, values) = newer_samples(schema, "excluded", "old");
        let _ = write!(set, ", sampled_at = {times}, sampled = {values}");
    }
    for (i, signal) in schema.signals().iter().enumerate() {
        let has = has(i);
        for column in &signal.columns {
            let c = quote(&column.name);
            let _ = write!(set, ", {c} = case when {newer} and {has} then excluded.{c} else old.{c} end");
        }
    }
    let quality = merged_quality("coalesce(old.quality, 0)");
    let [horizon, newest] = ["$6", "$7"].map(|list| part(list, "timestamptz", "$8"));
    format!(
        "insert into vehicle_latest as old \
         (vehicle_id, epoch, resume_at, released_at, floor, horizon, newest, ts, quality{names}{sampled}) \
         select id, epoch, resume_at, released_at, floor, {horizon}, {newest}, ts, quality{names}{samples} \
         from unnest($1::int[], $2::int[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[], \
                     $9::timestamptz[], $10::bigint[]{parameters}) \
              with ordinality as u(id, epoch, resume_at, released_at, floor, ts, quality{names}, n) \
         order by id \
         on conflict (vehicle_id) do update set resume_at = excluded.resume_at, \
           released_at = excluded.released_at, floor = excluded.floor, horizon = excluded.horizon, \
           newest = excluded.newest, \
           ts = case when {newer} then excluded.ts else old.ts end, \
           quality = case when {newer} then {quality} else old.quality end{set} \
         where old.epoch = excluded.epoch returning vehicle_id"
    )
}

fn array_type(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Double => "float8",
        ColumnType::Real => "real",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_bits_are_one_per_signal_and_thrice_them_fit() {
        assert_eq!(LOW_BITS.count_ones() as usize, fleet_core::schema::MAX_SIGNALS);
        assert_eq!(LOW_BITS.checked_mul(3), Some((1 << 62) - 1));
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(quote("order"), "\"order\"");
        assert_eq!(quote("a\"b"), "\"a\"\"b\"");
        let copy = copy_into("telemetry", &Schema::default());
        assert!(copy.starts_with("copy telemetry (ts, vehicle_id, \"latitude\", "), "{copy}");
    }
}
