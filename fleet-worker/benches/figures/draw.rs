//! Tables and plots of what was measured.

use serde_json::Value;

use crate::figures::Figures;
use crate::fleet::PARTS;
use crate::plot::{Group, Lines, bars, lines, number, thousands};

/// Writes the plots, prints the tables, and puts them into the folder's `benchmarks.md` if there is one: between
/// `<!-- receive -->` and `<!-- end -->`, and likewise those of the other parts.
pub(crate) fn draw(figures: &Figures) {
    let page = figures.folder().join("benchmarks.md");
    let mut text = std::fs::read_to_string(&page).ok();
    let parts: [(&str, Table, Plot); 3] = [
        ("receive", receive_table, receive_plot),
        ("fleet", fleet_table, fleet_plot),
        ("comparison", comparison_table, comparison_plot),
    ];
    for (part, table, plot) in parts {
        let rows = figures.rows(part);
        if rows.is_empty() {
            continue;
        }
        let table = table(rows) + &conditions(rows);
        println!("{table}");
        std::fs::write(figures.folder().join(format!("benchmarks-{part}.svg")), plot(rows)).unwrap();
        let shown = format!("{table}\n![The same as a plot](benchmarks-{part}.svg)\n");
        text = text.map(|text| replaced(&text, part, &shown));
    }
    if let Some(text) = text {
        std::fs::write(page, text).unwrap();
    }
}

/// What was measured where; and with how much beside it, where that was not little.
fn conditions(rows: &[Value]) -> String {
    let measured = |row: &Value| {
        let of = &row["measured"];
        let word = |field: &str| of[field].as_str().unwrap_or("?").to_owned();
        format!(
            "{}, {} cores of {}, {}, commit {}",
            word("date"),
            of["cores"],
            word("cpu"),
            word("memory"),
            word("commit")
        )
    };
    let mut all: Vec<String> = rows.iter().map(measured).collect();
    all.dedup();
    let mut text = format!("\n{}.", all.join("; "));
    let others = rows.iter().map(|row| figure(row, "/measured/others_cores")).fold(0.0, f64::max);
    if others > QUIET {
        text += &format!(" **Not on a quiet machine:** other programs used up to {} cores.", number(others));
    }
    text + "\n"
}

/// Cores that the system itself takes beside a measurement.
const QUIET: f64 = 0.15;

type Table = fn(&[Value]) -> String;
type Plot = fn(&[Value]) -> String;

fn replaced(text: &str, part: &str, table: &str) -> String {
    let begin = format!("<!-- {part} -->\n");
    let Some((before, rest)) = text.split_once(&begin) else { return text.to_owned() };
    let (_, after) = rest.split_once("<!-- end -->").unwrap();
    format!("{before}{begin}{table}<!-- end -->{after}")
}

fn figure(row: &Value, path: &str) -> f64 {
    row.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

fn shown(row: &Value, path: &str) -> String {
    number(figure(row, path))
}

fn name<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap_or("")
}

fn table(head: &[String], rows: impl Iterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(head) + &line(&vec!["---".to_owned(); head.len()]);
    rows.for_each(|row| text += &line(&row));
    text
}

fn strings<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

/// From the publication of what a row needs to the row. Whole ones have a value of every signal; others wait for one that
/// does not come.
const WAITS: [(&str, &str); 3] = [
    ("p50", "/publish_to_row/p50"),
    ("p99 of whole rows", "/publish_to_whole_row/p99"),
    ("p99 of all", "/publish_to_row/p99"),
];

fn seconds(row: &Value, path: &str) -> String {
    match figure(row, path) {
        wait if wait.is_finite() => format!("{} s", number(wait)),
        _ => "-".to_owned(),
    }
}

/// Whether the table was what the samples give.
fn faults(row: &Value) -> String {
    let count = |field: &str| row["records"][field].as_u64().unwrap_or(0);
    let faults = ["missing", "wrong", "duplicate", "unexpected"].map(|field| (field, count(field)));
    let said: Vec<String> =
        faults.iter().filter(|(_, n)| *n > 0).map(|(what, n)| format!("{n} {what}")).collect();
    if said.is_empty() { "none".to_owned() } else { said.join(", ") }
}

fn receive_table(rows: &[Value]) -> String {
    let head = strings([
        "messages/s",
        "received by",
        "µs a message",
        "to the reader",
        "received",
        "on the way, p50",
        "p99",
        "NATS, µs a message",
    ]);
    let cells = |row: &Value| {
        let wait = |path: &str| match figure(row, path) {
            wait if wait.is_finite() => format!("{} ms", number(wait)),
            _ => "-".to_owned(),
        };
        vec![
            thousands(figure(row, "/rate_published")),
            name(row, "way").to_owned(),
            shown(row, "/cpu_us"),
            shown(row, "/to_reader"),
            format!("{:.1} %", figure(row, "/received") * 100.0),
            wait("/wait_p50_ms"),
            wait("/wait_p99_ms"),
            shown(row, "/server_us"),
        ]
    };
    table(&head, rows.iter().map(cells))
}

