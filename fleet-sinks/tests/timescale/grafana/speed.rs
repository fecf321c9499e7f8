//! How long each query takes. Not run by default; to repeat: `cargo test -p fleet-sinks --test timescale --
//! grafana::speed --ignored --nocapture`

use std::time::Instant;

use fleet_core::time::MINUTE;
use fleet_worker::clock::now;

use super::expand::{View, expand};
use super::files::{dashboard, panels, text, yaml};
use super::{as_reader, ask, fill, roll_up, view};
use crate::fixture::Fixture;
use crate::server::Server;

const TRIES: u32 = 5;

#[tokio::test]
#[ignore = "a measurement"]
async fn every_query_at_a_thousand_vehicles_and_a_day() {
    let f = Fixture::on(Server::plain().await).await;
    let start = Instant::now();
    fill::fill(&f.client, 1_000, 24).await;
    let rows = ask(&f.client, "select count(*) from telemetry").await.unwrap().rows[0][0].clone();
    println!("{} rows of 1,000 vehicles in {:.0} s", rows.unwrap_or_default(), start.elapsed().as_secs_f64());
    let start = Instant::now();
    roll_up(&f).await;
    f.client.batch_execute("vacuum analyze").await.unwrap();
    println!("rolled up in {:.0} s", start.elapsed().as_secs_f64());
    as_reader(&f, &f.schema).await;
    let day = View { from: now() - 24 * 60 * MINUTE, to: now(), interval: 60, ..view(24, 60, false) };
    let mut queries = Vec::new();
    for name in ["fleet.json", "vehicle.json"] {
        let dashboard = dashboard(name);
        for panel in panels(&dashboard) {
            for target in
                panel["targets"].as_array().into_iter().flatten().filter(|t| t["rawSql"].is_string())
            {
                let what = format!("{name} {}", text(panel, "title"));
                queries.push((what, expand(text(target, "rawSql"), &day).unwrap()));
            }
        }
    }
    for group in yaml("alerting/fleet.yaml").await["groups"].as_array().unwrap() {
        for rule in group["rules"].as_array().unwrap() {
            let view = View { from: now() - 10 * MINUTE, ..day.clone() };
            let sql = expand(text(&rule["data"][0]["model"], "rawSql"), &view).unwrap();
            queries.push((format!("alert {}", text(rule, "title")), sql));
        }
    }
    // A plan that looks dear is compiled first, which takes longer than it saves here.
    for jit in ["on", "off"] {
        f.client.batch_execute(&format!("set jit = {jit}")).await.unwrap();
        println!("jit = {jit}");
        let mut slowest = 0.0_f64;
        for (what, sql) in &queries {
            let mut times = Vec::new();
            let mut found = 0;
            for _ in 0..TRIES {
                let start = Instant::now();
                found = ask(&f.client, sql).await.unwrap().rows.len();
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
            times.sort_by(f64::total_cmp);
            let median = times[times.len() / 2];
            slowest = slowest.max(median);
            println!(
                "{median:8.1} ms ({:.1} to {:.1}) {found:6} rows  {what}",
                times[0],
                times[times.len() - 1]
            );
        }
        println!("the slowest takes {slowest:.0} ms");
    }
}
