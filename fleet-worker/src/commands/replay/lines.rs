//! Dead letters as lines of JSON, for an operator to read, mend and give back.

use bytes::Bytes;
use data_encoding::HEXLOWER_PERMISSIVE as HEX;
use fleet_core::message::Refusal;
use fleet_core::nats::StoredLetter;
use fleet_core::time::{display, parse};
use fleet_core::{Micros, Schema, VehicleId};
use serde_json::{Map, Value, json};

/// A letter on its way to be replayed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Letter {
    /// Where it lies in the stream, if it is to be removed from there, and since when.
    pub place: Option<u64>,
    pub stored: Micros,
    pub vehicle: VehicleId,
    pub signal: String,
    /// The message, or the row as JSON if the signal is `row`.
    pub payload: Bytes,
    /// How many bytes it had, if this is only its beginning.
    pub cut_from: Option<u64>,
}

impl From<StoredLetter> for Letter {
    fn from(letter: StoredLetter) -> Self {
        let StoredLetter { sequence, stored, vehicle, signal, payload, cut_from, .. } = letter;
        Self { place: Some(sequence), stored, vehicle, signal, payload, cut_from }
    }
}

impl Letter {
    pub(super) fn is_row(&self) -> bool {
        self.signal == ROW
    }

    /// Whether it is there as a whole.
    ///
    /// # Errors
    /// How much of it is not.
    pub(super) fn whole(&self) -> Result<(), String> {
        let there = self.payload.len();
        self.cut_from.map_or(Ok(()), |all| {
            Err(format!("only the first {there} of its {all} bytes are kept, which can't be used"))
        })
    }
}

/// The length of a payload of which only the beginning is there; who has the whole takes this field away.
const CUT_FROM: &str = "cut_from";

/// The signal of rows.
pub(super) const ROW: &str = "row";

/// One line for people.
pub(super) fn for_people(letter: &StoredLetter) -> String {
    let StoredLetter { sequence, stored, vehicle, signal, reason, detail, payload, cut_from } = letter;
    let cut = cut_from.map_or_else(String::new, |all| format!(" (cut to {} of {all} bytes)", payload.len()));
    format!("{sequence}  {}  {vehicle}  {signal}  {reason}: {detail}{cut}", display(*stored))
}

/// One line that [`read`] reads. A payload that is no text comes as hexadecimal digits.
pub(super) fn for_programs(letter: &StoredLetter) -> String {
    let StoredLetter { sequence, stored, vehicle, signal, reason, detail, payload, cut_from } = letter;
    let mut line = json!({
        "sequence": sequence, "stored": display(*stored), "vehicle": vehicle.as_str(), "signal": signal,
        "reason": reason, "detail": detail,
    });
    let row = || serde_json::from_slice::<Value>(payload).ok().filter(|_| *reason == Refusal::Row.as_str());
    let text = || std::str::from_utf8(payload).ok().filter(|text| !text.contains(char::is_control));
    let (name, value) = match (row(), text()) {
        (Some(row), _) => (ROW, row),
        (None, Some(text)) => ("payload", text.into()),
        (None, None) => ("payload_hex", HEX.encode(payload).into()),
    };
    if let Some(fields) = line.as_object_mut() {
        fields.insert(name.to_owned(), value);
        fields.extend(cut_from.map(|all| (CUT_FROM.to_owned(), all.into())));
    }
    line.to_string()
}

