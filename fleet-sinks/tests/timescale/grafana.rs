//! The dashboards and alert rules of `examples/grafana`: every query runs on every edition, as the role that
//! Grafana has, and gives what its panel expects.

mod expand;
mod files;
mod fill;
mod speed;
mod types;

use std::collections::BTreeMap;

use fleet_core::Schema;
use fleet_core::time::MINUTE;
use fleet_sinks::timescale::{Edition, MaintainOptions, SetupOptions, maintain, setup};
use fleet_worker::clock::now;
use serde_json::Value;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::fixture::Fixture;
use crate::server::Server;
use crate::setup::{changed, tyre};
use expand::{View, expand};
use files::{dashboard, panels, text, yaml};

/// The role of Grafana.
const READER: &str = "grafana";

/// An answer: its columns with their types, and its rows as text.
struct Answer {
    columns: Vec<(String, String)>,
    rows: Vec<Vec<Option<String>>>,
}

impl Answer {
    fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|(column, _)| column == name)
    }

    fn is_number(&self, column: usize) -> bool {
        ["float8", "float4", "int8", "int4"].contains(&self.columns[column].1.as_str())
    }

    fn has_value(&self, column: usize) -> bool {
        self.rows.iter().any(|row| row[column].is_some())
    }
}

/// By the simple protocol, as Grafana asks.
async fn ask(client: &Client, sql: &str) -> Result<Answer, String> {
    let said = |e: tokio_postgres::Error| {
        let words =
            e.as_db_error().map_or(e.to_string(), |db| format!("{} {}", db.code().code(), db.message()));
        format!("{words}\n{sql}")
    };
    let statement = client.prepare(sql).await.map_err(said)?;
    let columns = statement.columns().iter().map(|c| (c.name().to_owned(), c.type_().name().to_owned()));
    let columns: Vec<_> = columns.collect();
    let messages = client.simple_query(sql).await.map_err(said)?;
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect::<Vec<_>>())
        }
        _ => None,
    };
    Ok(Answer { rows: messages.iter().filter_map(row).collect(), columns })
}

fn view(hours: i64, interval: u64, timescaledb: bool) -> View {
    let variables = BTreeMap::from([("vin", fill::GAPPY), ("signal", "speed")]);
    View { from: now() - hours * 60 * MINUTE, to: now() + MINUTE, interval, timescaledb, variables }
}

/// What a panel of that type does with the columns.
fn assert_fits(panel: &Value, target: &Value, answer: &Answer) {
    let title = text(panel, "title");
    assert!(!answer.rows.is_empty(), "{title}: no rows");
    if target["format"] == "time_series" {
        let time = answer.column("time").unwrap_or_else(|| panic!("{title}: no column \"time\""));
        assert!(["timestamptz", "float8", "numeric"].contains(&answer.columns[time].1.as_str()), "{title}");
        let times: Vec<_> = answer.rows.iter().map(|row| row[time].clone().unwrap()).collect();
        // As text, which for the numbers of this century and for times of one zone is their order.
        assert!(times.is_sorted(), "{title}: not by time");
        let texts = panel["type"] == "state-timeline";
        let metric = answer.column("metric");
        let values: Vec<_> = (0..answer.columns.len()).filter(|i| *i != time && Some(*i) != metric).collect();
        assert!(!values.is_empty() && values.iter().any(|v| answer.has_value(*v)), "{title}: no value");
        for value in values {
            let fits = answer.is_number(value) || (texts && answer.columns[value].1 == "text");
            assert!(fits, "{title}: {:?}", answer.columns[value]);
        }
    }
    let needs = |names: &[&str]| {
        for name in names {
            let column = answer.column(name).unwrap_or_else(|| panic!("{title}: no column {name}"));
            assert!(answer.is_number(column) && answer.has_value(column), "{title}: {name}");
        }
    };
    match text(panel, "type") {
        "geomap" => needs(&["latitude", "longitude", "speed_kmh"]),
        "stat" => {
            assert_eq!((answer.rows.len(), answer.columns.len()), (1, 1), "{title}");
            assert!(answer.is_number(0) && answer.has_value(0), "{title}: {:?}", answer.columns);
        }
        "barchart" => {
            let x = answer.column(text(&panel["options"], "xField")).unwrap();
            assert_eq!(answer.columns[x].1, "text", "{title}");
            needs(&["vehicles"]);
        }
        "table" | "timeseries" | "state-timeline" => {}
        other => panic!("{title}: nobody has said what a panel {other} expects"),
    }
    for named in panel["fieldConfig"]["overrides"].as_array().unwrap() {
        if named["matcher"]["id"] == "byName" {
            let name = text(&named["matcher"], "options");
            assert!(answer.column(name).is_some(), "{title}: an override for {name}, which is not there");
        }
    }
}

