//! Payloads of bind requests and of `on`: what is taken has the right vehicle and a possible time.

use fleet_core::VehicleId;
use fleet_core::nats::{BindRequest, OnPayload};
use fleet_core::time::{YEAR_2000, YEAR_2200};

/// Asserts what must hold of bytes as a bind request of `VIN1`, and of the vehicle that they name.
pub fn check(bytes: &[u8]) {
    requested("VIN1", bytes);
    let named = serde_json::from_slice::<serde_json::Value>(bytes).ok();
    if let Some(vehicle) = named.as_ref().and_then(|v| v.get("vehicle")?.as_str()) {
        requested(vehicle, bytes);
    }
    on(bytes);
}

fn requested(vehicle: &str, bytes: &[u8]) {
    let request = match BindRequest::parse(vehicle, bytes) {
        Ok(request) => request,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert_eq!(request.vehicle.as_str(), vehicle);
    assert!(VehicleId::new(vehicle).is_ok(), "{vehicle:?} is no identifier");
    assert!((YEAR_2000..YEAR_2200).contains(&request.on_time));
    let keys = ["vehicle", "on_sequence", "on_time", "since"];
    let value: serde_json::Value = serde_json::from_slice(bytes).expect("it was JSON");
    let object = value.as_object().expect("it was an object");
    assert!(object.keys().all(|key| keys.contains(&key.as_str())), "an unknown key: {value}");
    let json = request.to_json();
    assert_eq!(BindRequest::parse(vehicle, &json).as_ref(), Ok(&request));
    assert!(BindRequest::parse("another", &json).is_err() || vehicle == "another");
    assert!(OnPayload::parse(&json).is_err(), "a bind request passed for an on");
}

fn on(bytes: &[u8]) {
    let Ok(on) = OnPayload::parse(bytes) else { return };
    assert_eq!(on.since.is_none(), bytes.is_empty());
    assert!(bytes.len() <= 256 && (bytes.is_empty() || bytes.trim_ascii_start().starts_with(b"{")));
    // What does not fit into microseconds is the first or the last of them.
    if let Some(since) = on.since.filter(|since| ![i64::MIN, i64::MAX].contains(since)) {
        assert_eq!(since % 1_000, 0);
        let again = format!(r#"{{"since":{}}}"#, since / 1_000);
        assert_eq!(OnPayload::parse(again.as_bytes()), Ok(on));
    }
    assert!(BindRequest::parse("VIN1", bytes).is_err(), "an on passed for a bind request");
}
