//! Payloads of `on`, `off`, bind requests and claims. Nothing in them is trusted unparsed: the
//! server sends publish acks to whatever reply subject a publisher names, and one must not pass for
//! an `on` (DESIGN section 10).

use serde::{Deserialize, Serialize};

use crate::bind::ClaimRequest;
use crate::ids::VehicleId;
use crate::time::{Micros, YEAR_2000, YEAR_2200};

/// A payload that does not parse, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidPayload(String);

/// Parses an object only: a derived parser also takes an array of the fields in their order.
fn object<'de, T: Deserialize<'de>>(payload: &'de [u8]) -> Result<T, String> {
    if payload.trim_ascii_start().first() != Some(&b'{') {
        return Err("not a JSON object".to_owned());
    }
    serde_json::from_slice(payload).map_err(|e| e.to_string())
}

/// What an `on` or `off` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OnPayload {
    /// When the trip began by the vehicle's clock, the same in every repeat.
    pub since: Option<Micros>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Since {
    since: i64,
}

impl OnPayload {
    /// Parses nothing, or `{"since": <ms>}`.
    ///
    /// # Errors
    /// [`InvalidPayload`] for anything else, a publish ack included.
    pub fn parse(payload: &[u8]) -> Result<Self, InvalidPayload> {
        if payload.is_empty() {
            return Ok(Self::default());
        }
        let bad = |why: String| InvalidPayload(format!("neither empty nor {{\"since\": <ms>}}: {why}"));
        if payload.len() > 256 {
            return Err(bad(format!("{} bytes", payload.len())));
        }
        let Since { since } = object(payload).map_err(bad)?;
        let micros = since.saturating_mul(1_000);
        if !(YEAR_2000..YEAR_2200).contains(&micros) {
            return Err(bad(format!("since {since} is not between 2000 and 2200")));
        }
        Ok(Self { since: Some(micros) })
    }
}

/// A request to bind a vehicle: the payload of `bind.<cell>.<vehicle>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BindRequest {
    /// The vehicle.
    pub vehicle: VehicleId,
    /// The sequence of its `on` in the lifecycle stream.
    pub on_sequence: u64,
    /// When that was stored, microseconds of server time.
    pub on_time: Micros,
    /// The `on`'s `since`, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Micros>,
}

impl BindRequest {
    /// Parses a request that came on the subject of `vehicle`.
    ///
    /// # Errors
    /// [`InvalidPayload`] if it does not parse or names another vehicle.
    pub fn parse(vehicle: &str, payload: &[u8]) -> Result<Self, InvalidPayload> {
        let request: Self = object(payload).map_err(|e| InvalidPayload(format!("no bind request: {e}")))?;
        if request.vehicle.as_str() != vehicle {
            let named = &request.vehicle;
            return Err(InvalidPayload(format!("a bind request for {vehicle:?} that names {named:?}")));
        }
        if !(YEAR_2000..YEAR_2200).contains(&request.on_time) {
            return Err(InvalidPayload(format!("on_time {} is not between 2000 and 2200", request.on_time)));
        }
        Ok(request)
    }

    /// As JSON.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// As the state store wants it.
    pub(super) fn claim(&self) -> ClaimRequest {
        let started_at = self.since.unwrap_or(self.on_time);
        ClaimRequest { vehicle: self.vehicle.clone(), on_time: self.on_time, started_at }
    }
}

/// What a new holder of a redelivered request tells an older one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClaimNotice {
    pub vehicle: VehicleId,
    pub epoch: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_on_is_empty_or_names_since_and_a_publish_ack_is_neither() {
        assert_eq!(OnPayload::parse(b""), Ok(OnPayload::default()));
        let since = OnPayload::parse(br#"{"since": 1700000000000}"#).unwrap().since;
        assert_eq!(since, Some(1_700_000_000_000_000));
        for bad in [
            r#"{"stream":"TELEMETRY_0","seq":17}"#,
            r#"{"since": 17, "seq": 1}"#,
            r#"{"since": 17}"#,
            r#"{"since": 9223372036854775807}"#,
            "[1700000000000]",
            "on",
            "{}",
        ] {
            assert!(OnPayload::parse(bad.as_bytes()).is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn a_bind_request_names_the_vehicle_of_its_subject() {
        let vehicle = VehicleId::new("VIN1").unwrap();
        let on_time = 1_700_000_000_000_000;
        let request = BindRequest { vehicle, on_sequence: 7, on_time, since: None };
        assert_eq!(BindRequest::parse("VIN1", &request.to_json()).as_ref(), Ok(&request));
        assert_eq!(request.claim().started_at, on_time);
        assert!(BindRequest::parse("VIN2", &request.to_json()).is_err());
        assert!(BindRequest::parse("VIN1", br#"{"stream":"BINDINGS_0","seq":17}"#).is_err());
        let array = br#"["VIN1",7,1700000000000000]"#;
        assert!(BindRequest::parse("VIN1", array).is_err());
        let wild = r#"{"vehicle":"*","on_sequence":1,"on_time":1700000000000000}"#;
        assert!(BindRequest::parse("*", wild.as_bytes()).is_err());
    }
}
