//! `examples/kubernetes`: strict schemas, and names that are those of the code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use clap::Parser as _;
use fleet_core::CellId;
use fleet_core::nats::{Bindings, Names};
use fleet_examples::nats_users;
use fleet_worker::admin::{Admin, Health};
use fleet_worker::cli::{self, Cli};
use fleet_worker::config::Config;
use fleet_worker::local::http_get;
use serde_json::Value;

use crate::{config, examples, packages, python, run};

/// An overlay's manifests, which are all good by their schemas.
struct Manifests(Vec<Value>);

fn rendered(overlay: &Path) -> Vec<u8> {
    let mut kubectl = Command::new(packages().join("bin/kubectl"));
    kubectl.arg("kustomize").arg(overlay);
    let output = run(kubectl, b"");
    assert!(output.status.success(), "{}: {}", overlay.display(), String::from_utf8_lossy(&output.stderr));
    output.stdout
}

impl Manifests {
    /// Rendered and checked once for all tests.
    fn of(overlay: &'static str) -> Arc<Self> {
        static ALL: Mutex<BTreeMap<&str, Arc<Manifests>>> = Mutex::new(BTreeMap::new());
        let mut all = ALL.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let folder = examples().join("kubernetes/overlays").join(overlay);
        Arc::clone(all.entry(overlay).or_insert_with(|| Arc::new(Self::checked(&folder))))
    }

    fn checked(overlay: &Path) -> Self {
        let checked = python("kubernetes.py", &[], &rendered(overlay));
        let checked = checked.unwrap_or_else(|problems| panic!("{}:\n{problems}", overlay.display()));
        Self(checked.as_array().unwrap().clone())
    }

    fn kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(move |manifest| manifest["kind"] == kind)
    }

    fn get(&self, kind: &str, name: &str) -> &Value {
        let found = self.kind(kind).find(|manifest| manifest["metadata"]["name"] == name);
        found.unwrap_or_else(|| panic!("no {kind} {name}"))
    }

    fn text<'a>(&'a self, config_map: &str, key: &str) -> &'a str {
        text(&self.get("ConfigMap", config_map)["data"][key])
    }

    /// Everything with a pod of ours.
    fn programs(&self) -> impl Iterator<Item = &Value> {
        let all = self.kind("Deployment").chain(self.kind("Job"));
        all.filter(|manifest| text(&manifest["metadata"]["name"]).starts_with("fleet-"))
    }

    /// The value of `FLEET_CELL` in a pod.
    fn cell(&self, program: &Value) -> &str {
        let env = env(program, "FLEET_CELL");
        let map = &env["valueFrom"]["configMapKeyRef"];
        self.text(text(&map["name"]), text(&map["key"]))
    }

    /// What the program in a pod makes of its configuration.
    fn config(&self, program: &Value) -> Config {
        let volumes = pod(program)["volumes"].as_array().unwrap();
        let map = volumes.iter().find_map(|volume| volume["configMap"]["name"].as_str()).unwrap();
        config(self.text(map, "fleet.toml"), "/etc/fleet", &[("FLEET_CELL", self.cell(program))])
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn pod(program: &Value) -> &Value {
    &program["spec"]["template"]["spec"]
}

fn container(program: &Value) -> &Value {
    &pod(program)["containers"][0]
}

fn env<'a>(program: &'a Value, name: &str) -> &'a Value {
    let all = container(program)["env"].as_array().unwrap();
    all.iter().find(|env| env["name"] == name).unwrap()
}

const OVERLAYS: [(&str, &[&str]); 3] =
    [("small", &["0"]), ("fleet", &["0", "1", "2", "3", "4", "5", "6", "7"]), ("managed-nats", &["0"])];