/// Reads a line. Without `sequence` and `stored` the letter counts as one that came `now` and is in no
/// stream.
///
/// # Errors
/// The field and its value.
pub(super) fn read(line: &str, now: Micros) -> Result<Letter, String> {
    const FIELDS: [&str; 10] = [
        "sequence",
        "stored",
        "vehicle",
        "signal",
        "reason",
        "detail",
        ROW,
        "payload",
        "payload_hex",
        CUT_FROM,
    ];
    let value: Value = serde_json::from_str(line).map_err(|e| e.to_string())?;
    let Value::Object(fields) = value else { return Err("must be a JSON object".to_owned()) };
    if let Some(other) = fields.keys().find(|key| !FIELDS.contains(&key.as_str())) {
        return Err(format!("{other:?} is no field of a letter"));
    }
    let text = |name: &str| match fields.get(name) {
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        None => Ok(None),
        Some(other) => Err(format!("{name}: {other} must be text in quotes")),
    };
    let need = |name: &str| text(name)?.ok_or_else(|| format!("{name} is missing"));
    let vehicle = VehicleId::new(need("vehicle")?).map_err(|e| e.to_string())?;
    let place = match fields.get("sequence") {
        None => None,
        Some(number) => Some(number.as_u64().ok_or_else(|| format!("sequence: {number} is no number"))?),
    };
    let cut_from = match fields.get(CUT_FROM) {
        None => None,
        Some(bytes) => Some(bytes.as_u64().ok_or_else(|| format!("{CUT_FROM}: {bytes} is no number"))?),
    };
    let stored = match text("stored")? {
        Some(stored) => parse(stored).map_err(|e| format!("stored: {e}"))?,
        None => now,
    };
    let contents = [ROW, "payload", "payload_hex"];
    let mut given = contents.into_iter().filter_map(|name| Some((name, fields.get(name)?)));
    let (Some((name, value)), None) = (given.next(), given.next()) else {
        return Err(format!("must have one of {}", contents.join(", ")));
    };
    let signal = if name == ROW { ROW.to_owned() } else { need("signal")?.to_owned() };
    let payload = match (name, value) {
        (ROW, row) => row.to_string().into(),
        ("payload", Value::String(text)) => text.clone().into(),
        (_, Value::String(digits)) => {
            HEX.decode(digits.as_bytes()).map_err(|e| format!("payload_hex: {e}"))?.into()
        }
        (name, other) => return Err(format!("{name}: {other} must be text in quotes")),
    };
    Ok(Letter { place, stored, vehicle, signal, payload, cut_from })
}

/// A row of a letter.
#[derive(Debug, PartialEq)]
pub(super) struct LetterRow {
    pub ts: Micros,
    /// A value per column of the schema; NaN where there is none.
    pub values: Vec<f64>,
    pub quality: i64,
}

/// Reads a row as the sink wrote it, or as an operator has mended it: `quality` may be left out, then
/// what is there counts as measured.
///
/// # Errors
/// The field and its value.
pub(super) fn row(schema: &Schema, letter: &Letter) -> Result<LetterRow, String> {
    letter.whole()?;
    let row: Map<String, Value> = serde_json::from_slice(&letter.payload).map_err(|e| e.to_string())?;
    let known =
        |key: &str| ["ts", "vehicle", "quality"].contains(&key) || schema.columns().any(|c| c.name == key);
    if let Some(other) = row.keys().find(|key| !known(key)) {
        return Err(format!("{other:?} is no column of the configured signals"));
    }
    if row.get("vehicle").is_some_and(|vehicle| vehicle != letter.vehicle.as_str()) {
        return Err(format!("vehicle of the row is not {}, that of the letter", letter.vehicle));
    }
    let ts = row.get("ts").and_then(Value::as_str).ok_or("ts is missing")?;
    let ts = parse(ts).map_err(|e| format!("ts {ts:?}: {e}"))?;
    if ts.rem_euclid(schema.interval()) != 0 {
        return Err(format!("ts {} is not on the grid of the configured interval", display(ts)));
    }
    let mut values = Vec::with_capacity(schema.column_count());
    for column in schema.columns() {
        let value = match row.get(&column.name) {
            None | Some(Value::Null) => f64::NAN,
            Some(value) => value.as_f64().ok_or_else(|| format!("{}: {value} is no number", column.name))?,
        };
        if value < column.min || value > column.max {
            let (name, min, max) = (&column.name, column.min, column.max);
            return Err(format!("{name} {value} is not between {min} and {max}"));
        }
        values.push(value);
    }
    let quality = match row.get("quality") {
        None => None,
        Some(bits) => Some(bits.as_i64().ok_or_else(|| format!("quality: {bits} is no whole number"))?),
    };
    Ok(LetterRow { ts, quality: qualified(schema, &values, quality)?, values })
}

