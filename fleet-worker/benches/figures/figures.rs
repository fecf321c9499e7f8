//! The file of figures: what was measured, on what machine and when. Tables and plots are made of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

/// `benchmarks.json` in a folder.
pub(crate) struct Figures {
    folder: PathBuf,
    all: Value,
}

impl Figures {
    /// What the folder has, or nothing yet.
    pub(crate) fn open(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let text = std::fs::read_to_string(folder.join(FILE));
        let all = text.map_or_else(|_| json!({}), |text| serde_json::from_str(&text).unwrap());
        Self { folder: folder.to_owned(), all }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The rows of a part.
    pub(crate) fn rows(&self, part: &str) -> &[Value] {
        self.all[part].as_array().map_or(&[], Vec::as_slice)
    }

    /// Puts a row into a part, in place of one that is the same by these keys, and writes the file.
    pub(crate) fn put(&mut self, part: &str, keys: &[&str], mut row: Value) {
        row["measured"] = measured();
        let mut rows = self.rows(part).to_vec();
        rows.retain(|old| keys.iter().any(|key| old[key] != row[key]));
        rows.push(row);
        let number = |row: &Value| keys.iter().map(|key| row[key].as_u64().unwrap_or(0)).collect::<Vec<_>>();
        rows.sort_by_key(number);
        self.all[part] = Value::Array(rows);
        std::fs::write(self.folder.join(FILE), format!("{:#}\n", self.all)).unwrap();
    }
}

const FILE: &str = "benchmarks.json";

/// When, of which commit and on what.
fn measured() -> Value {
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
    })
}
