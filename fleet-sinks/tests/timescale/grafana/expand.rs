//! A panel's SQL as Grafana sends it: variables as its page puts them in, then the macros as its PostgreSQL
//! data source expands them (`macros.go` and `sqleng/sql_engine.go` of Grafana 12 and 13).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use fleet_core::time::Micros;

/// What a dashboard is looked at with.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) from: Micros,
    pub(super) to: Micros,
    /// Seconds of a group.
    pub(super) interval: u64,
    /// The data source's switch.
    pub(super) timescaledb: bool,
    pub(super) variables: BTreeMap<&'static str, &'static str>,
}

/// Expands everything, or says what Grafana would not understand.
pub(super) fn expand(sql: &str, view: &View) -> Result<String, String> {
    let sql = variables(sql, view)?;
    let seconds = view.interval;
    // The longer name first, as Grafana does.
    let sql = sql.replace("$__interval_ms", &format!("{}", seconds * 1_000));
    let sql = sql.replace("$__interval", &interval(seconds));
    let sql = macros(&sql, view)?;
    match sql.split_once('$') {
        Some((_, rest)) => Err(format!("nothing expands ${}", rest.chars().take(20).collect::<String>())),
        None => Ok(sql),
    }
}

/// `${name:sqlstring}` and the search filter; only quoted variables are allowed in our dashboards.
fn variables(sql: &str, view: &View) -> Result<String, String> {
    let mut parts = sql.split("${");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (reference, rest) = part.split_once('}').ok_or("a variable's brace is open")?;
        let name = reference.strip_suffix(":sqlstring").ok_or(format!("{reference} is not quoted"))?;
        let value = view.variables.get(name).ok_or(format!("there is no variable {name}"))?;
        let _ = write!(out, "'{}'{rest}", value.replace('\'', "''"));
    }
    // Nothing is typed into the drop-down list's field.
    Ok(out.replace("$__searchFilter", "%"))
}

/// The largest unit that fits, cut off.
fn interval(seconds: u64) -> String {
    let units = [(365 * 86_400, "y"), (86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    units
        .iter()
        .find(|(unit, _)| seconds >= *unit)
        .map_or("1ms".to_owned(), |(unit, name)| format!("{}{name}", seconds / unit))
}

fn seconds(interval: &str) -> Result<u64, String> {
    let units = BTreeMap::from([("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400), ("w", 604_800)]);
    let (number, unit) = interval.split_at(interval.len().saturating_sub(1));
    let unit = units.get(unit).ok_or(format!("{interval:?} is no interval"))?;
    Ok(number.parse::<u64>().map_err(|e| format!("{interval:?}: {e}"))? * unit)
}

/// `$name(arguments)`; arguments end at the first closing parenthesis, whatever is open.
fn macros(sql: &str, view: &View) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = sql;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let name: String = after.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        let call = after[name.len()..].strip_prefix('(').and_then(|call| call.split_once(')'));
        let Some((arguments, tail)) = call.filter(|_| !name.is_empty()) else {
            out.push('$');
            rest = after;
            continue;
        };
        let arguments: Vec<&str> = arguments.split(',').map(|a| a.trim_matches(' ')).collect();
        // For the sake of very old dashboards.
        let alias = name == "__timeGroup" && tail.starts_with(',');
        let name = if alias { "__timeGroupAlias" } else { &name };
        out.push_str(&expanded(name, &arguments, view)?);
        rest = tail;
    }
    Ok(out + rest)
}

fn expanded(name: &str, arguments: &[&str], view: &View) -> Result<String, String> {
    let time = |micros: Micros| {
        let time = jiff::Timestamp::from_microsecond(micros).map_err(|e| e.to_string())?;
        Ok::<_, String>(format!("'{time}'"))
    };
    match (name, arguments) {
        ("__time", [column, ..]) => Ok(format!("{column} AS \"time\"")),
        ("__timeFilter", [column, ..]) => {
            Ok(format!("{column} BETWEEN {} AND {}", time(view.from)?, time(view.to)?))
        }
        ("__timeFrom", _) => time(view.from),
        ("__timeTo", _) => time(view.to),
        // What fills groups without a row is added to the answer.
        ("__timeGroup", [column, width] | [column, width, "NULL" | "0"]) => {
            let seconds = seconds(width.trim_matches('\''))?;
            Ok(if view.timescaledb {
                format!("time_bucket('{seconds}.000s',{column})")
            } else {
                format!("floor(extract(epoch from {column})/{seconds})*{seconds}")
            })
        }
        ("__timeGroupAlias", _) => Ok(expanded("__timeGroup", arguments, view)? + " AS \"time\""),
        _ => Err(format!("unknown macro {name:?} of {} arguments", arguments.len())),
    }
}

#[test]
fn macros_are_expanded_as_grafana_does() {
    let mut view = View {
        from: 1_769_947_200_000_000,
        to: 1_769_950_800_500_000,
        interval: 60,
        timescaledb: true,
        variables: BTreeMap::from([("vin", "O'V")]),
    };
    let is = |view: &View, sql: &str, expected: &str| assert_eq!(expand(sql, view).unwrap(), expected);
    is(&view, "$__timeFilter(ts)", "ts BETWEEN '2026-02-01T12:00:00Z' AND '2026-02-01T13:00:00.5Z'");
    is(&view, "$__timeGroupAlias(r.ts, $__interval), 1", "time_bucket('60.000s',r.ts) AS \"time\", 1");
    is(&view, "$__timeGroupAlias(ts, $__interval, NULL)", "time_bucket('60.000s',ts) AS \"time\"");
    is(&view, "$__timeGroup(ts,'5m') x", "time_bucket('300.000s',ts) x");
    is(&view, "$__timeGroup(ts,$__interval), x", "time_bucket('60.000s',ts) AS \"time\", x");
    is(&view, "$__timeFrom()::x $__interval_ms", "'2026-02-01T12:00:00Z'::x 60000");
    is(&view, "vin = ${vin:sqlstring}", "vin = 'O''V'");
    view.timescaledb = false;
    view.interval = 7_200;
    let group = "floor(extract(epoch from ts)/7200)*7200 AS \"time\"";
    is(&view, "$__timeGroupAlias(ts, $__interval)", group);
    for wrong in [
        "$vin",
        "${vin}",
        "${other:sqlstring}",
        "$__timeGruop(ts)",
        "$__timeGroup(ts, soon)",
        "a$b",
        "$__timeGroup(ts, 5m, null)",
    ] {
        assert!(expand(wrong, &view).is_err(), "{wrong}");
    }
}
