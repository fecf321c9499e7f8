//! NATS subjects and the identifiers in them.

use fleet_core::nats::Names;
use fleet_core::{CellId, VehicleId};

/// The last token of an `on`.
const ON: &str = "on";

/// Asserts what must hold of bytes as a subject, as a subject below our prefix, and as identifiers.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let names = Names::new(&CellId::default());
    for subject in [text.to_owned(), format!("fleet.0.{text}")] {
        parsed(&names, &subject);
    }
    identified(text);
}

/// A subject is taken exactly if it is `fleet.0.<vehicle>.<last>`, and then it is put together again.
fn parsed(names: &Names, subject: &str) {
    let tokens: Vec<&str> = subject.split('.').collect();
    let expected = match tokens[..] {
        ["fleet", "0", vehicle, last] if !vehicle.is_empty() && !last.is_empty() => Some((vehicle, last)),
        _ => None,
    };
    assert_eq!(names.parse(subject), expected);
    let Some((vehicle, last)) = expected else { return };
    if let Ok(vehicle) = VehicleId::new(vehicle) {
        assert_eq!(names.subject(&vehicle, last), subject);
    }
}

/// What passes as an identifier is one token of a subject, whatever it is put into.
fn identified(text: &str) {
    let token = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    match VehicleId::new(text) {
        Ok(vehicle) => {
            assert!(token && text.len() <= 64);
            assert_eq!((vehicle.as_str(), vehicle.to_string().as_str()), (text, text));
            let names = Names::new(&CellId::default());
            assert_eq!(names.parse(&names.subject(&vehicle, ON)), Some((text, ON)));
            for subject in [names.bind(&vehicle), names.dead_letter(&vehicle)] {
                assert_eq!(subject.split('.').collect::<Vec<_>>()[1..], ["0", text]);
            }
            let json = serde_json::to_string(&vehicle).expect("a text");
            assert_eq!(serde_json::from_str::<VehicleId>(&json).ok(), Some(vehicle));
        }
        Err(error) => {
            assert!(!token || text.len() > 64);
            assert!(error.to_string().len() < 1_500, "{error}");
        }
    }
    let cell = CellId::new(text);
    assert_eq!(cell.is_ok(), token && text.len() <= 32);
    if let Ok(cell) = cell {
        let names = Names::new(&cell);
        let vehicle = VehicleId::new("VIN1").expect("an identifier");
        assert_eq!(names.parse(&names.subject(&vehicle, ON)), Some(("VIN1", ON)));
        let stream = |c: char| c.is_whitespace() || ".*>/\\".contains(c);
        for name in [names.telemetry_stream(), names.lifecycle_stream(), names.bind_stream()] {
            assert!(!name.contains(stream), "{name} is no name of a stream");
        }
    }
}
