//! Payloads of `on`, `off`, bind requests and claims. Nothing in them is trusted unparsed: the
//! server sends publish acks to whatever reply subject a publisher names, and one must not pass for
//! an `on` (docs/SECURITY.md).

use serde::{Deserialize, Serialize};

use crate::bind::{ClaimRequest, TRIP_AHEAD};
use crate::ids::VehicleId;
use crate::time::{MINUTE, Micros, YEAR_2000, YEAR_2200, display};

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
    /// When the trip began by the vehicle's clock, the same in every repeat. A claim: any time at all.
    pub since: Option<Micros>,
}

/// How long ago a trip can have begun when its `on` is stored. Longer than trips are, for repeats of `on`
/// go on; and shorter than the time that a clock without a battery is behind.
const SINCE_BEHIND: Micros = 7 * 24 * 60 * MINUTE;

/// The `since` of an `on` that was stored then (server time), if it is believed. The one rule for all that
/// is made of it.
pub(super) fn believed(since: Option<Micros>, stored: Micros) -> Option<Micros> {
    let bounds = stored.saturating_sub(SINCE_BEHIND)..=stored.saturating_add(TRIP_AHEAD);
    since.filter(|since| bounds.contains(since))
}

/// When a trip began whose `on` was stored then: its `since`, or the server's time where that is not
/// believed, which is told.
pub(super) fn trip_start(vehicle: &VehicleId, since: Option<Micros>, stored: Micros) -> Micros {
    believed(since, stored).unwrap_or_else(|| {
        if let Some(since) = since {
            let (since, stored) = (display(since), display(stored));
            tracing::warn!(
                %vehicle, since, stored,
                "`since` is not believed, it is more than a week before or a minute after the `on`: the trip \
                 begins when that was stored"
            );
        }
        stored
    })
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
        // What no clock should say is no reason not to record the vehicle.
        Ok(Self { since: Some(since.saturating_mul(1_000)) })
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
    /// From when on there may be samples, microseconds of server time: when the `on` was stored, or before that
    /// where earlier ones may have been replaced before anybody read them.
    pub on_time: Micros,
    /// The `on`'s `since`, microseconds. Where samples are wanted from before the `on`, it is when the trip began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Micros>,
}

impl BindRequest {
    /// For an `on` that was stored at `stored`, with samples from `begin` on.
    pub(super) fn new(
        vehicle: VehicleId,
        on_sequence: u64,
        stored: Micros,
        since: Option<Micros>,
        begin: Micros,
    ) -> Self {
        let earlier = begin < stored;
        let since = if earlier { Some(believed(since, stored).unwrap_or(stored)) } else { since };
        Self { vehicle, on_sequence, on_time: begin.min(stored), since }
    }

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

