//! Times that a clock shows which nobody has set.

use crate::time::{MINUTE, Micros, SECOND, YEAR_2000};

const DAY: Micros = 24 * 60 * MINUTE;

/// How long a device may have counted since it was switched on.
const UPTIME: Micros = 366 * DAY;

/// Where clocks begin when they have lost the time: seconds since 1970, and what that is.
const ZEROS: [(i64, &str); 5] = [
    (-2_208_988_800, "it counts from 1900, NTP's zero"),
    (0, "it counts from 1970"),
    // GPS begins on the sixth, many real-time clocks on the first.
    (315_532_800, "it counts from 1980"),
    (YEAR_2000 / SECOND, "it counts from 2000"),
    (2_085_978_496, "it shows 2036, NTP's next zero"),
];

/// A GPS receiver knows its week by ten bits only.
const ROLLOVER: Micros = 1_024 * 7 * DAY;

/// Why a device may take `time` for the time of a sample that was stored at `stored` (server time), if a
/// clock that nobody has set explains it.
pub(super) fn not_set(time: Micros, stored: Micros) -> Option<&'static str> {
    let back = stored.saturating_sub(time);
    let rolled = |times: i64| (back.saturating_sub(times * ROLLOVER)).saturating_abs() <= DAY;
    if rolled(1) {
        return Some("it is 1024 weeks back, a GPS week rollover");
    }
    if rolled(2) {
        return Some("it is 2048 weeks back, two GPS week rollovers");
    }
    let counts = |zero: i64| (zero * SECOND..zero * SECOND + UPTIME).contains(&time);
    ZEROS.into_iter().find(|(zero, _)| counts(*zero)).map(|(_, why)| why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::parse;

    #[test]
    fn a_clock_that_is_set_wrong_is_not_one_that_is_not_set() {
        let stored = parse("2026-11-30T06:00:00Z").unwrap();
        for time in
            ["2026-11-20T06:00:00Z", "2026-12-30T06:00:00Z", "2016-11-30T06:00:00Z", "2080-01-01T00:00:00Z"]
        {
            assert_eq!(not_set(parse(time).unwrap(), stored), None, "{time}");
        }
        for time in [i64::MIN, i64::MAX] {
            assert_eq!(not_set(time, stored), None);
        }
    }
}
