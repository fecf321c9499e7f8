//! The dashboards and the alert rules as they are in the examples.

use std::path::{Path, PathBuf};

use fleet_worker::local::node_packages;
use serde_json::Value;
use tokio::process::Command;

pub(super) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/grafana")
}

pub(super) fn dashboard(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder().join("dashboards").join(name)).unwrap()).unwrap()
}

/// Every panel, those in folded rows too.
pub(super) fn panels(dashboard: &Value) -> Vec<&Value> {
    let all = dashboard["panels"].as_array().unwrap().iter();
    all.flat_map(|p| std::iter::once(p).chain(p["panels"].as_array().into_iter().flatten())).collect()
}

/// A file of provisioning.
pub(super) async fn yaml(name: &str) -> Value {
    const SCRIPT: &str = "const [modules, file] = process.argv.slice(1); \
        const yaml = require(`${modules}/node_modules/yaml`); \
        console.log(JSON.stringify(yaml.parse(require('fs').readFileSync(file, 'utf8'))))";
    let modules = node_packages(&["yaml@2.8.1"]).await.unwrap();
    let mut node = Command::new("node");
    node.arg("-e").arg(SCRIPT).arg(modules).arg(folder().join("provisioning").join(name));
    let output = node.output().await.unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} is missing in {value}"))
}