    /// As the state store wants it; `enqueued` is when the request was stored (server time).
    pub(super) fn claim(&self, enqueued: Micros) -> ClaimRequest {
        let (vehicle, on_time) = (self.vehicle.clone(), self.on_time);
        // Not before the `on` was stored, and told so where `on_time` is before that.
        let later = believed(self.since, enqueued).filter(|since| *since >= on_time);
        let started_at = later.unwrap_or_else(|| trip_start(&vehicle, self.since, on_time));
        let told_at = if later.is_some() { enqueued } else { on_time };
        ClaimRequest { vehicle, on_time, started_at, told_at }
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
    use crate::time::parse;

    #[test]
    fn an_on_is_empty_or_names_since_and_a_publish_ack_is_neither() {
        assert_eq!(OnPayload::parse(b""), Ok(OnPayload::default()));
        let since = OnPayload::parse(br#"{"since": 1700000000000}"#).unwrap().since;
        assert_eq!(since, Some(1_700_000_000_000_000));
        for bad in [
            r#"{"stream":"TELEMETRY_0","seq":17}"#,
            r#"{"since": 17, "seq": 1}"#,
            r#"{"since": "2026-01-31"}"#,
            "[1700000000000]",
            "on",
            "{}",
        ] {
            assert!(OnPayload::parse(bad.as_bytes()).is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn since_is_believed_from_a_week_before_to_a_minute_after_the_on() {
        let on_time = parse("2026-11-30T06:00:00Z").unwrap();
        let start = |since: Micros| {
            let vehicle = VehicleId::new("VIN1").unwrap();
            let request = BindRequest { vehicle, on_sequence: 7, on_time, since: Some(since) };
            let request = BindRequest::parse("VIN1", &request.to_json()).unwrap();
            let started_at = request.claim(on_time).started_at;
            assert_eq!(started_at, trip_start(&request.vehicle, request.since, on_time));
            (started_at != on_time).then_some(started_at)
        };
        for good in ["2026-11-30T05:00:00Z", "2026-11-23T06:00:00Z", "2026-11-30T06:01:00Z"] {
            let good = parse(good).unwrap();
            assert_eq!(start(good), Some(good));
        }
        for bad in [
            "1970-01-01T00:00:00.017Z",
            "1980-01-06T00:00:00Z",
            "2000-01-01T00:00:00Z",
            "2007-04-16T06:00:00Z",
            "2026-11-23T05:59:59Z",
            "2026-11-30T06:01:30Z",
            "2036-02-07T06:28:16Z",
            "2080-01-01T00:00:00Z",
        ] {
            let bad = parse(bad).unwrap();
            assert_eq!(start(bad), None, "{bad}");
            let payload = format!("{{\"since\": {}}}", bad / 1_000);
            assert_eq!(OnPayload::parse(payload.as_bytes()).unwrap().since, Some(bad), "it is still an on");
        }
        for bad in [i64::MIN, i64::MAX] {
            assert_eq!(start(bad), None);
            let payload = format!("{{\"since\": {bad}}}");
            assert_eq!(OnPayload::parse(payload.as_bytes()).unwrap().since, Some(bad));
        }
    }

    #[test]
    fn a_bind_request_names_the_vehicle_of_its_subject() {
        let vehicle = VehicleId::new("VIN1").unwrap();
        let on_time = 1_700_000_000_000_000;
        let request = BindRequest { vehicle, on_sequence: 7, on_time, since: None };
        assert_eq!(BindRequest::parse("VIN1", &request.to_json()).as_ref(), Ok(&request));
        let claim = request.claim(on_time + 5);
        assert_eq!((claim.started_at, claim.told_at), (on_time, on_time));
        let from_since = BindRequest { since: Some(on_time), ..request.clone() };
        assert_eq!(from_since.claim(on_time + 5).told_at, on_time + 5);
        // An hour in which nobody read before it.
        let begin = on_time - 60 * MINUTE;
        for (since, started_at) in [(Some(on_time - 7), on_time - 7), (Some(0), on_time), (None, on_time)] {
            let request = BindRequest::new(request.vehicle.clone(), 7, on_time, since, begin);
            let claim = request.claim(on_time + 5);
            assert_eq!((claim.on_time, claim.started_at, claim.told_at), (begin, started_at, on_time + 5));
        }
        let read = BindRequest::new(request.vehicle.clone(), 7, on_time, Some(0), on_time);
        assert_eq!((read.on_time, read.since), (on_time, Some(0)), "nothing is made up");
        assert!(BindRequest::parse("VIN2", &request.to_json()).is_err());
        assert!(BindRequest::parse("VIN1", br#"{"stream":"BINDINGS_0","seq":17}"#).is_err());
        let array = br#"["VIN1",7,1700000000000000]"#;
        assert!(BindRequest::parse("VIN1", array).is_err());
        let wild = r#"{"vehicle":"*","on_sequence":1,"on_time":1700000000000000}"#;
        assert!(BindRequest::parse("*", wild.as_bytes()).is_err());
    }
}
