//! What the alerts make of the metrics of real faults. They are scraped as Prometheus does it, and `promtool` evaluates
//! the rules of `examples/prometheus` over them, stretched in time: no test waits for a rule's `for`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use fleet_worker::deployment::Program;
use fleet_worker::local::{NatsServer, Timescale, debian_package};
use serde_json::json;

use crate::world::{Hand, QUICK, deployment_by, eventually};

/// Minutes that all is well before the fault.
const WELL: usize = 15;

/// Minutes that there are in all.
const ALL: usize = 31;

/// When the alerts are looked at: once while all is well, and then until all of them have had their time.
const LOOKS: [usize; 4] = [14, 17, 22, 30];

/// What was scraped of programs, time after time: values by series.
pub(crate) struct Recording {
    scrapes: Vec<BTreeMap<String, String>>,
    /// By address, with the job that Prometheus would have for them.
    jobs: BTreeMap<String, &'static str>,
    promtool: PathBuf,
}

/// The alerts that fire after the fault, with their labels and annotations as promtool prints them.
pub(crate) struct Alerts(BTreeMap<String, String>);

impl Recording {
    /// Of programs that are well.
    pub(crate) async fn of(programs: impl IntoIterator<Item = &Program>) -> Self {
        let promtool = debian_package("prometheus", &["promtool"]).await.unwrap();
        let mut recording = Self { scrapes: Vec::new(), jobs: BTreeMap::new(), promtool };
        recording.scrape(programs).await;
        recording
    }

    /// Once more, of those that run now.
    pub(crate) async fn scrape(&mut self, programs: impl IntoIterator<Item = &Program>) {
        let mut scrape = BTreeMap::new();
        for program in programs {
            let instance = program.address().to_owned();
            let (status, text) = program.get("/metrics").await.unwrap();
            assert_eq!(status, 200);
            self.check(&text);
            let job = if text.contains("fleet_bound") { "fleet-worker" } else { "fleet-discovery" };
            self.jobs.insert(instance.clone(), job);
            scrape.extend(series(&text, job, &instance));
        }
        // Whom Prometheus knows and can't reach.
        for (instance, job) in &self.jobs {
            scrape.entry(up(job, instance)).or_insert_with(|| "0".to_owned());
        }
        self.scrapes.push(scrape);
    }

    /// `promtool check metrics` finds nothing to complain about.
    fn check(&self, text: &str) {
        let mut promtool = Command::new(&self.promtool);
        promtool
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut promtool = promtool.spawn().unwrap();
        promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let said = promtool.wait_with_output().unwrap();
        let words = [said.stdout, said.stderr].concat();
        assert!(said.status.success() && words.is_empty(), "{}", String::from_utf8_lossy(&words));
    }

    /// Those that fire after the fault; while all was well there must be none.
    pub(crate) fn alerts(&self) -> Alerts {
        let rules = examples().join("prometheus/rules.yaml");
        let text = std::fs::read_to_string(&rules).unwrap();
        let names = text.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
        // A counter that is stretched stands still.
        let names: Vec<_> = names.filter(|name| *name != "FleetNothingStored").collect();
        let looks = names.iter().flat_map(|name| {
            LOOKS.map(|at| json!({ "eval_time": format!("{at}m"), "alertname": name, "exp_alerts": [] }))
        });
        let inputs =
            self.inputs().into_iter().map(|(series, values)| json!({ "series": series, "values": values }));
        let test = json!({
            "rule_files": [&rules],
            "evaluation_interval": "1m",
            "tests": [{
                "interval": "1m",
                "input_series": inputs.collect::<Vec<_>>(),
                "alert_rule_test": looks.collect::<Vec<_>>(),
            }],
        });
        let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
        std::fs::write(file.path(), test.to_string()).unwrap();
        let said = Command::new(&self.promtool).args(["test", "rules"]).arg(file.path()).output().unwrap();
        let said = String::from_utf8([said.stdout, said.stderr].concat()).unwrap();
        assert!(said.contains("alertname: ") || said.contains("SUCCESS"), "{said}");
        // That none is expected makes it print all that fire.
        let mut fire: BTreeMap<String, String> = BTreeMap::new();
        for found in said.split("alertname: ").skip(1) {
            let (name, rest) = found.split_once(", time: ").unwrap();
            let (time, got) = rest.split_once(',').unwrap();
            assert_ne!(time, format!("{}m", LOOKS[0]), "while all is well {name} fires: {got}");
            *fire.entry(name.to_owned()).or_default() += got;
        }
        Alerts(fire)
    }

