//! `--example trial`: the secrets that the manifests name, with a certificate and keys that a server takes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use fleet_core::CellId;
use fleet_core::nats::connect;
use fleet_examples::trial::{Database, trial};
use fleet_worker::config::Config;
use fleet_worker::local::{NatsServer, free_port};
use serde_json::Value;

use crate::{examples, packages, python, run};

fn database() -> Database {
    let ca = rcgen::generate_simple_self_signed(["db".to_owned()]).unwrap().cert.pem();
    Database { address: "172.16.0.2:5432".to_owned(), ca }
}

fn make(folder: &Path, database: Option<&Database>) {
    trial(folder, &[CellId::default()], &["localhost".to_owned()], database).unwrap();
}

fn manifests(folder: &Path) -> Vec<Value> {
    let mut kubectl = Command::new(packages().join("bin/kubectl"));
    kubectl.arg("kustomize").arg(folder);
    let output = run(kubectl, b"");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let checked =
        python("kubernetes.py", &[], &output.stdout).unwrap_or_else(|problems| panic!("{problems}"));
    checked.as_array().unwrap().clone()
}

/// The keys of each Secret and each `ConfigMap`.
fn keys(manifests: &[Value]) -> BTreeMap<String, BTreeSet<String>> {
    let entry = |manifest: &Value| {
        let data = manifest["data"].as_object().unwrap().keys().cloned().collect();
        (manifest["metadata"]["name"].as_str().unwrap().to_owned(), data)
    };
    let maps = manifests.iter().filter(|m| ["Secret", "ConfigMap"].contains(&m["kind"].as_str().unwrap()));
    maps.map(entry).collect()
}

/// What is mounted or read of Secrets and `ConfigMaps`, with the keys that are named.
fn wanted(value: &Value, found: &mut BTreeMap<String, BTreeSet<String>>) {
    match value {
        Value::Array(all) => all.iter().for_each(|value| wanted(value, found)),
        Value::Object(fields) => {
            for (kind, inner) in fields {
                let known = ["secret", "configMap", "secretRef", "secretKeyRef", "configMapKeyRef"];
                let name = inner["secretName"].as_str().or_else(|| inner["name"].as_str());
                if let Some(name) = name.filter(|_| known.contains(&kind.as_str())) {
                    let keys = found.entry(name.to_owned()).or_default();
                    keys.extend(inner["key"].as_str().map(str::to_owned));
                    let items = inner["items"].as_array().into_iter().flatten();
                    keys.extend(items.map(|item| item["key"].as_str().unwrap().to_owned()));
                }
                wanted(inner, found);
            }
        }
        _ => {}
    }
}

#[test]
fn it_has_all_that_the_pods_read() {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path(), Some(&database()));
    let given = keys(&manifests(folder.path()));
    let overlay = manifests(&examples().join("kubernetes/overlays/small"));
    let own = keys(&overlay);
    let mut read = BTreeMap::new();
    overlay.iter().for_each(|manifest| wanted(manifest, &mut read));
    read.retain(|name, _| !own.contains_key(name));
    assert!(read.len() >= 10, "{read:?}");
    for (name, keys) in &read {
        let there = given.get(name).unwrap_or_else(|| panic!("{name} is missing"));
        assert!(keys.is_subset(there), "{name}: {keys:?} of {there:?}");
    }
    assert_eq!(given.keys().collect::<Vec<_>>(), read.keys().collect::<Vec<_>>(), "nothing beyond");
    let data_source =
        std::fs::read_to_string(examples().join("grafana/provisioning/datasources/fleet.yaml")).unwrap();
    assert!(given["grafana-database"].iter().all(|key| data_source.contains(key)));
    assert_eq!(given["grafana-database"].len(), 6);
}

#[test]
fn once_more_it_keeps_what_it_made_and_adds_the_database() {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path(), None);
    let read = |file: &str| std::fs::read_to_string(folder.path().join(file)).unwrap();
    let names = ["seeds/WORKER_0_A", "tls/tls.crt", "passwords.auto.tfvars", "vehicles/vehicles.conf"];
    let before = names.map(read);
    assert!(!keys(&manifests(folder.path())).contains_key("fleet-database"));
    make(folder.path(), Some(&database()));
    assert_eq!(names.map(read), before);
    let password = read("passwords/fleet");
    assert!(password.len() == 51 && before[2].contains(&password));
    assert_eq!(
        read("database/url"),
        format!("postgres://fleet:{password}@172.16.0.2:5432/fleet?sslmode=require")
    );
    assert!(keys(&manifests(folder.path())).contains_key("fleet-database"));
}

#[tokio::test]
async fn a_server_starts_with_it_and_programs_log_in() {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path(), None);
    let text = |file: &str| std::fs::read_to_string(examples().join("nats").join(file)).unwrap();
    let at = folder.path().to_str().unwrap();
    std::fs::write(folder.path().join("accounts.conf"), text("accounts.conf")).unwrap();
    let store = format!("{at}/store\n  max_file_store: 1TB");
    let server =
        text("server.conf").replace("/data", &store).replace("server_name: nats\n", "server_name: trial\n");
    std::fs::write(folder.path().join("server.conf"), server).unwrap();
    let nats = text("nats.conf").replace("/etc/nats/tls", &format!("{at}/tls"));
    let file = folder.path().join("nats.conf");
    std::fs::write(&file, nats.replace("http: 8222", &format!("http: \"127.0.0.1:{}\"", free_port())))
        .unwrap();
    let server = NatsServer::builder().file(&file, "trial").start().await.unwrap();

    let env = |seed: &str| {
        [
            ("FLEET_NATS__URL", format!("tls://localhost:{}", server.port())),
            ("FLEET_NATS__CA_FILE", format!("{at}/tls/ca.crt")),
            ("FLEET_NATS__NKEY_FILE", format!("{at}/{seed}")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
    };
    for seed in ["seeds/SETUP_0_A", "seeds/WORKER_0_B", "fleet/seed"] {
        let config = Config::parse("", "", env(seed).into_iter(), &[]).unwrap();
        connect(&config.nats.options(), "fleet-trial", |_| {})
            .await
            .unwrap_or_else(|e| panic!("{seed}: {e}"));
    }
}
