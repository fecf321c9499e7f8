//! File, environment and command line laid over each other, and the problems found while reading.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fleet_core::schema::{Problem, parse_size};
use fleet_core::time::{display_duration, micros};
use toml::{Table, Value};

use super::keys::{self, KEYS, Key, Kind};
use super::secret::Secret;

/// Where a value comes from; a later one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layer {
    Default,
    File,
    Environment,
    CommandLine,
}

/// The scalar values as text by path, and all that is wrong so far.
#[derive(Debug, Default)]
pub(super) struct Values {
    set: BTreeMap<&'static str, (Layer, String)>,
    pub(super) problems: Vec<Problem>,
}

impl Values {
    /// Notes a problem, with the value's origin where that is not the file.
    pub(super) fn say(&mut self, path: &str, message: impl Into<String>) {
        let mut message = message.into();
        match (self.layer(path), keys::find(path)) {
            (Layer::Environment, Some(key)) => message.push_str(&format!(" (from {})", key.variable())),
            (Layer::CommandLine, _) => message.push_str(" (from the command line)"),
            _ => {}
        }
        self.problems.push(Problem { path: path.to_owned(), message });
    }

    /// Takes the scalars of a file; `prefix` is empty or ends in a dot.
    pub(super) fn take_file(&mut self, table: Table, prefix: &str) {
        for (name, value) in table {
            // TOML allows an empty name; shown like this it can be found.
            let name = if name.is_empty() { "\"\"".to_owned() } else { name.escape_debug().to_string() };
            let path = format!("{prefix}{name}");
            match (keys::find(&path), value) {
                (Some(key), value) => self.take_value(key, &value),
                (None, Value::Table(table)) if keys::is_table(&path) => {
                    self.take_file(table, &format!("{path}."));
                }
                (None, _) if keys::is_table(&path) => self.say(&path, "must be a table"),
                // Its value is not shown: it may be a misspelt password.
                (None, _) => self.say(&path, "is no key of the configuration"),
            }
        }
    }

    fn take_value(&mut self, key: &'static Key, value: &Value) {
        let text = match (key.kind, value) {
            (Kind::List, Value::Array(items)) => match joined(items) {
                Ok(text) => text,
                Err(problem) => return self.say(key.path, problem),
            },
            (Kind::List, other) => {
                return self.say(key.path, format!("{} must be a list such as [\"0\", \"1\"]", show(other)));
            }
            (Kind::Whole | Kind::Size, Value::Integer(number)) => number.to_string(),
            (Kind::Whole, _) => return self.say(key.path, format!("{} is not a whole number", show(value))),
            (Kind::Bool, Value::Boolean(on)) => on.to_string(),
            (Kind::Bool, _) => {
                return self.say(key.path, format!("{} is neither true nor false", show(value)));
            }
            (_, Value::String(text)) => text.clone(),
            (Kind::Secret | Kind::Url | Kind::Urls, _) => {
                return self.say(key.path, "must be text in quotes");
            }
            (_, other) => return self.say(key.path, format!("{} must be text in quotes", show(other))),
        };
        self.set.insert(key.path, (Layer::File, text));
    }

    /// Takes the variables that are meant for us.
    pub(super) fn take_environment(&mut self, env: impl Iterator<Item = (String, String)>) {
        for (name, value) in env {
            let Some(rest) = name.strip_prefix("FLEET_") else { continue };
            match KEYS.iter().find(|key| key.variable() == name) {
                Some(key) => drop(self.set.insert(key.path, (Layer::Environment, value))),
                // Kubernetes sets FLEET_WORKER_PORT and more for a service named fleet-worker.
                None if !rest.contains("__") => {}
                None => self.say(&name, "is no key of the configuration"),
            }
        }
    }

    /// Takes path and value pairs of the command line.
    pub(super) fn take_overrides(&mut self, overrides: &[(String, String)]) {
        for (path, value) in overrides {
            match keys::find(path) {
                Some(key) => drop(self.set.insert(key.path, (Layer::CommandLine, value.clone()))),
                None => self.say(path, "is no key of the configuration"),
            }
        }
    }

    /// Which layer gives a key's value; an empty text takes an optional key back.
    pub(super) fn layer(&self, path: &str) -> Layer {
        match self.set.get(path) {
            Some((layer, _)) => *layer,
            None => Layer::Default,
        }
    }

    /// Lets what another key says be the default of this one.
    pub(super) fn set_default(&mut self, path: &'static str, text: String) {
        self.set.insert(path, (Layer::Default, text));
    }

    /// Takes back what the layers say of a key: another one replaces it.
    pub(super) fn unset(&mut self, path: &str) {
        self.set.remove(path);
    }

    /// The text of a key, or its default.
    pub(super) fn text(&self, path: &str) -> &str {
        match self.set.get(path) {
            Some((_, text)) => text,
            None => keys::find(path).and_then(|key| key.default).unwrap_or_default(),
        }
    }

