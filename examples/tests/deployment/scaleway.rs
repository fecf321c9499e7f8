//! `examples/scaleway`: form, arguments, and that it fits the manifests.

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
fn grafana_is_told_of_the_database_as_compose_tells_it() {
    let read = |file: &str| std::fs::read_to_string(examples().join(file)).unwrap();
    let variables = |text: &str| -> Vec<String> {
        let words = text.split(|c: char| !(c.is_ascii_uppercase() || c == '_'));
        let mut found: Vec<String> =
            words.filter(|w| w.starts_with("FLEET_GRAFANA_")).map(str::to_owned).collect();
        found.sort();
        found
    };
    let compose = variables(&read("compose.yaml"));
    assert_eq!(compose.len(), 6);
    assert_eq!(variables(&read("scaleway/grafana.yaml.tftpl")), compose);
}

#[tokio::test]
async fn the_roles_have_what_they_need_and_grafana_only_looks() {
    let postgres = Postgres::builder().start().await.unwrap();
    let read = |file: &str| std::fs::read_to_string(examples().join("scaleway").join(file)).unwrap();
    let client = postgres.client().await.unwrap();
    // The server here has its own owner; the database's name and the extension are Scaleway's business.
    let owner = "create role admin createdb; create role worker; create role grafana";
    client.batch_execute(owner).await.unwrap();
    let admin = read("admin.sql")
        .replace("create extension if not exists timescaledb;", "")
        .replace("to fleet;", "to worker;");
    client.batch_execute(&admin).await.unwrap();
    client.batch_execute("set role worker; create table before (x int)").await.unwrap();
    client.batch_execute(&read("fleet.sql")).await.unwrap();
    client
        .batch_execute(
            "create table after (x int); create view seen as select * from after; set role grafana",
        )
        .await
        .unwrap();
    client.batch_execute("select * from before; select * from after; select * from seen").await.unwrap();
    for forbidden in [
        "insert into after values (1)",
        "create table own (x int)",
        "drop table before",
        "delete from before",
    ] {
        assert!(client.batch_execute(forbidden).await.is_err(), "{forbidden}");
    }
}
