//! The wall clock, read in one place: for what publishes as vehicles do, for names and for people. What is
//! bound, aligned or deleted goes by the server's clock ([`fleet_core::nats::ServerClock`]).

use fleet_core::Micros;

/// This machine's time, UTC microseconds since 1970.
#[allow(clippy::disallowed_methods, reason = "programs that publish need the time")]
pub fn now() -> Micros {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