/// Rows that have the same heading follow each other.
fn grouped(
    rows: &[Value],
    heading: fn(&Value) -> String,
    unit: &'static str,
    bar: (&str, &str),
) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for row in rows {
        let (heading, bar) = (heading(row), (name(row, bar.0).to_owned(), figure(row, bar.1)));
        match groups.last_mut() {
            Some(last) if last.heading == heading => last.bars.push(bar),
            _ => groups.push(Group { heading, unit, bars: vec![bar] }),
        }
    }
    groups
}

fn receive_plot(rows: &[Value]) -> String {
    let heading = |row: &Value| {
        let (rate, vehicles) = (thousands(figure(row, "/rate")), thousands(figure(row, "/vehicles")));
        format!("CPU time of the receiving thread, {rate} messages/s of {vehicles} vehicles")
    };
    bars(&grouped(rows, heading, "µs a message", ("way", "/cpu_us")))
}

fn fleet_table(rows: &[Value]) -> String {
    let mut head = vec!["a steady fleet of".to_owned()];
    head.extend(rows.iter().map(|row| thousands(figure(row, "/vehicles"))));
    let line = |name: &str, cell: &dyn Fn(&Value) -> String| {
        std::iter::once(name.to_owned()).chain(rows.iter().map(cell)).collect::<Vec<_>>()
    };
    let mut lines = vec![
        line("cells", &|row| row["cells"].to_string()),
        line("messages/s", &|row| thousands(figure(row, "/rate"))),
        line("steady for", &|row| format!("{:.0} s", figure(row, "/steady_s"))),
    ];
    for part in PARTS {
        lines.push(line(&format!("{part}, µs a message"), &|row| shown(row, &format!("/cpu_us/{part}"))));
    }
    let memory = |row: &Value, part: &str| number(figure(row, &format!("/memory_a_vehicle/{part}")) / 1024.0);
    lines.push(line("worker, KiB a vehicle", &|row| memory(row, "workers")));
    lines.push(line("NATS, KiB a vehicle", &|row| memory(row, "NATS")));
    lines.push(line("rows a message", &|row| shown(row, "/rows_a_message")));
    for (name, path) in WAITS {
        lines.push(line(&format!("publish to visible row, {name}"), &|row| seconds(row, path)));
    }
    lines.push(line("records", &|row| thousands(figure(row, "/records/stored"))));
    lines.push(line("missing, wrong, twice", &faults));
    table(&head, lines.into_iter())
}

fn fleet_plot(rows: &[Value]) -> String {
    let series = |names: &[(&str, String)], scale: f64| -> Lines {
        let points = |path: &str| {
            rows.iter().map(|row| (figure(row, "/vehicles"), figure(row, path) * scale)).collect::<Vec<_>>()
        };
        names.iter().map(|(name, path)| ((*name).to_owned(), points(path))).collect()
    };
    let cpu = PARTS.map(|part| (part, format!("/cpu_us/{part}")));
    let memory = [("NATS", "/memory_a_vehicle/NATS"), ("worker", "/memory_a_vehicle/workers")];
    let memory = memory.map(|(name, path)| (name, path.to_owned()));
    let wait = WAITS.map(|(name, path)| (name, path.to_owned()));
    let panels = [
        ("CPU time, µs a message".to_owned(), series(&cpu, 1.0)),
        ("memory, KiB a vehicle".to_owned(), series(&memory, 1.0 / 1024.0)),
        ("publish to visible row, s".to_owned(), series(&wait, 1.0)),
    ];
    lines(&panels, "vehicles")
}

fn comparison_table(rows: &[Value]) -> String {
    let head = strings([
        "vehicles",
        "messages/s",
        "records by",
        "cores",
        "µs a message",
        "NATS",
        "PostgreSQL",
        "peak memory",
        "publish to visible row, p50",
        "p99 of whole rows",
        "p99 of all",
        "records",
        "missing, wrong, twice",
    ]);
    let cells = |row: &Value| {
        vec![
            thousands(figure(row, "/vehicles")),
            thousands(figure(row, "/rate")),
            name(row, "consumer").to_owned(),
            shown(row, "/cores"),
            shown(row, "/cpu_us"),
            shown(row, "/nats_us"),
            shown(row, "/postgres_us"),
            format!("{:.0} MiB", figure(row, "/peak_memory") / f64::from(1 << 20)),
            seconds(row, WAITS[0].1),
            seconds(row, WAITS[1].1),
            seconds(row, WAITS[2].1),
            thousands(figure(row, "/records/stored")),
            faults(row),
        ]
    };
    table(&head, rows.iter().map(cells))
}

fn comparison_plot(rows: &[Value]) -> String {
    let cpu = |row: &Value| {
        format!("CPU time of what makes the records, {} vehicles", thousands(figure(row, "/vehicles")))
    };
    let wait = |row: &Value| {
        format!("publish to visible row, p50, {} vehicles", thousands(figure(row, "/vehicles")))
    };
    let mut groups = grouped(rows, cpu, "µs a message", ("consumer", "/cpu_us"));
    groups.extend(grouped(rows, wait, "s", ("consumer", "/publish_to_row/p50")));
    bars(&groups)
}