#[test]
fn the_operator_scrapes_the_programs_by_the_jobs_of_the_rules() {
    let monitoring = Manifests::checked(&examples().join("kubernetes/monitoring"));
    let (monitor, rules) = (monitoring.get("PodMonitor", "fleet"), monitoring.get("PrometheusRule", "fleet"));
    let cells = Manifests::of("small");
    let selected = &monitor["spec"]["selector"]["matchExpressions"][0];
    for name in selected["values"].as_array().unwrap() {
        let program = cells.programs().find(|program| program["metadata"]["name"] == *name).unwrap();
        assert_eq!(program["spec"]["template"]["metadata"]["labels"][text(&selected["key"])], *name);
        assert_eq!(container(program)["ports"][0]["name"], monitor["spec"]["podMetricsEndpoints"][0]["port"]);
        assert!(text(name).starts_with("fleet-"), "the rules look for these jobs");
    }
    assert_eq!(monitor["spec"]["jobLabel"], selected["key"]);
    assert!(rules["spec"]["groups"][0]["rules"].as_array().unwrap().len() > 15);
    let wrong = rendered(&examples().join("kubernetes/monitoring"));
    let wrong = String::from_utf8(wrong).unwrap().replace("jobLabel:", "jobLabels:");
    let problems = python("kubernetes.py", &[], wrong.as_bytes()).unwrap_err();
    assert!(problems.contains("PodMonitor fleet: jobLabels is no field"), "{problems}");
}

#[test]
fn every_cell_has_its_programs_with_a_configuration_that_they_take() {
    for (overlay, cells) in OVERLAYS {
        let manifests = Manifests::of(overlay);
        let mut found = BTreeSet::new();
        for program in manifests.programs() {
            let arguments = container(program)["args"].as_array().unwrap().iter().map(text);
            let cli = Cli::try_parse_from(["fleet-worker"].into_iter().chain(arguments)).unwrap();
            let file = cli.global.config.unwrap();
            let (folder, name) = (file.parent().unwrap(), file.file_name().unwrap());
            let mounts = container(program)["volumeMounts"].as_array().unwrap();
            assert!(
                name == "fleet.toml" && mounts.iter().any(|m| m["mountPath"] == folder.to_str().unwrap())
            );
            let config = manifests.config(program);
            assert!(config.need_timescale().is_ok());
            let command = match cli.command {
                cli::Command::Run => "run",
                cli::Command::Discover => "discover",
                cli::Command::Setup(_) => "setup",
                other => panic!("{other:?}"),
            };
            if command != "setup" {
                assert_eq!(
                    u64::from(config.admin.unwrap().port()),
                    container(program)["ports"][0]["containerPort"]
                );
                let grace = pod(program)["terminationGracePeriodSeconds"].as_u64().unwrap();
                assert!(grace > config.worker.shutdown_deadline.as_secs() + 10);
                let strategy = &program["spec"]["strategy"]["rollingUpdate"];
                assert_eq!((&strategy["maxSurge"], &strategy["maxUnavailable"]), (&1.into(), &0.into()));
            }
            assert_eq!(config.nats.replicas, if overlay == "managed-nats" { 1 } else { 3 });
            found.insert((config.one_cell().unwrap().to_string(), command));
        }
        let expected: BTreeSet<_> = cells
            .iter()
            .flat_map(|cell| ["run", "discover", "setup"].map(|command| ((*cell).to_owned(), command)))
            .collect();
        assert_eq!(found, expected, "{overlay}");
    }
}

#[test]
fn keda_reads_the_queue_of_each_cell_and_keeps_within_what_a_worker_holds() {
    for (overlay, cells) in OVERLAYS {
        let manifests = Manifests::of(overlay);
        let mut scaled = BTreeSet::new();
        for object in manifests.kind("ScaledObject") {
            let spec = &object["spec"];
            let worker = manifests.get("Deployment", text(&spec["scaleTargetRef"]["name"]));
            assert!(worker["spec"]["replicas"].is_null(), "an apply would undo the scaling");
            let (config, names) =
                (manifests.config(worker), Names::new(&manifests.cell(worker).parse().unwrap()));
            let metadata = &spec["triggers"][0]["metadata"];
            let threshold = if overlay == "managed-nats" {
                let bindings = Bindings { waiting: 1, bound: 2, active: 3 };
                let answer = serde_json::to_value(bindings).unwrap();
                assert_eq!(answer[text(&metadata["valueLocation"])], 3);
                let discovery = manifests.get("Service", "fleet-discovery");
                let (port, admin) = (&discovery["spec"]["ports"][0]["port"], config.admin.unwrap().port());
                let url = format!("http://fleet-discovery.fleet.svc.cluster.local:{port}/bindings");
                assert_eq!((text(&metadata["url"]), port), (url.as_str(), &admin.into()));
                &metadata["targetValue"]
            } else {
                assert_eq!(text(&metadata["stream"]), names.bind_stream());
                assert_eq!(text(&metadata["consumer"]), Names::WORKERS);
                let accounts = manifests.text("nats-config", "accounts.conf");
                assert!(
                    accounts
                        .contains(&format!("  {} {{\n    jetstream: enabled", text(&metadata["account"])))
                );
                let monitor =
                    format!("http: {}", endpoint(&metadata["natsServerMonitoringEndpoint"], &manifests));
                assert!(manifests.text("nats-config", "nats.conf").contains(&monitor), "{monitor}");
                &metadata["lagThreshold"]
            };
            let threshold: usize = text(threshold).parse().unwrap();
            assert!(threshold * 10 <= config.worker.max_vehicles * 8, "{overlay}: {threshold}");
            assert!(spec["maxReplicaCount"].as_u64().unwrap() <= 4 && spec["minReplicaCount"] == 0);
            let behavior = &spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"];
            assert_eq!(behavior["scaleDown"]["stabilizationWindowSeconds"], 600);
            scaled.insert(names.cell().to_string());
        }
        assert_eq!(scaled, cells.iter().map(|&cell| cell.to_owned()).collect(), "{overlay}");
    }
}