/// The bits of `quality`, which must agree with the values.
fn qualified(schema: &Schema, values: &[f64], given: Option<i64>) -> Result<i64, String> {
    use fleet_core::batch::Quality;
    let mut quality = 0;
    for (s, signal) in schema.signals().iter().enumerate() {
        let there = values[signal.column_range()].iter().filter(|value| !value.is_nan()).count();
        if there != 0 && there != signal.columns.len() {
            return Err(format!("signal {:?} has a value in some of its columns only", signal.name));
        }
        let how = match given.map(|given| Quality::of(given, s)) {
            None | Some(Quality::Missing) if there == 0 => Quality::Missing,
            None => Quality::Measured,
            Some(how) if (how == Quality::Missing) == (there == 0) => how,
            Some(_) => {
                let what = "do not fit its values; leave quality out and they count as measured";
                return Err(format!("the two bits of quality of signal {:?} {what}", signal.name));
            }
        };
        quality |= how.at(s);
    }
    if quality == 0 { Err("the row has no value".to_owned()) } else { Ok(quality) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(signal: &str, reason: &str, payload: &[u8]) -> StoredLetter {
        StoredLetter {
            sequence: 7,
            stored: 1_769_904_000_000_001,
            vehicle: VehicleId::new("V1").unwrap(),
            signal: signal.to_owned(),
            reason: reason.to_owned(),
            detail: "why".to_owned(),
            payload: Bytes::copy_from_slice(payload),
            cut_from: None,
        }
    }

    #[test]
    fn a_cut_letter_says_so_and_is_not_used() {
        let cut = StoredLetter { cut_from: Some(9_000), ..stored("row", "row", b"{\"ts\":\"2026-02-01T0") };
        let letter = read(&for_programs(&cut), 0).unwrap();
        assert_eq!(letter, cut.clone().into());
        let why = row(&Schema::default(), &letter).unwrap_err();
        assert_eq!(why, "only the first 19 of its 9000 bytes are kept, which can't be used");
        assert!(for_people(&cut).ends_with("why (cut to 19 of 9000 bytes)"));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let row = br#"{"quality":4,"speed_kmh":13.0,"ts":"2026-02-01T00:00:00Z","vehicle":"V1"}"#;
        for letter in [
            stored("speed", "malformed", b"{\"ts\": 1, "),
            stored("speed", "out_of_range", b"\xf1\x01\0\xff"),
            stored("speed", "empty", b""),
            stored("row", "row", row),
        ] {
            let line = for_programs(&letter);
            assert!(!line.contains('\n'));
            assert_eq!(read(&line, 0), Ok(letter.into()), "{line}");
        }
        assert!(
            for_people(&stored("speed", "late", b"")).starts_with("7  2026-02-01T00:00:00.000001Z  V1  ")
        );
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said() {
        for (line, said) in [
            ("", "EOF"),
            ("[]", "must be a JSON object"),
            (r#"{"vehicle":"a b","payload":""}"#, "vehicle \"a b\" must be"),
            (r#"{"signal":"speed","payload":""}"#, "vehicle is missing"),
            (r#"{"vehicle":"V","payload":""}"#, "signal is missing"),
            (r#"{"vehicle":"V","signal":"speed"}"#, "must have one of"),
            (r#"{"vehicle":"V","signal":"speed","payload":"","row":{}}"#, "must have one of"),
            (r#"{"vehicle":"V","signal":"speed","payload":5}"#, "payload: 5 must be text"),
            (r#"{"vehicle":"V","signal":"speed","payload_hex":"0g"}"#, "payload_hex: "),
            (r#"{"vehicle":"V","signal":"speed","payload":"","stored":"soon"}"#, "stored: "),
            (r#"{"vehicle":"V","signal":"speed","payload":"","colour":1}"#, "\"colour\" is no field"),
        ] {
            let error = read(line, 0).unwrap_err();
            assert!(error.contains(said), "{line}: {error}");
        }
    }

    #[test]
    fn rows_are_checked() {
        let schema = Schema::default();
        let read = |fields: &str| {
            let payload = format!("{{\"ts\":\"2026-02-01T00:00:10Z\",{fields}}}");
            row(&schema, &stored("row", "row", payload.as_bytes()).into())
        };
        let good = read("\"speed_kmh\":13,\"quality\":8").unwrap();
        assert_eq!((good.ts, good.quality, good.values[2]), (1_769_904_010_000_000, 8, 13.0));
        assert_eq!(read("\"speed_kmh\":13").unwrap().quality, 4, "measured");
        for (fields, said) in [
            ("\"speed_kmh\":null", "the row has no value"),
            ("\"speed_kmh\":1300", "speed_kmh 1300 is not between 0 and"),
            ("\"speed_kmh\":\"fast\"", "speed_kmh: \"fast\" is no number"),
            ("\"speed_mph\":13", "\"speed_mph\" is no column"),
            ("\"latitude\":48", "signal \"position\" has a value in some"),
            ("\"speed_kmh\":13,\"quality\":0", "leave quality out"),
            ("\"speed_kmh\":13,\"vehicle\":\"V2\"", "is not V1"),
        ] {
            let error = read(fields).unwrap_err();
            assert!(error.contains(said), "{fields}: {error}");
        }
    }
}
