//! The files against what Grafana has published about them.

use std::fmt::Write as _;
use std::process::Command;

use fleet_core::nats::{BinderCounters, DiscoveryCounters, SourceCounters};
use fleet_core::pipeline::Counters;
use fleet_worker::commands::UpkeepCounters;
use fleet_worker::local::node_packages;
use fleet_worker::metrics;
use serde_json::Value;

use super::files::{dashboard, folder, panels, text, yaml};

/// Grafana's types say `enum` where JSON has the enum's value.
const JSON: &str = "type Json<T> = T extends string ? `${T}` : T extends (infer U)[] ? Json<U>[] \
    : T extends object ? { [K in keyof T]: Json<T[K]> } : T;\n";

/// The published module of a panel's options, and whether it has one for a column's own settings.
fn module(panel: &str) -> (&'static str, bool) {
    match panel {
        "timeseries" => ("timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen", true),
        "stat" => ("stat/panelcfg/x/StatPanelCfg_types.gen", false),
        "table" => ("table/panelcfg/x/TablePanelCfg_types.gen", true),
        "geomap" => ("geomap/panelcfg/x/GeomapPanelCfg_types.gen", false),
        "barchart" => ("barchart/panelcfg/x/BarChartPanelCfg_types.gen", true),
        "state-timeline" => ("statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen", true),
        other => panic!("{other}"),
    }
}

/// A program that assigns every part of a dashboard to its type.
fn program(dashboard: &Value) -> String {
    let mut program = "import type { Dashboard, Panel } from '@grafana/schema';\n".to_owned() + JSON;
    let _ = writeln!(program, "export const dashboard: Json<Dashboard> = {dashboard};");
    for panel in panels(dashboard).into_iter().filter(|p| p["type"] != "row") {
        let id = &panel["id"];
        let (module, columns) = module(text(panel, "type"));
        let _ = writeln!(program, "export const panel{id}: Json<Panel> = {panel};");
        let _ = writeln!(
            program,
            "import type * as kind{id} from '@grafana/schema/dist/esm/raw/composable/{module}';\n\
             export const options{id}: Json<kind{id}.Options> = {};",
            panel["options"]
        );
        if columns {
            let custom = &panel["fieldConfig"]["defaults"]["custom"];
            let _ =
                writeln!(program, "export const custom{id}: Partial<Json<kind{id}.FieldConfig>> = {custom};");
        }
    }
    program
}