/// The port of a service that there is, under the name that it has in the cluster.
fn endpoint<'a>(endpoint: &'a Value, manifests: &Manifests) -> &'a str {
    let (host, port) = text(endpoint).split_once(':').unwrap();
    let service = host.strip_suffix(".fleet.svc.cluster.local").unwrap();
    let ports = manifests.get("Service", service)["spec"]["ports"].as_array().unwrap();
    assert!(ports.iter().any(|p| p["port"].as_u64() == port.parse().ok()), "{endpoint}");
    port
}

/// A manifest that an apply leaves as it is restarts no pod.
#[test]
fn another_cell_restarts_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    for part in ["kubernetes", "nats", "grafana"] {
        let mut copy = Command::new("cp");
        copy.arg("-r").arg(examples().join(part)).arg(folder.path());
        assert!(run(copy, b"").status.success(), "{part}");
    }
    let overlay = folder.path().join("kubernetes/overlays/fleet");
    let fewer: Vec<CellId> = OVERLAYS[1].1[..7].iter().map(|cell| cell.parse().unwrap()).collect();
    std::fs::write(overlay.join("accounts.conf"), nats_users::accounts(&fewer)).unwrap();
    let file = overlay.join("kustomization.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("  - cells/7\n", "")).unwrap();
    let (fewer, more) = (Manifests::checked(&overlay), Manifests::of("fleet"));
    let (kept, new): (Vec<_>, Vec<_>) = more.0.iter().partition(|manifest| fewer.0.contains(manifest));
    let of_cell = |manifest: &Value| manifest["metadata"]["labels"]["fleet/cell"] == "7";
    let others: Vec<_> = new.into_iter().filter(|manifest| !of_cell(manifest)).collect();
    // Its servers are told to read it again.
    assert_eq!(others, [more.get("ConfigMap", "nats-config")]);
    assert_eq!(kept.len() + 1, fewer.0.len());
}

#[test]
fn nats_has_the_accounts_of_the_cells_and_everybody_a_seed_of_his_own() {
    for (overlay, cells) in &OVERLAYS[..2] {
        let manifests = Manifests::of(overlay);
        let cells: Vec<CellId> = cells.iter().map(|cell| cell.parse().unwrap()).collect();
        assert_eq!(manifests.text("nats-config", "accounts.conf"), nats_users::accounts(&cells));
        let folder = tempfile::tempdir().unwrap();
        nats_users::keys(folder.path(), &cells).unwrap();
        let mut seeds = BTreeSet::new();
        for program in manifests.programs() {
            let volumes = pod(program)["volumes"].as_array().unwrap();
            let login = volumes.iter().find(|volume| volume["name"] == "login").unwrap();
            let seed = text(&login["secret"]["items"][0]["key"]);
            assert!(folder.path().join("seeds").join(seed).is_file(), "{seed}");
            let cell = manifests.cell(program).to_uppercase();
            assert_eq!(seed.split('_').nth(1), Some(cell.as_str()));
            seeds.insert(seed.to_owned());
        }
        assert_eq!(seeds.len(), 3 * cells.len());
        // Each server has all streams, and the volume what it may keep. NATS's GB is 1024 MB.
        let nats = manifests.get("StatefulSet", "nats");
        let store: i64 =
            text(&env(nats, "MAX_FILE_STORE")["value"]).strip_suffix("GB").unwrap().parse().unwrap();
        let claim = &nats["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"];
        assert!(text(claim).strip_suffix("Gi").unwrap().parse::<i64>().unwrap() > store);
        let streams: i64 = manifests
            .kind("ScaledObject")
            .map(|object| manifests.get("Deployment", text(&object["spec"]["scaleTargetRef"]["name"])))
            .map(|worker| manifests.config(worker).nats.max_bytes + (1 << 30))
            .sum();
        assert!(streams < store << 30, "{streams} bytes of streams");
        let config = manifests.config(manifests.programs().next().unwrap());
        let url = config.nats.url.expose().strip_prefix("tls://").unwrap().to_owned();
        let port = format!("port: {}", endpoint(&url.as_str().into(), &manifests));
        assert!(manifests.text("nats-config", "nats.conf").contains(&port));
    }
}

