//! The effective configuration as TOML, without secrets.

use std::fmt::Write as _;

use fleet_core::schema::{RecordsConfig, SignalConfig};

use super::keys::{KEYS, Kind};
use super::secret::Url;
use super::values::Values;

/// Every key that has a value, in the order of the tables; signals come before the first table.
pub(super) fn render(values: &Values, records: &RecordsConfig) -> String {
    let mut text = String::new();
    let mut table = "";
    let mut signals = Some(&records.signal);
    for key in KEYS {
        let (section, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
        let value = values.text(key.path);
        if value.is_empty() && key.default.is_none() {
            continue;
        }
        if section != table {
            for signal in signals.take().into_iter().flatten() {
                render_signal(&mut text, signal);
            }
            table = section;
            let _ = write!(text, "\n[{section}]\n");
        }
        let _ = match key.kind {
            Kind::Whole | Kind::Bool => writeln!(text, "{name} = {}", value.trim()),
            Kind::List => {
                let items: Vec<_> = value.split(',').map(|item| quoted(item.trim())).collect();
                writeln!(text, "{name} = [{}]", items.join(", "))
            }
            Kind::Secret => writeln!(text, "{name} = \"***\""),
            Kind::Url => writeln!(text, "{name} = {}", quoted(&Url::new(value).to_string())),
            Kind::Urls => writeln!(text, "{name} = {}", quoted(&Url::list(value).to_string())),
            Kind::Text | Kind::Duration | Kind::Size => writeln!(text, "{name} = {}", quoted(value)),
        };
    }
    text
}

fn render_signal(text: &mut String, signal: &SignalConfig) {
    let _ = write!(text, "\n[[signal]]\nname = {}\ncolumns = [\n", quoted(&signal.name));
    for column in &signal.columns {
        let (name, unit) = (quoted(&column.name), quoted(&column.unit));
        let _ =
            write!(text, "  {{ name = {name}, unit = {unit}, min = {:?}, max = {:?}", column.min, column.max);
        if column.wraps {
            text.push_str(", wraps = true");
        }
        if let Some(kind) = &column.kind {
            let _ = write!(text, ", type = {}", quoted(kind));
        }
        if let Some(wire) = &column.wire {
            let integer = quoted(&wire.integer);
            let _ = write!(text, ", wire = {{ integer = {integer}, scale = {:?} }}", wire.scale);
        }
        text.push_str(" },\n");
    }
    let (interpolation, max_gap) = (quoted(&signal.interpolation), quoted(&signal.max_gap));
    let _ = write!(text, "]\ninterpolation = {interpolation}\nmax_gap = {max_gap}\n");
    let optional = [("sampling_period", &signal.sampling_period), ("signal_timeout", &signal.signal_timeout)];
    for (key, value) in optional.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?))) {
        let _ = writeln!(text, "{key} = {}", quoted(value));
    }
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
