//! Signals of one's own from the message to the column, without a line of code.

use crate::archive::{assert_archived, held_back_by};
use crate::world::{QUICK, assert_exact, count, deployment_by, finish, fleet, vehicles};

/// The scenario's speed, a heading and a fifth signal with four columns. (The heading's counts are exact
/// in binary, so that half a turn is the same half for everyone.)
pub(crate) const SIGNALS: &str = r#"
[[signal]]
name = "position"
columns = [{ name = "latitude", unit = "deg", min = -90, max = 90 }, { name = "longitude", unit = "deg", min = -180, max = 180 }]
interpolation = "great_circle"

[[signal]]
name = "speed"
columns = [{ name = "speed_kmh", unit = "km/h", min = 0, max = 400 }]
interpolation = "pchip"

[[signal]]
name = "fuel"
columns = [{ name = "fuel_level_pct", unit = "%", min = 0, max = 100 }]
interpolation = "time_weighted_mean"

[[signal]]
name = "heading"
columns = [{ name = "heading_deg", unit = "deg", min = 0, max = 360, wraps = true, wire = { integer = "u16", scale = 0.0078125 } }]
interpolation = "linear"

[[signal]]
name = "tyre"
columns = [
    { name = "tyre_fl_kpa", unit = "kPa", min = 0, max = 1000, wire = { integer = "u16", scale = 0.1 } },
    { name = "tyre_fr_kpa", unit = "kPa", min = 0, max = 1000, wire = { integer = "u16", scale = 0.1 } },
    { name = "tyre_rl_kpa", unit = "kPa", min = 0, max = 1000, wire = { integer = "u16", scale = 0.1 } },
    { name = "tyre_rr_kpa", unit = "kPa", min = 0, max = 1000, wire = { integer = "u16", scale = 0.1 } },
]
interpolation = "nearest"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_fifth_signal_with_four_columns_and_a_heading_end_in_table_and_archive() {
    let root = tempfile::tempdir().unwrap();
    let config = QUICK.replacen("[worker]", &format!("{SIGNALS}[worker]"), 1) + &held_back_by(root.path());
    let deployment = deployment_by(&config, 2).await;
    let fleet = fleet(&deployment, vehicles(30, 30)).await;
    let (summary, verdict) = finish(&deployment, fleet).await;
    assert!(summary.acknowledged > 250, "{} messages", summary.acknowledged);
    assert_exact(&deployment, &verdict);
    let full = "select count(*) from telemetry where tyre_rr_kpa is not null and heading_deg is not null";
    assert!(count(&deployment, full).await > 50);
    assert_archived(&deployment, root.path()).await;
}