async fn check_dashboards(client: &Client, view: &View) {
    let mut asked = 0;
    for name in ["fleet.json", "vehicle.json"] {
        let dashboard = dashboard(name);
        for variable in dashboard["templating"]["list"].as_array().unwrap() {
            if variable["type"] == "query" {
                let answer = ask(client, &expand(text(variable, "query"), view).unwrap()).await.unwrap();
                assert!(!answer.rows.is_empty(), "{variable}");
                asked += 1;
            }
        }
        for panel in panels(&dashboard) {
            for target in panel["targets"].as_array().into_iter().flatten() {
                if target["datasource"]["type"] != "grafana-postgresql-datasource" {
                    continue;
                }
                let sql = expand(text(target, "rawSql"), view).unwrap();
                let answer =
                    ask(client, &sql).await.unwrap_or_else(|e| panic!("{}: {e}", text(panel, "title")));
                assert_fits(panel, target, &answer);
                asked += 1;
            }
        }
    }
    assert!(asked > 30, "{asked} queries");
}

/// The vehicles, or the one number, of each rule's query, and whether its condition holds for them.
async fn check_alerts(client: &Client, view: &View) -> BTreeMap<String, Vec<(String, bool)>> {
    let mut found = BTreeMap::new();
    for group in yaml("alerting/fleet.yaml").await["groups"].as_array().unwrap() {
        for rule in group["rules"].as_array().unwrap() {
            let [data, condition] = &rule["data"].as_array().unwrap()[..] else { panic!("{rule}") };
            let back = data["relativeTimeRange"]["from"].as_i64().unwrap() * 1_000_000;
            let view = View { from: now() - back, to: now(), ..view.clone() };
            let answer = ask(client, &expand(text(&data["model"], "rawSql"), &view).unwrap()).await.unwrap();
            let value = answer.columns.len() - 1;
            // One number with labels, which is what a threshold takes.
            assert_eq!(answer.columns[value].1, "float8", "{rule}");
            assert!(answer.columns[..value].iter().all(|(_, kind)| kind == "text"), "{rule}");
            assert_eq!((text(rule, "condition"), text(condition, "refId")), ("C", "C"));
            assert_eq!(text(&condition["model"], "expression"), text(data, "refId"));
            let evaluator = &condition["model"]["conditions"][0]["evaluator"];
            let limit = evaluator["params"][0].as_f64().unwrap();
            let holds = |row: &Vec<Option<String>>| {
                let number: f64 = row[value].as_ref().unwrap().parse().unwrap();
                let fires = match text(evaluator, "type") {
                    "gt" => number > limit,
                    "lt" => number < limit,
                    other => panic!("{other}"),
                };
                (row[0].clone().unwrap(), fires)
            };
            found.insert(text(rule, "uid").to_owned(), answer.rows.iter().map(holds).collect());
        }
    }
    found
}

