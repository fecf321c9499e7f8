//! What the demo writes for programs.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_writes_what_it_came_to() {
    let folder = tempfile::tempdir().unwrap();
    let (config, file) = (folder.path().join("fleet.toml"), folder.path().join("demo.json"));
    std::fs::write(&config, "interval = \"1s\"\npatience = \"2s\"\n[worker]\nack_wait = \"4s\"\n").unwrap();
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_fleet-worker")));
    command.args(["demo", "--vehicles", "20", "--cells", "2", "--seconds", "20", "--workers", "1"]);
    command.arg("--config").arg(&config).arg("--json").arg(&file).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));

    let json: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let number =
        |path: &str| json.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path}: {json}"));
    assert_eq!((number("/vehicles"), number("/cells"), number("/workers")), (20.0, 2.0, 1.0));
    assert!(number("/acknowledged") > 0.0 && number("/records/stored") > 0.0);
    assert_eq!(number("/records/stored"), number("/records/expected"));
    assert_eq!(number("/records/missing") + number("/records/wrong") + number("/records/duplicate"), 0.0);
    // So short a run may have no row with a value of every signal.
    match json.pointer("/publish_to_whole_row").expect("it is told") {
        Value::Null => {}
        _ => assert!(number("/publish_to_whole_row/p99") <= number("/publish_to_row/max")),
    }
    assert!(number("/publish_to_row/p50") <= number("/publish_to_row/p99"));
    assert!(
        json["failover"].is_null() && json["phases"]["failover"].is_null(),
        "no worker was killed: {json}"
    );
    for part in ["NATS", "PostgreSQL", "discovery", "workers", "publisher"] {
        number(&format!("/phases/steady/cpu/{part}"));
        assert!(
            number(&format!("/memory/{part}/peak")) >= number(&format!("/memory/{part}/before")),
            "{part}"
        );
    }
    let messages =
        ["binding", "steady", "releasing"].map(|phase| number(&format!("/phases/{phase}/messages")));
    assert_eq!(messages.iter().sum::<f64>(), number("/acknowledged"));
}
