//! The file of figures: what was measured, on what machine and when. Tables and plots are made of it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use fleet_worker::local::Usage;
use serde_json::{Value, json};

/// `benchmarks.json` in a folder.
pub(crate) struct Figures {
    folder: PathBuf,
    all: Value,
    since: Busy,
}

impl Figures {
    /// What the folder has, or nothing yet.
    pub(crate) fn open(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let text = std::fs::read_to_string(folder.join(FILE));
        let all = text.map_or_else(|_| json!({}), |text| serde_json::from_str(&text).unwrap());
        Self { folder: folder.to_owned(), all, since: Busy::now() }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The rows of a part.
    pub(crate) fn rows(&self, part: &str) -> &[Value] {
        self.all[part].as_array().map_or(&[], Vec::as_slice)
    }

    /// Puts rows that were measured together into a part, in place of those that are the same by these keys, and writes
    /// the file.
    pub(crate) fn put(&mut self, part: &str, keys: &[&str], fresh: Vec<Value>) {
        let before = std::mem::replace(&mut self.since, Busy::now());
        let measured = measured(self.since.others_since(&before));
        let mut rows = self.rows(part).to_vec();
        for mut row in fresh {
            row["measured"] = measured.clone();
            rows.retain(|old| keys.iter().any(|key| old[key] != row[key]));
            rows.push(row);
        }
        let number = |row: &Value| keys.iter().map(|key| row[key].as_u64().unwrap_or(0)).collect::<Vec<_>>();
        rows.sort_by_key(number);
        self.all[part] = Value::Array(rows);
        std::fs::write(self.folder.join(FILE), format!("{:#}\n", self.all)).unwrap();
    }
}

/// CPU time of the whole machine, and of this program with what it has started and seen end.
struct Busy {
    at: Instant,
    all: f64,
    ours: f64,
}

impl Busy {
    fn now() -> Self {
        let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let fields = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
        let ticks: Vec<f64> = fields.filter_map(|field| field.parse().ok()).collect();
        // User, nice, system, irq and softirq of proc_stat(5); the others are idle or not ours to use.
        let all = [0, 1, 2, 5, 6].iter().filter_map(|field| ticks.get(*field)).sum::<f64>();
        let all = all / rustix::param::clock_ticks_per_second() as f64;
        let ours = Usage::own().unwrap_or_default().cpu.as_secs_f64();
        Self { at: Instant::now(), all, ours }
    }

    /// Cores that others have used since then.
    fn others_since(&self, before: &Self) -> f64 {
        let busy = (self.all - before.all) - (self.ours - before.ours);
        (busy / (self.at - before.at).as_secs_f64()).max(0.0)
    }
}

const FILE: &str = "benchmarks.json";

/// When, of which commit and on what, beside how much else.
fn measured(others: f64) -> Value {
    let said = |command: &str, args: &[&str]| {
        let output = Command::new(command).args(args).output();
        output.map_or_else(|_| String::new(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
    };
    let field = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).map(str::to_owned);
        line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()))
    };
    json!({
        "date": said("date", &["-u", "+%Y-%m-%d"]),
        "commit": said("git", &["rev-parse", "--short", "HEAD"]),
        "cpu": field("/proc/cpuinfo", "model name"),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "memory": field("/proc/meminfo", "MemTotal"),
        "kernel": said("uname", &["-r"]),
        "others_cores": others,
    })
}