async fn assert_alerts(f: &Fixture, view: &View) {
    // What is dangerous is so whether the vehicle counts as on or not.
    let ended = format!(
        "reset role; update trip set ended_at = now() from vehicle v \
         where v.vehicle_id = trip.vehicle_id and v.vin in ('{}', '{}', '{}')",
        fill::HOT,
        fill::BOILING,
        fill::LOW
    );
    f.client.batch_execute(&ended).await.unwrap();
    let found = check_alerts(&f.client, view).await;
    let vins = |rule: &str| {
        let mut vins: Vec<_> =
            found[rule].iter().inspect(|(_, fires)| assert!(fires)).map(|(v, _)| v).collect();
        vins.sort();
        vins
    };
    assert_eq!(vins("fleet-brake-hot"), [fill::HOT, fill::BOILING]);
    assert_eq!(vins("fleet-brake-boiling"), [fill::BOILING]);
    assert_eq!(vins("fleet-fuel-low"), [fill::LOW], "{} only slops", fill::SLOPPY);
    for quiet in ["fleet-no-data", "fleet-silent"] {
        assert!(!found[quiet][0].1, "{quiet}: {:?}", found[quiet]);
    }
    f.client
        .batch_execute("reset role; update vehicle_latest set ts = ts - interval '11 minutes'")
        .await
        .unwrap();
    let found = check_alerts(&f.client, view).await;
    for loud in ["fleet-no-data", "fleet-silent"] {
        assert!(found[loud][0].1, "{loud}: {:?}", found[loud]);
    }
    // Nobody is on: nothing is expected.
    f.client.batch_execute("update trip set ended_at = now() where ended_at is null").await.unwrap();
    let found = check_alerts(&f.client, view).await;
    assert!(found.iter().all(|(_, rows)| rows.iter().all(|(_, fires)| !fires)), "{found:?}");
}

async fn as_reader(f: &Fixture, schema: &Schema) {
    f.client.batch_execute(&format!("create role {READER}")).await.unwrap();
    let options = SetupOptions { reader: Some(READER.into()), ..SetupOptions::default() };
    setup(&f.server.connector(), schema, &options).await.unwrap();
    f.client.batch_execute(&format!("set role {READER}")).await.unwrap();
}

/// What the workers and discovery do every minute.
async fn roll_up(f: &Fixture) {
    let options = MaintainOptions { partitions_ahead: 7, retention: None };
    while maintain(&f.server.connector(), &options).await.unwrap().more {}
}

async fn every_query_runs(server: Server, edition: Edition) {
    let f = Fixture::on(server).await;
    assert_eq!(f.edition, edition);
    fill::fill(&f.client, 9, 3).await;
    as_reader(&f, &f.schema).await;
    let flags: &[bool] = if edition == Edition::Plain { &[false] } else { &[true, false] };
    for timescaledb in flags {
        check_dashboards(&f.client, &view(2, 10, *timescaledb)).await;
    }
    // The WASM server has the role for all connections.
    f.client.batch_execute("reset role").await.unwrap();
    roll_up(&f).await;
    f.client.batch_execute(&format!("set role {READER}")).await.unwrap();
    check_dashboards(&f.client, &view(24 * 30, 3_600, flags[0])).await;
    for table in ["telemetry", "vehicle", "trip", "vehicle_latest", "fleet_signal"] {
        for write in [format!("delete from {table}"), format!("insert into {table} default values")] {
            let error = ask(&f.client, &write).await.err().unwrap();
            assert!(error.starts_with("42501"), "{error}");
        }
    }
    assert_alerts(&f, &view(1, 10, flags[0])).await;
}

#[tokio::test]
async fn every_query_runs_on_plain_postgres() {
    every_query_runs(Server::plain().await, Edition::Plain).await;
}

#[tokio::test]
async fn every_query_runs_on_the_community_edition() {
    every_query_runs(Server::timescale().await, Edition::Community).await;
}

#[tokio::test]
async fn every_query_runs_on_the_apache_edition() {
    every_query_runs(Server::apache().await, Edition::Apache).await;
}

