//! Time as the whole crate knows it: UTC microseconds since 1970 in an `i64`.

/// An instant (UTC microseconds since 1970) or a duration (microseconds).
///
/// Event time is a sensor's clock; server time is the NATS server's. Every field says which.
pub type Micros = i64;

/// One second.
pub const SECOND: Micros = 1_000_000;

/// One minute.
pub const MINUTE: Micros = 60 * SECOND;

/// Midnight of 1 January 2000: no sample is older.
pub const YEAR_2000: Micros = 946_684_800 * SECOND;

/// Midnight of 1 January 2200. No sample is newer, whatever a clock says: PostgreSQL takes the year
/// 290000 and would make a chunk for it.
pub const YEAR_2200: Micros = 7_258_118_400 * SECOND;

/// A length of time as microseconds; what does not fit is the longest there is.
pub fn micros(duration: std::time::Duration) -> Micros {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// The last grid instant `k × interval` at or before `t`; exact for negative times too.
pub fn grid_at_or_before(t: Micros, interval: Micros) -> Micros {
    t.saturating_sub(t.rem_euclid(interval))
}

/// The first grid instant `k × interval` at or after `t`.
pub fn grid_at_or_after(t: Micros, interval: Micros) -> Micros {
    match t.rem_euclid(interval) {
        0 => t,
        rest => t.saturating_add(interval - rest),
    }
}

/// Parses `"10s"`, `"1 min 30s"`, `"250ms"`, `"PT10S"` or `"400d"` to microseconds; a day has 24 hours.
///
/// # Errors
/// Why it is none, in words: no unit, no duration at all, negative, or finer than a microsecond.
pub fn parse_duration(text: &str) -> std::result::Result<Micros, String> {
    let span: jiff::SignedDuration =
        text.parse().or_else(|_: jiff::Error| in_days(text).ok_or_else(|| no_duration(text)))?;
    let micros = i64::try_from(span.as_micros()).map_err(|_| "too long".to_owned())?;
    if micros < 0 {
        return Err("negative".to_owned());
    }
    if span.subsec_nanos() % 1_000 != 0 {
        return Err("finer than a microsecond".to_owned());
    }
    Ok(micros)
}

fn no_duration(text: &str) -> String {
    let number = !text.trim().is_empty() && text.trim().bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let why = if number { "it has no unit" } else { "it must be numbers with the units d h m s ms us" };
    why.to_owned()
}

/// A duration as people write it, which [`parse_duration`] reads: in the largest unit of which it is a whole number.
pub fn display_duration(duration: Micros) -> String {
    let units = [("d", 24 * 60 * MINUTE), ("h", 60 * MINUTE), ("m", MINUTE), ("s", SECOND), ("ms", 1_000)];
    match units.into_iter().find(|(_, unit)| duration != 0 && duration % unit == 0) {
        Some((name, unit)) => format!("{}{name}", duration / unit),
        None if duration == 0 => "0s".to_owned(),
        None => format!("{duration}us"),
    }
}

/// Parses RFC 3339, such as `2026-11-25T08:00:00Z`, to microseconds; what is finer is cut off.
///
/// # Errors
/// The parser's words.
pub fn parse(text: &str) -> std::result::Result<Micros, String> {
    let time: jiff::Timestamp = text.parse().map_err(|e: jiff::Error| e.to_string())?;
    Ok(time.as_microsecond())
}

/// What jiff's absolute durations leave out, because a day may have 23 hours.
fn in_days(text: &str) -> Option<jiff::SignedDuration> {
    let span: jiff::Span = text.parse().ok()?;
    span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()
}

/// RFC 3339 with as many fractional digits as needed, for messages to people.
pub fn display(t: Micros) -> String {
    jiff::Timestamp::from_microsecond(t).map_or_else(|_| format!("{t} µs"), |t| t.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grid_is_epoch_aligned_also_before_1970() {
        assert_eq!(grid_at_or_before(19, 10), 10);
        assert_eq!(grid_at_or_before(-1, 10), -10);
        assert_eq!(grid_at_or_after(-1, 10), 0);
        assert_eq!(grid_at_or_after(20, 10), 20);
        assert_eq!(grid_at_or_before(20, 10), 20);
    }

    #[test]
    fn durations_read_as_people_write_them() {
        assert_eq!(parse_duration("10s"), Ok(10 * SECOND));
        assert_eq!(parse_duration("1m 30s"), Ok(90 * SECOND));
        assert_eq!(parse_duration("250ms"), Ok(250_000));
        assert_eq!(parse_duration("400d"), Ok(400 * 24 * 60 * MINUTE));
        assert_eq!(parse_duration("1d 12h"), Ok(36 * 60 * MINUTE));
        assert!(parse_duration("1mo").is_err());
        assert_eq!(parse_duration("10"), Err("it has no unit".to_owned()));
        assert!(parse_duration("-3s").is_err());
        assert!(parse_duration("5ns").is_err());
    }

    #[test]
    fn durations_are_written_as_people_write_them() {
        for text in ["0s", "1us", "1500us", "250ms", "90s", "7m", "36h", "400d"] {
            assert_eq!(display_duration(parse_duration(text).unwrap()), text);
        }
        assert_eq!(display_duration(parse_duration("3600s").unwrap()), "1h");
    }
}
