//! Two kinds of plots as SVG: horizontal bars, and lines over a logarithmic axis.

use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const COLOURS: [&str; 5] = ["#1b6ca8", "#d95f02", "#4d9221", "#7b3294", "#888888"];

fn svg(height: f64, body: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

fn text(x: f64, y: f64, anchor: &str, colour: &str, what: &str) -> String {
    let what = what.replace('&', "&amp;").replace('<', "&lt;");
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{what}</text>\n")
}

/// As many digits as say something.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "-".to_owned(),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Bars under a heading: a name and a value each.
pub(crate) struct Group {
    pub heading: String,
    pub unit: &'static str,
    pub bars: Vec<(String, f64)>,
}

/// Groups below each other, those of one unit on one scale.
pub(crate) fn bars(groups: &[Group]) -> String {
    const LEFT: f64 = 210.0;
    const RIGHT: f64 = 130.0;
    let most = |unit: &str| {
        let bars = groups.iter().filter(|group| group.unit == unit).flat_map(|group| &group.bars);
        bars.map(|(_, value)| *value).filter(|value| value.is_finite()).fold(f64::MIN_POSITIVE, f64::max)
    };
    let (mut body, mut y) = (String::new(), 8.0);
    for Group { heading, unit, bars } in groups {
        let most = most(unit);
        y += 16.0;
        body += &text(8.0, y, "start", "#222", heading);
        for ((name, value), colour) in bars.iter().zip(COLOURS.iter().cycle()) {
            let length = if value.is_finite() { value / most * (WIDTH - LEFT - RIGHT) } else { 0.0 };
            body += &text(LEFT - 8.0, y + 19.0, "end", "#222", name);
            let top = y + 8.0;
            let _ = writeln!(
                body,
                "<rect x=\"{LEFT}\" y=\"{top:.1}\" width=\"{length:.1}\" height=\"15\" fill=\"{colour}\"/>"
            );
            let said = format!("{} {unit}", number(*value));
            body += &text(LEFT + length + 6.0, y + 19.0, "start", "#222", &said);
            y += 19.0;
        }
        y += 10.0;
    }
    svg(y + 6.0, &body)
}

/// Lines of one panel: a name, and values by what stands on the axis.
pub(crate) type Lines = Vec<(String, Vec<(f64, f64)>)>;

/// Panels below each other, all over the same logarithmic axis; each has a logarithmic scale of its own.
pub(crate) fn lines(panels: &[(String, Lines)], axis: &str) -> String {
    const PANEL: f64 = 210.0;
    const LEFT: f64 = 60.0;
    const RIGHT: f64 = 150.0;
    let mut ticks: Vec<f64> = panels
        .iter()
        .flat_map(|(_, lines)| lines)
        .flat_map(|(_, points)| points)
        .map(|point| point.0)
        .collect();
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    let (Some(&least), Some(&most)) = (ticks.first(), ticks.last()) else { return svg(20.0, "") };
    let across = |x: f64| {
        let share = (x / least).ln() / (most / least).ln().max(1e-9);
        LEFT + share * (WIDTH - LEFT - RIGHT)
    };
    let mut body = String::new();
    for (panel, (heading, lines)) in panels.iter().enumerate() {
        let top = panel as f64 * PANEL + 30.0;
        let bottom = top + PANEL - 60.0;
        let values = || lines.iter().flat_map(|(_, points)| points).map(|p| p.1).filter(|v| *v > 0.0);
        let low = 10_f64.powf(values().fold(f64::MAX, f64::min).log10().floor());
        let high = 10_f64.powf(values().fold(f64::MIN_POSITIVE, f64::max).log10().ceil()).max(low * 10.0);
        let up = |y: f64| bottom - (y / low).log10() / (high / low).log10() * (bottom - top);
        body += &text(8.0, top - 12.0, "start", "#222", heading);
        let decades = (high / low).log10().round() as i32;
        for decade in 0..=decades {
            let value = low * 10_f64.powi(decade);
            let (y, right) = (up(value), WIDTH - RIGHT);
            let _ = writeln!(body, "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#ddd\"/>");
            let label = if value < 1.0 { format!("{value}") } else { format!("{value:.0}") };
            body += &text(LEFT - 6.0, y + 4.0, "end", "#666", &label);
        }
        for tick in &ticks {
            body += &text(across(*tick), bottom + 16.0, "middle", "#666", &thousands(*tick));
        }
        let mut ends = Vec::new();
        for ((name, points), colour) in lines.iter().zip(COLOURS.iter().cycle()) {
            let points: Vec<_> =
                points.iter().filter(|p| p.1 > 0.0).map(|p| (across(p.0), up(p.1), p.1)).collect();
            let path: Vec<String> = points.iter().map(|(x, y, _)| format!("{x:.1},{y:.1}")).collect();
            let _ = writeln!(
                body,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
                path.join(" ")
            );
            for (x, y, _) in &points {
                let _ = writeln!(body, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
            }
            if let Some((x, y, value)) = points.last() {
                ends.push((*x, *y, format!("{name} {}", number(*value)), *colour));
            }
        }
        // Names stand beside the last points, one below the other.
        ends.sort_by(|a, b| a.1.total_cmp(&b.1));
        let mut free = f64::MIN;
        for (x, y, said, colour) in ends {
            free = (y + 4.0).max(free + 14.0);
            body += &text(x + 8.0, free, "start", colour, &said);
        }
    }
    let height = panels.len() as f64 * PANEL + 14.0;
    body += &text((LEFT + WIDTH - RIGHT) / 2.0, height - 6.0, "middle", "#222", axis);
    svg(height, &body)
}

/// A whole number with commas.
pub(crate) fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut shown = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}