/// A signal that nobody has thought of, from the variable to the panel.
#[tokio::test]
async fn a_fifth_signal_is_shown_without_code() {
    let f = Fixture::on(Server::plain().await).await;
    fill::fill(&f.client, 9, 1).await;
    let schema = changed(|c| c.signal.push(tyre()));
    setup(&f.server.connector(), &schema, &SetupOptions::default()).await.unwrap();
    let measured = "update telemetry set \"order\" = 2.5, quality = quality | 256";
    f.client.batch_execute(measured).await.unwrap();
    as_reader(&f, &schema).await;
    let mut view = view(2, 10, false);
    view.variables.insert("signal", "tyre");
    let vehicle = dashboard("vehicle.json");
    let variables = vehicle["templating"]["list"].as_array().unwrap();
    let signals = variables.iter().find(|v| v["name"] == "signal").unwrap();
    let offered = ask(&f.client, &expand(text(signals, "query"), &view).unwrap()).await.unwrap();
    assert!(offered.rows.iter().any(|row| row[0].as_deref() == Some("tyre")));
    let panel = panels(&vehicle).into_iter().find(|p| p["repeat"] == "signal").unwrap();
    let target = &panel["targets"][0];
    let answer = ask(&f.client, &expand(text(target, "rawSql"), &view).unwrap()).await.unwrap();
    assert_fits(panel, target, &answer);
    assert!(answer.rows.len() > 100);
    let expected = ["order", "2.5", "2.5"].map(|text| Some(text.to_owned()));
    assert!(answer.rows.iter().all(|row| row[1..] == expected), "{:?}", answer.rows[0]);
}

fn target<'a>(dashboard: &'a Value, kind: &str, title: &str) -> &'a str {
    let panel = panels(dashboard).into_iter().find(|p| p["type"] == kind && p["title"] == title).unwrap();
    text(&panel["targets"][0], "rawSql")
}

/// Minutes without a record are minutes too.
#[tokio::test]
async fn records_per_second_are_those_of_all_minutes() {
    let f = Fixture::on(Server::plain().await).await;
    fill::fill(&f.client, 3, 1).await;
    let sparse = "delete from telemetry where extract(minute from ts)::int % 4 <> 0 or vehicle_id > 1; \
        insert into fleet_touched select distinct date_bin('1 minute', ts, '2000-01-01+00') from telemetry";
    f.client.batch_execute(sparse).await.unwrap();
    let dashboard = dashboard("fleet.json");
    let number = |text: &Option<String>| text.as_ref().unwrap().parse::<f64>().unwrap();
    let stat = expand(target(&dashboard, "stat", "Records per second"), &view(1, 60, false)).unwrap();
    // One or two of five minutes have the six records of one vehicle.
    let shown = number(&ask(&f.client, &stat).await.unwrap().rows[0][0]);
    assert!([6.0 / 300.0, 12.0 / 300.0].iter().any(|truth| (shown - truth).abs() < 1e-9), "{shown}");
    for minutes in [1, 20] {
        let sql = target(&dashboard, "timeseries", "Records per second");
        let view = View { from: now() - 45 * MINUTE, to: now(), ..view(1, 60 * minutes, false) };
        let answer = ask(&f.client, &expand(sql, &view).unwrap()).await.unwrap();
        let records: Vec<f64> = answer.rows.iter().map(|row| number(&row[1])).collect();
        if minutes == 1 {
            assert!((42..=45).contains(&records.len()), "{}", records.len());
            assert!(records.contains(&0.0) && records.contains(&0.1), "{records:?}");
        } else {
            // A whole group of twenty minutes: five with six records.
            assert!((records[1] - 30.0 / 1_200.0).abs() < 1e-9, "{records:?}");
        }
    }
}

/// Rows of a group are joined whatever its width is, and what is missing is not.
#[test]
fn lines_are_broken_by_gaps_alone() {
    for name in ["fleet.json", "vehicle.json"] {
        for panel in panels(&dashboard(name)) {
            let sql = panel["targets"][0]["rawSql"].as_str().unwrap_or_default();
            if panel["type"] != "timeseries" || sql.is_empty() {
                continue;
            }
            let title = text(panel, "title");
            assert!(sql.contains("$__interval, NULL)") || sql.contains("$__interval, 0)"), "{title}");
            let custom = &panel["fieldConfig"]["defaults"]["custom"];
            assert!(custom.get("insertNulls").is_none(), "{title}: groups of more than a minute stand alone");
        }
    }
}
