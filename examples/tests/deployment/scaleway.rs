//! `examples/scaleway`: form, arguments, and that it fits the manifests.

use std::collections::BTreeSet;
use std::path::Path;

use fleet_worker::local::Postgres;
use serde_json::Value;

use crate::{examples, python};

fn checked(folder: &Path) -> Result<Value, String> {
    python("scaleway.py", &[folder], b"")
}

#[test]
fn every_argument_is_one_that_the_provider_documents() {
    let found = checked(&examples().join("scaleway")).unwrap_or_else(|problems| panic!("{problems}"));
    let resources = found["resources"].as_array().unwrap();
    let has = |kind: &str| resources.iter().filter(|resource| resource["kind"] == kind).count();
    assert_eq!(
        (has("scaleway_k8s_pool"), has("scaleway_rdb_user"), has("scaleway_mnq_nats_credentials")),
        (2, 2, 2)
    );
    assert_eq!(has("scaleway_rdb_privilege"), 0);
    let sensitive = ["kubeconfig", "nats_creds"];
    for output in
        ["overlay", "image", "database_secret", "database_ca", "grafana", "nats_url"].iter().chain(&sensitive)
    {
        let output_of = &found["outputs"][output];
        assert!(output_of.is_object(), "{output}");
        assert_eq!(
            sensitive.contains(output),
            output_of["sensitive"] == "true" || output_of["sensitive"] == true
        );
    }
    let passwords = &found["variables"]["passwords"];
    assert!(passwords["ephemeral"] == "true" || passwords["ephemeral"] == true, "{passwords}");
}

#[test]
fn the_example_of_the_variables_has_each_with_what_is_chosen_without_it() {
    let found = checked(&examples().join("scaleway")).unwrap();
    let (variables, example) =
        (found["variables"].as_object().unwrap(), found["example"].as_object().unwrap());
    assert_eq!(variables.keys().collect::<BTreeSet<_>>(), example.keys().collect::<BTreeSet<_>>());
    for (name, variable) in variables.iter().filter(|(_, variable)| variable.get("default").is_some()) {
        assert_eq!(variable["default"], example[name], "{name}");
    }
}

#[test]
fn a_mistake_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(examples().join("scaleway/kubernetes.tf")).unwrap();
    for (right, wrong, said) in [
        ("cni     ", "cmi     ", "scaleway_k8s_cluster.fleet: cmi is no argument"),
        ("    enable     ", "    enabled    ", "auto_upgrade.enabled is no argument"),
        ("  size        = 3\n", "", "scaleway_k8s_pool.nats: size is missing"),
        ("  is_public = false", " is_public=false", "old/kubernetes.tf"),
    ] {
        assert!(text.contains(right), "{right}");
        std::fs::write(folder.path().join("kubernetes.tf"), text.replace(right, wrong)).unwrap();
        let problems = checked(folder.path()).unwrap_err();
        assert!(problems.contains(said), "{said}: {problems}");
    }
}

#[test]
fn grafana_is_told_of_the_database_by_the_names_that_its_data_source_has() {
    let variables = |file: &str| -> BTreeSet<String> {
        let text = std::fs::read_to_string(examples().join(file)).unwrap();
        let words = text.split(|c: char| !(c.is_ascii_uppercase() || c == '_'));
        words.filter(|word| word.starts_with("FLEET_GRAFANA_")).map(str::to_owned).collect()
    };
    let data_source = variables("grafana/provisioning/datasources/fleet.yaml");
    assert!(data_source.contains("FLEET_GRAFANA_DB_HOST"));
    assert_eq!(variables("scaleway/grafana.yaml.tftpl"), data_source);
    let prometheus = variables("grafana/provisioning/datasources/prometheus.yaml");
    assert_eq!(variables("compose.yaml"), data_source.union(&prometheus).cloned().collect());
}

#[tokio::test]
async fn the_workers_role_may_set_up_and_grafanas_may_not() {
    let postgres = Postgres::builder().start().await.unwrap();
    let client = postgres.client().await.unwrap();
    // The database here has an owner named fleet, and no extension.
    let sql = std::fs::read_to_string(examples().join("scaleway/admin.sql")).unwrap();
    let sql =
        sql.replace("create extension if not exists timescaledb;", "").replace("to fleet;", "to worker;");
    client.batch_execute(&format!("create role worker; create role grafana; {sql}")).await.unwrap();
    client.batch_execute("set role grafana").await.unwrap();
    assert!(client.batch_execute("create table own (x int)").await.is_err());
    client
        .batch_execute("set role worker; create table made (x int); grant select on made to grafana")
        .await
        .unwrap();
    client.batch_execute("create temporary table merge (x int)").await.unwrap();
    client.batch_execute("set role grafana; select * from made").await.unwrap();
    assert!(client.batch_execute("insert into made values (1)").await.is_err());
}