    /// Each series with a value a minute: the first scrape for as long as all is well, the last one to the end.
    fn inputs(&self) -> BTreeMap<&String, String> {
        let mut inputs: BTreeMap<&String, Vec<&str>> = BTreeMap::new();
        let last = self.scrapes.len() - 1;
        for (n, scrape) in self.scrapes.iter().enumerate() {
            // Those between the first and the last have a minute each.
            let before = if n == 0 { 0 } else { WELL + n - 1 };
            let minutes = if n == 0 {
                WELL
            } else if n == last {
                ALL - before
            } else {
                1
            };
            for (series, value) in scrape {
                let values = inputs.entry(series).or_default();
                values.resize(before, "_");
                values.extend(std::iter::repeat_n(&**value, minutes));
            }
            // As Prometheus does when a target no longer tells it.
            for (series, values) in &mut inputs {
                if !scrape.contains_key(*series) && values.len() == before {
                    values.push("stale");
                }
            }
        }
        inputs.into_iter().map(|(series, values)| (series, values.join(" "))).collect()
    }
}

impl Alerts {
    /// It fires, and what it says leads to the cause: it has these words, and names a line that this log has.
    pub(crate) fn assert_leads(&self, name: &str, words: &[&str], log: &str) {
        let said = self.assert_says(name, words);
        let line = said.split("log=\"").nth(1).and_then(|rest| rest.split('"').next());
        let line = line.unwrap_or_else(|| panic!("{name} names no line of the log: {said}"));
        assert!(log.contains(line), "{name} names {line:?}, which is not in the log:\n{log}");
    }

    /// It fires, and says these words.
    pub(crate) fn assert_says(&self, name: &str, words: &[&str]) -> &str {
        let said =
            self.0.get(name).unwrap_or_else(|| panic!("{name} does not fire, but {:?}", self.0.keys()));
        for word in words {
            assert!(said.contains(word), "{name} does not say {word:?}: {said}");
        }
        assert!(said.contains("page=\"docs/operations.md#alarms-and-what-to-do\""), "{said}");
        said
    }

    pub(crate) fn assert_silent(&self, names: &[&str]) {
        for name in names {
            assert!(!self.0.contains_key(*name), "{name} fires: {}", self.0[*name]);
        }
    }
}

fn up(job: &str, instance: &str) -> String {
    format!("up{{job={job:?},instance={instance:?}}}")
}

/// The series of a scrape with the labels that Prometheus adds.
fn series(text: &str, job: &str, instance: &str) -> Vec<(String, String)> {
    let labels = format!("job={job:?},instance={instance:?}");
    let samples = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let series = match series.strip_suffix('}') {
            Some(series) => format!("{series},{labels}}}"),
            None => format!("{series}{{{labels}}}"),
        };
        (series, value.to_owned())
    });
    samples.chain([(up(job, instance), "1".to_owned())]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_says_that_there_is_no_room() {
    let deployment = deployment_by(&format!("{QUICK}max_vehicles = 1\n"), 1).await;
    let programs = || std::iter::once(&deployment.discovery).chain(&deployment.workers);
    let mut recording = Recording::of(programs()).await;
    for vehicle in ["FIRST", "SECOND"] {
        let mut hand = Hand::new(&deployment, vehicle).await;
        hand.send("on", "").await;
        hand.drive(fleet_worker::clock::now() - 4_000_000, 4).await;
    }
    let discovery = &deployment.discovery;
    eventually("it is said", Duration::from_secs(90), async || {
        discovery.process.logs().contains("vehicles wait for a worker")
    })
    .await;
    recording.scrape(programs()).await;
    let alerts = recording.alerts();
    alerts.assert_leads("FleetNoRoom", &["cell 0 wait for a worker"], &discovery.process.logs());
    alerts.assert_silent(&["FleetSinkAway", "FleetNatsAway", "FleetNatsStoresNothing", "FleetProgramDown"]);
}

/// The server of the tests has no scheduler: its jobs have not run for as long as their tables are there.
#[tokio::test(flavor = "multi_thread")]
async fn an_alert_says_that_jobs_do_not_run() {
    let (nats, timescale) = (NatsServer::start().await.unwrap(), Timescale::start().await.unwrap());
    let folder = tempfile::tempdir().unwrap();
    let command = |subcommand: &str| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_fleet-worker"));
        command.args([subcommand, "--nats-url", &nats.url(), "--database-url", &timescale.url()]);
        command
    };
    let setup = command("setup").output().await.unwrap();
    assert!(setup.status.success(), "{setup:?}");
    let well = Program::start(command("discover"), folder.path().join("well.log")).await.unwrap();
    let mut recording = Recording::of([&well]).await;
    let aged = "update fleet_migration set applied_at = now() - interval '3 hours'";
    timescale.client().await.unwrap().batch_execute(aged).await.unwrap();
    let program = Program::start(command("discover"), folder.path().join("ill.log")).await.unwrap();
    eventually("it is seen", Duration::from_secs(60), async || {
        program.metric("fleet_upkeep_jobs_in_trouble").await.is_some_and(|jobs| jobs > 0)
    })
    .await;
    recording.scrape([&well, &program]).await;
    let words = [program.address(), "timescaledb_information.job_errors"];
    recording.alerts().assert_leads("FleetJobsFail", &words, &program.process.logs());
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").canonicalize().unwrap()
}

