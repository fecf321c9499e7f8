//! A few records as people read them.

use fleet_core::error::{Error, Result};
use fleet_core::schema::{Column, ColumnType, Schema};
use fleet_core::time::display;
use tokio_postgres::{Client, Row};

/// The newest records, whole ones first, as the lines of a table.
pub(super) async fn records(client: &Client, schema: &Schema) -> Result<Vec<String>> {
    let names: Vec<String> = schema.columns().map(|column| format!("t.\"{}\"", column.name)).collect();
    let values: Vec<String> = names.iter().map(|name| format!("{name}::float8")).collect();
    let query = format!(
        "select (extract(epoch from t.ts) * 1000000)::bigint, v.vin, {} from telemetry t \
         join vehicle v using (vehicle_id) order by num_nulls({}), t.ts desc, v.vin limit 4",
        values.join(", "),
        names.join(", ")
    );
    let rows =
        client.query(&query, &[]).await.map_err(|e| Error::unavailable("a few records").caused_by(e))?;
    let cells = rows.iter().map(|row| cells(row, schema)).collect::<Result<Vec<_>, _>>();
    Ok(table(header(schema), cells.map_err(|e| Error::internal("a record").caused_by(e))?))
}

fn header(schema: &Schema) -> Vec<String> {
    let columns = schema.columns().map(|column| match column.unit.as_str() {
        "" => column.name.clone(),
        unit => format!("{} ({unit})", column.name),
    });
    ["time".to_owned(), "vehicle".to_owned()].into_iter().chain(columns).collect()
}

fn cells(row: &Row, schema: &Schema) -> Result<Vec<String>, tokio_postgres::Error> {
    let mut cells = vec![display(row.try_get(0)?), row.try_get(1)?];
    for (number, column) in schema.columns().enumerate() {
        cells.push(shown(column, row.try_get(2 + number)?));
    }
    Ok(cells)
}

fn shown(column: &Column, value: Option<f64>) -> String {
    match (value, column.kind) {
        (None, _) => "-".to_owned(),
        // Degrees: a tenth of a metre.
        (Some(value), ColumnType::Double) => format!("{value:.6}"),
        (Some(value), ColumnType::Real) => format!("{value:.2}"),
    }
}

/// Time and vehicle to the left, numbers to the right.
fn table(header: Vec<String>, rows: Vec<Vec<String>>) -> Vec<String> {
    let lines: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    let columns = lines[0].len();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let padded = |(number, (cell, width)): (usize, (&String, &usize))| match number {
        0 | 1 => format!("{cell:<width$}"),
        _ => format!("{cell:>width$}"),
    };
    lines
        .iter()
        .map(|line| line.iter().zip(&widths).enumerate().map(padded).collect::<Vec<_>>().join("  "))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_line_and_its_columns_stand_below_each_other() {
        let schema = Schema::default();
        let columns: Vec<&Column> = schema.columns().collect();
        let row = |time: &str, values: [Option<f64>; 5]| {
            let values = columns.iter().zip(values).map(|(column, value)| shown(column, value));
            [time.to_owned(), "SIM00001".to_owned()].into_iter().chain(values).collect::<Vec<_>>()
        };
        let rows = vec![
            row("2026-06-01T08:00:05Z", [Some(48.137_154), Some(-11.5), Some(50.0), Some(9.999), Some(70.0)]),
            row("2026-06-01T08:00:00Z", [Some(8.0), Some(111.5), Some(150.0), None, Some(7.0)]),
        ];
        let wanted = "\
time                  vehicle   latitude (deg)  longitude (deg)  speed_kmh (km/h)  fuel_level_pct (%)  brake_fluid_temp_c (Cel)
2026-06-01T08:00:05Z  SIM00001       48.137154       -11.500000             50.00               10.00                     70.00
2026-06-01T08:00:00Z  SIM00001        8.000000       111.500000            150.00                   -                      7.00";
        assert_eq!(table(header(&schema), rows).join("\n"), wanted);
    }
}