    /// The text of a key that is neither absent nor empty.
    pub(super) fn optional(&self, path: &str) -> Option<String> {
        Some(self.text(path)).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// A whole number within `range`; its smallest where there is a problem.
    pub(super) fn whole(&mut self, path: &str, range: RangeInclusive<u64>) -> u64 {
        let text = self.text(path).to_owned();
        match text.trim().parse::<u64>() {
            Ok(number) if range.contains(&number) => return number,
            Ok(_) => self.say(path, format!("{text} is not between {} and {}", range.start(), range.end())),
            Err(_) => self.say(path, format!("{text:?} is not a whole number")),
        }
        *range.start()
    }

    /// Yes or no; no where there is a problem.
    pub(super) fn flag(&mut self, path: &str) -> bool {
        let text = self.text(path).trim().to_owned();
        text.parse().unwrap_or_else(|_| {
            self.say(path, format!("{text:?} is neither true nor false"));
            false
        })
    }

    /// As [`Values::whole`], for what is counted in memory.
    pub(super) fn count(&mut self, path: &str, range: RangeInclusive<u64>) -> usize {
        usize::try_from(self.whole(path, range)).unwrap_or(usize::MAX)
    }

    /// A size of at least `least` bytes.
    pub(super) fn size(&mut self, path: &str, least: u64) -> i64 {
        let text = self.text(path).to_owned();
        match parse_size(&text).map(|size| (size, i64::try_from(size))) {
            Ok((size, Ok(bytes))) if size >= least => return bytes,
            Ok((_, Ok(_))) => self.say(path, format!("{text:?} is less than {least} bytes")),
            Ok((_, Err(_))) => self.say(path, format!("{text:?} is too large")),
            Err(rule) => self.say(path, format!("{text:?} {rule}")),
        }
        0
    }

    /// A duration within a range of milliseconds; the range's smallest where there is a problem.
    pub(super) fn duration(&mut self, path: &str, millis: RangeInclusive<u64>) -> Duration {
        let text = self.text(path).to_owned();
        let (least, most) = (Duration::from_millis(*millis.start()), Duration::from_millis(*millis.end()));
        match fleet_core::time::parse_duration(&text) {
            Ok(found) => {
                let duration = Duration::from_micros(found.unsigned_abs());
                if (least..=most).contains(&duration) {
                    return duration;
                }
                let bounds = [least, most].map(|bound| display_duration(micros(bound)));
                self.say(path, format!("{text:?} is not between {} and {}", bounds[0], bounds[1]));
            }
            Err(e) => self.say(path, format!("{text:?} is not a duration such as \"30s\": {e}")),
        }
        least
    }

    /// A path whose file can be read.
    pub(super) fn file(&mut self, path: &str) -> Option<PathBuf> {
        let file = PathBuf::from(self.optional(path)?);
        if let Err(e) = std::fs::File::open(&file)
            .and_then(|f| f.metadata())
            .and_then(|m| if m.is_dir() { Err(std::io::ErrorKind::IsADirectory.into()) } else { Ok(()) })
        {
            self.say(path, format!("{} can't be read: {e}", file.display()));
        }
        Some(file)
    }

    /// The secret in the file that a key names, without the line's end that editors add.
    pub(super) fn secret_file(&mut self, path: &str) -> Option<Secret> {
        let file = self.optional(path)?;
        Secret::read(Path::new(&file)).map_err(|problem| self.say(path, problem)).ok()
    }

    /// The one of several alternatives that is set. The later layer wins, so that a variable can
    /// replace what a file says; two in the same layer are a problem.
    pub(super) fn either(&mut self, paths: &[&'static str]) -> Option<&'static str> {
        let set: Vec<_> = paths.iter().copied().filter(|path| self.optional(path).is_some()).collect();
        let top = set.iter().map(|path| self.layer(path)).max()?;
        let mut best = set.into_iter().filter(|path| self.layer(path) == top);
        let first = best.next()?;
        if let Some(second) = best.next() {
            self.say(first, format!("only one of {first} and {second} can be set"));
        }
        Some(first)
    }
}

/// The items of a list as a variable has them.
fn joined(items: &[Value]) -> Result<String, String> {
    if items.is_empty() {
        return Err("is an empty list".to_owned());
    }
    let text = |item: &Value| match item {
        Value::String(text) if !text.is_empty() && !text.contains(',') => Ok(text.clone()),
        Value::String(text) => Err(format!("{text:?} must have a character and no comma")),
        other => Err(format!("{} must be text in quotes", show(other))),
    };
    items.iter().map(text).collect::<Result<Vec<_>, _>>().map(|texts| texts.join(","))
}

fn show(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(value) => value.to_string(),
        other => format!("this {}", other.type_str()),
    }
}