#[test]
fn pods_run_without_rights_and_secrets_come_by_reference() {
    for (overlay, _) in OVERLAYS {
        let manifests = Manifests::of(overlay);
        assert_eq!(manifests.kind("Secret").count(), 0);
        let pods = ["Deployment", "Job", "StatefulSet"].into_iter().flat_map(|kind| manifests.kind(kind));
        for program in pods {
            let (name, container) = (&program["metadata"]["name"], container(program));
            let security = &container["securityContext"];
            assert_eq!(pod(program)["securityContext"]["runAsNonRoot"], true, "{name}");
            assert_eq!(security["readOnlyRootFilesystem"], true, "{name}");
            assert_eq!(security["allowPrivilegeEscalation"], false, "{name}");
            assert_eq!(security["capabilities"]["drop"][0], "ALL", "{name}");
            assert!(container["resources"]["limits"]["memory"].is_string(), "{name}");
            let image = text(&container["image"]);
            assert!(
                image.rsplit('/').next().unwrap().contains(':') && !image.ends_with(":latest"),
                "{image}"
            );
        }
        assert_eq!(manifests.get("NetworkPolicy", "nothing")["spec"]["podSelector"], serde_json::json!({}));
    }
}

#[tokio::test]
async fn probes_ask_for_what_is_answered() {
    let manifests = tokio::task::spawn_blocking(|| Manifests::of("small")).await.unwrap();
    let admin = Admin::new(Health::new(), Vec::new);
    let serving = admin.serve("127.0.0.1:0".parse().unwrap(), std::future::pending()).await.unwrap();
    let programs: Vec<_> = manifests.programs().filter(|program| program["kind"] == "Deployment").collect();
    assert_eq!(programs.len(), 2);
    for program in programs {
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let probe = &container(program)[probe]["httpGet"];
            assert_eq!(probe["port"], container(program)["ports"][0]["name"]);
            let answer = http_get(&serving.address.to_string(), text(&probe["path"])).await;
            assert_eq!(answer.unwrap().0, 200);
        }
    }
}

#[test]
fn a_mistake_is_seen() {
    let rendered = String::from_utf8(rendered(&examples().join("kubernetes/overlays/small"))).unwrap();
    let mistakes = [
        ("lagThreshold: \"10000\"", "lagThreshold: 10000", "metadata.lagThreshold is no string"),
        ("consumer: workers", "consumers: workers", "metadata.consumers is not read"),
        ("cooldownPeriod: 600", "coolDownPeriod: 600", "coolDownPeriod is no field"),
        (
            "stabilizationWindowSeconds: 600",
            "stabilizationWindow: 600",
            "ScaledObject fleet-worker: spec.behavior",
        ),
        ("runAsNonRoot: true", "runAsNotRoot: true", "runAsNotRoot"),
        ("backoffLimit: 10", "backoffLimit: ten", "Job fleet-setup: spec.backoffLimit"),
    ];
    let mut wrong = rendered.clone();
    for (right, mistake, _) in mistakes {
        assert!(wrong.contains(right), "{right}");
        wrong = wrong.replace(right, mistake);
    }
    let problems = python("kubernetes.py", &[], wrong.as_bytes()).unwrap_err();
    for (_, mistake, said) in mistakes {
        assert!(problems.contains(said), "{mistake}: {problems}");
    }
}
