//! Samples as CSV: `vehicle,signal,ts_ms,value,value2`, and `value3` and so on for signals with more
//! columns.

use std::io::Read;

use csv::StringRecord;
use fleet_core::ids::SignalIndex;
use fleet_core::{Micros, Schema, VehicleId};

use super::Error;

/// A sample and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    /// Its line in the file, the header being 1.
    pub(super) number: u64,
    /// Whose.
    pub(super) vehicle: VehicleId,
    /// Of which signal.
    pub(super) signal: SignalIndex,
    /// Event time.
    pub(super) time: Micros,
    /// One value per column.
    pub(super) values: Vec<f64>,
}

/// The lines of a file.
pub(super) struct Lines<R> {
    schema: Schema,
    rows: csv::StringRecordsIntoIter<R>,
}

impl<R: Read> Lines<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// An unreadable file, or another header.
    pub(super) fn new(schema: &Schema, input: R) -> Result<Self, Error> {
        let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(input);
        let header = reader.headers()?;
        let values = (1..).map(|n| if n == 1 { "value".to_owned() } else { format!("value{n}") });
        let fixed = ["vehicle", "signal", "ts_ms"].map(str::to_owned);
        let wanted = fixed.into_iter().chain(values);
        if header.len() < 4 || header.iter().zip(wanted).any(|(is, must)| is != must) {
            let is = header.iter().collect::<Vec<_>>().join(",");
            return Err(format!("the header {is:?} is not vehicle,signal,ts_ms,value,value2").into());
        }
        Ok(Self { schema: schema.clone(), rows: reader.into_records() })
    }
}

impl<R: Read> Iterator for Lines<R> {
    /// The outer error is the file's; the inner one a line's number and what is wrong with it.
    type Item = Result<Result<Line, (u64, String)>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = match self.rows.next()? {
            Ok(record) => record,
            Err(error) => return Some(unreadable(error)),
        };
        let number = record.position().map_or(0, csv::Position::line);
        Some(Ok(line(&self.schema, number, &record).map_err(|problem| (number, problem))))
    }
}

/// Bytes that are no UTF-8 spoil their line only.
fn unreadable(error: csv::Error) -> Result<Result<Line, (u64, String)>, Error> {
    match error.kind() {
        csv::ErrorKind::Utf8 { pos, err } => {
            Ok(Err((pos.as_ref().map_or(0, csv::Position::line), err.to_string())))
        }
        _ => Err(error.into()),
    }
}

fn line(schema: &Schema, number: u64, record: &StringRecord) -> Result<Line, String> {
    let field = |name: &str, at: usize| record.get(at).ok_or_else(|| format!("{name} is missing"));
    let vehicle = VehicleId::new(field("vehicle", 0)?).map_err(|e| e.to_string())?;
    let name = field("signal", 1)?;
    let signal = schema.find(name).ok_or_else(|| format!("signal {name:?} is not in the schema"))?;
    let text = field("ts_ms", 2)?;
    let time = micros(text).ok_or_else(|| format!("ts_ms {text:?} is no number of milliseconds"))?;
    let columns = &schema.signal(signal).columns;
    let mut values = Vec::with_capacity(columns.len());
    for (c, column) in columns.iter().enumerate() {
        let text = field(&column.name, 3 + c)?;
        values.push(text.parse().map_err(|_| format!("{} {text:?} is no number", column.name))?);
    }
    if let Some(more) = record.iter().skip(3 + columns.len()).find(|text| !text.is_empty()) {
        return Err(format!("{more:?} is one value too many for signal {name:?}"));
    }
    Ok(Line { number, vehicle, signal, time, values })
}

/// Milliseconds with up to three decimals, exactly.
fn micros(text: &str) -> Option<Micros> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let parts = whole.parse::<Micros>().ok()?.checked_mul(1_000)?;
    let fraction: Micros = format!("{fraction:0<3}").parse().ok()?;
    if whole.starts_with('-') { parts.checked_sub(fraction) } else { parts.checked_add(fraction) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_may_have_decimals() {
        assert_eq!(micros("1700000000509"), Some(1_700_000_000_509_000));
        assert_eq!(micros("1.25"), Some(1_250));
        assert_eq!(micros("-0.001"), Some(-1));
        for text in ["", "1e3", "1.0001", "1.-1", "99999999999999999999"] {
            assert_eq!(micros(text), None, "{text}");
        }
    }

    #[test]
    fn a_problem_names_line_field_and_value() {
        let text = "vehicle,signal,ts_ms,value,value2\n\
                    a,speed,5,fast,\na,speed,x,1,\na,rpm,5,1,\na,speed,5,1,2\na.b,speed,5,1,\na,position,5,1\n\
                    a,speed,5,1\n";
        let lines = Lines::new(&Schema::default(), text.as_bytes()).unwrap();
        let lines: Vec<_> = lines.map(|line| line.unwrap()).collect();
        let said =
            ["speed_kmh \"fast\"", "ts_ms \"x\"", "signal \"rpm\"", "\"2\" is one", "a.b", "longitude is"];
        for (i, said) in said.iter().enumerate() {
            let (number, problem) = lines[i].as_ref().unwrap_err();
            assert!(*number == i as u64 + 2 && problem.contains(said), "line {number}: {problem}");
        }
        assert_eq!(lines[6].as_ref().unwrap().values, [1.0]);
        assert!(Lines::new(&Schema::default(), "vehicle,ts\n".as_bytes()).is_err());
    }
}