/// The files for Prometheus, its operator and Grafana are those of the script; promtool takes the rules, the tests of
/// single rules and the compose file's configuration.
#[tokio::test(flavor = "multi_thread")]
async fn rules_are_what_their_script_makes_and_promtool_takes() {
    let promtool = debian_package("prometheus", &["promtool"]).await.unwrap();
    let folder = examples().join("prometheus");
    let promtool = promtool.to_str().unwrap();
    for command in [
        &["python3", "rules.py", "--check"][..],
        &[promtool, "check", "rules", "rules.yaml"],
        &[promtool, "check", "config", "--syntax-only", "prometheus.yaml"],
        &[promtool, "test", "rules", "tests.yaml"],
    ] {
        let output = Command::new(command[0]).args(&command[1..]).current_dir(&folder).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success() && !said.contains("FAILED"), "{command:?}: {said}");
    }
}

/// As recording rules: those are parsed.
#[tokio::test(flavor = "multi_thread")]
async fn prometheus_understands_what_the_dashboard_asks() {
    let promtool = debian_package("prometheus", &["promtool"]).await.unwrap();
    let dashboard = std::fs::read_to_string(examples().join("grafana/dashboards/workers.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let rules: Vec<_> = targets
        .map(|target| {
            target["expr"].as_str().unwrap().replace("$__rate_interval", "1m").replace("$cell", ".*")
        })
        .enumerate()
        .map(|(n, expr)| json!({ "record": format!("panel_{n}"), "expr": expr }))
        .collect();
    assert!(rules.len() > 20, "{} questions", rules.len());
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), json!({ "groups": [{ "name": "x", "rules": rules }] }).to_string()).unwrap();
    let said = Command::new(promtool).args(["check", "rules"]).arg(file.path()).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}

/// All source files below a folder.
fn code(folder: &Path) -> String {
    let mut all = String::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            all += &code(&entry);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            all += &std::fs::read_to_string(&entry).unwrap();
        }
    }
    all
}

#[test]
fn every_alert_is_in_the_handbook_and_names_a_line_that_programs_log() {
    let text = std::fs::read_to_string(examples().join("prometheus/rules.yaml")).unwrap();
    let handbook = std::fs::read_to_string(examples().join("../docs/operations.md")).unwrap();
    let sources =
        ["fleet-core/src", "fleet-worker/src"].map(|folder| code(&examples().join("..").join(folder)));
    let (mut alerts, mut lines) = (0, 0);
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("- alert: ") {
            assert!(handbook.contains(&format!("| `{name}` |")), "{name} is not among the handbook's alarms");
            alerts += 1;
        } else if let Some(logged) = line.strip_prefix("log: ") {
            let logged: String = serde_json::from_str(logged).unwrap();
            assert!(sources.iter().any(|source| source.contains(&logged)), "nobody logs {logged:?}");
            lines += 1;
        }
    }
    assert!(alerts > 15 && lines > 10, "{alerts} alerts, {lines} lines");
    assert_eq!(handbook.lines().filter(|line| line.starts_with("| `Fleet")).count(), alerts);
}