#[tokio::test]
async fn dashboards_are_of_grafanas_types() {
    let modules = node_packages(&["typescript@5.9.3", "@grafana/schema@13.2.3"]).await.unwrap();
    let modules = modules.join("node_modules");
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(&modules, dir.path().join("node_modules")).unwrap();
    let mut programs = vec![
        ("fleet.ts".to_owned(), program(&dashboard("fleet.json"))),
        ("vehicle.ts".to_owned(), program(&dashboard("vehicle.json"))),
        ("workers.ts".to_owned(), program(&dashboard("workers.json"))),
    ];
    // What is wrong must be found: a misspelt key, a value that is none of an enum's, a missing option.
    let mistakes = [
        ("/refesh", Value::from("30s")),
        ("/graphTooltip", Value::from("1")),
        ("/panels/1/options/colorMode", Value::from("colourful")),
        ("/panels/1/fieldConfig/defaults/untis", Value::from("s")),
        ("/panels/7/options/view", Value::Null),
        ("/panels/12/fieldConfig/defaults/custom/drawStyle", Value::from("zigzag")),
    ];
    for (i, (path, wrong)) in mistakes.iter().enumerate() {
        let mut changed = dashboard("fleet.json");
        let (parent, key) = path.rsplit_once('/').unwrap();
        changed.pointer_mut(parent).unwrap()[key] = wrong.clone();
        programs.push((format!("wrong{i}.ts"), program(&changed)));
    }
    let mut tsc = Command::new("node");
    tsc.arg(modules.join("typescript/bin/tsc")).args(["--noEmit", "--strict", "--target", "es2022"]);
    tsc.args(["--module", "preserve", "--moduleResolution", "bundler", "--skipLibCheck"]);
    for (name, program) in programs {
        std::fs::write(dir.path().join(&name), program).unwrap();
        tsc.arg(name);
    }
    let output = tsc.current_dir(dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    for name in ["fleet.ts(", "vehicle.ts(", "workers.ts("] {
        assert!(!said.contains(name), "{said}");
    }
    for (i, (path, _)) in mistakes.iter().enumerate() {
        assert!(said.contains(&format!("wrong{i}.ts(")), "{path} was taken: {said}");
    }
}

#[test]
fn dashboards_are_what_their_script_makes() {
    let check = Command::new("python3").arg(folder().join("dashboards.py")).arg("--check").output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
}

/// Of the dashboard and of the alerts.
#[tokio::test]
async fn metrics_are_those_of_the_programs() {
    let (pipeline, source) = (Counters::default(), SourceCounters::default());
    let told = [
        metrics::pipeline(&pipeline),
        metrics::source(&source),
        metrics::binder(&BinderCounters::default()),
        metrics::discovery(&DiscoveryCounters::default()),
        metrics::upkeep(&UpkeepCounters::default()),
        metrics::capacity(1, 1),
        metrics::process(),
        vec![metrics::refused(&pipeline, &source), metrics::ready(&[]), metrics::sinks([])],
    ];
    let mut told: Vec<_> = told.concat().into_iter().map(|metric| metric.name).collect();
    // Only where there is an optional sink.
    told.push("fleet_optional_missed_rows_total".to_owned());
    let workers = dashboard("workers.json");
    let targets = panels(&workers).into_iter().flat_map(|p| p["targets"].as_array().into_iter().flatten());
    let mut expressions: Vec<_> = targets.map(|target| text(target, "expr").to_owned()).collect();
    for group in yaml("alerting/workers.yaml").await["groups"].as_array().unwrap() {
        let rules = group["rules"].as_array().unwrap().iter();
        expressions.extend(rules.map(|rule| text(&rule["data"][0]["model"], "expr").to_owned()));
    }
    let mut seen = 0;
    for expression in expressions {
        let names = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for name in names.filter(|name| name.starts_with("fleet_") || name.starts_with("process_")) {
            assert!(told.iter().any(|known| known == name), "{name}");
            seen += 1;
        }
    }
    assert!(seen >= 40, "{seen}");
}

/// Names are unique where Grafana tells panels, dashboards and rules apart by them.
#[tokio::test]
async fn names_fit_together() {
    let source = yaml("datasources/fleet.yaml").await;
    let source = &source["datasources"][0];
    // Secrets are references and no values.
    for secret in [&source["secureJsonData"]["password"], &source["user"], &source["url"]] {
        assert!(secret.as_str().unwrap().starts_with("$FLEET_GRAFANA_DB_"), "{secret}");
    }
    let uid = text(source, "uid");
    let prometheus = yaml("datasources/prometheus.yaml").await;
    let prometheus = &prometheus["datasources"][0];
    assert_eq!(text(prometheus, "url"), "$FLEET_GRAFANA_PROMETHEUS_URL");
    let mut ids = Vec::new();
    for name in ["fleet.json", "vehicle.json", "workers.json"] {
        let dashboard = dashboard(name);
        ids.push(text(&dashboard, "uid").to_owned());
        let mut numbers = Vec::new();
        for panel in panels(&dashboard) {
            numbers.push(panel["id"].as_u64().unwrap());
            assert!(panel["type"] == "row" || !text(panel, "description").is_empty());
            for target in panel["targets"].as_array().into_iter().flatten() {
                assert!(target["datasource"]["uid"] == uid || target["datasource"]["uid"] == "${prometheus}");
            }
        }
        let count = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), count, "{name}");
    }
    assert!(
        folder().join("dashboards/vehicle.json").exists()
            && ids == ["fleet", "fleet-vehicle", "fleet-workers"]
    );
    assert!(dashboard("fleet.json").to_string().contains("/d/fleet-vehicle?var-vin="));
    let provider = yaml("dashboards/fleet.yaml").await;
    assert_eq!(provider["providers"][0]["options"]["path"], "/var/lib/grafana/dashboards");

    // What `rules_types.go` of Grafana's provisioning knows of a rule, as far as we use it.
    let known =
        ["uid", "title", "condition", "data", "for", "noDataState", "execErrState", "labels", "annotations"];
    let mut uids = Vec::new();
    for (file, asked) in [("alerting/fleet.yaml", uid), ("alerting/workers.yaml", text(prometheus, "uid"))] {
        for group in yaml(file).await["groups"].as_array().unwrap() {
            for key in ["name", "folder", "interval"] {
                text(group, key);
            }
            for rule in group["rules"].as_array().unwrap() {
                let keys: Vec<_> = rule.as_object().unwrap().keys().collect();
                assert!(
                    keys.len() == known.len() && keys.iter().all(|k| known.contains(&k.as_str())),
                    "{keys:?}"
                );
                assert!(["OK", "NoData", "Alerting", "KeepLast"].contains(&text(rule, "noDataState")));
                assert!(["OK", "Error", "Alerting", "KeepLast"].contains(&text(rule, "execErrState")));
                assert_eq!(rule["data"][0]["datasourceUid"], asked);
                assert_eq!(rule["data"][1]["datasourceUid"], "__expr__");
                uids.push(text(rule, "uid").to_owned());
            }
        }
    }
    let all = uids.len();
    uids.sort();
    uids.dedup();
    assert!(uids.len() == all && all > 20, "{uids:?}");
}
