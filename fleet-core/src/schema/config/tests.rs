use super::*;

#[test]
fn the_default_is_the_scenario() {
    let schema = Schema::default();
    let names: Vec<_> = schema.columns().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["latitude", "longitude", "speed_kmh", "fuel_level_pct", "brake_fluid_temp_c"]);
    assert_eq!(schema.signals()[0].columns[0].kind, ColumnType::Double);
    assert_eq!(schema.signals()[1].columns[0].kind, ColumnType::Real);
}

#[test]
fn all_problems_come_at_once_and_name_field_and_value() {
    let text = r#"
        interval = "0s"
        window = "soon"
        [[signal]]
        name = "on"
        columns = [{ name = "Speed", unit = "km/h", min = 5, max = 1 }]
        interpolation = "linear"
        [[signal]]
        name = "on"
        columns = []
        interpolation = "linear"
    "#;
    let config: RecordsConfig = toml::from_str(text).unwrap();
    let said: Vec<_> = config.build().unwrap_err().iter().map(ToString::to_string).collect();
    for part in [
        "interval: \"0s\" is not between",
        "window: \"soon\" is not a duration",
        "signal[0].name: \"on\" is taken",
        "signal[0].columns[0].name: \"Speed\" must be",
        "signal[0].columns[0]: min 5 and max 1",
        "signal[1].name: \"on\" is there twice",
        "signal[1].columns: there are 0",
    ] {
        assert!(said.iter().any(|s| s.starts_with(part)), "{part} is missing in {said:#?}");
    }
}

#[test]
fn max_past_is_a_week_and_at_least_the_window() {
    assert_eq!(Schema::default().max_past(), 7 * 24 * 60 * MINUTE);
    let said = |max_past: &str| {
        let config = RecordsConfig { max_past: max_past.to_owned(), ..RecordsConfig::default() };
        config.build().map_or_else(|problems| problems[0].to_string(), |_| String::new())
    };
    assert_eq!((said("30s"), said("36600d")), (String::new(), String::new()));
    assert_eq!(said("29s"), "max_past: 29s is shorter than the window of 30s");
    assert!(said("36601d").starts_with("max_past: \"36601d\" is not between 0s and 36600d"));
    assert!(said("ever").starts_with("max_past: \"ever\" is not a duration"));
}

#[test]
fn a_gap_has_its_own_bounds_and_may_be_shorter_than_the_interval() {
    let said = |interval: &str, gap: &str| {
        let mut config = RecordsConfig { interval: interval.to_owned(), ..RecordsConfig::default() };
        config.signal.truncate(1);
        config.signal[0].max_gap = gap.to_owned();
        let problems = config.build().err().unwrap_or_default();
        problems.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(said("10s", "500ms"), [""; 0]);
    assert_eq!(said("0s", "500ms"), ["interval: \"0s\" is not between 1ms and 1d"]);
    assert_eq!(said("10s", "0s"), ["signal[0].max_gap: \"0s\" is not between 1ms and 1d"]);
    assert_eq!(said("soon", "later").len(), 2);
}

#[test]
fn slow_signals_of_the_scenario_hold_nobody_back_for_long() {
    let timeouts = |patience: &str| -> Vec<_> {
        let schema =
            RecordsConfig { patience: patience.to_owned(), ..RecordsConfig::default() }.build().unwrap();
        schema.signals().iter().map(|signal| signal.signal_timeout / 1_000_000).collect()
    };
    assert_eq!((timeouts("30s"), timeouts("12s")), (vec![15, 20, 10, 15], vec![12, 12, 10, 12]));
}

#[test]
fn a_signal_is_waited_for_as_long_as_it_says_and_as_patience_lets_it() {
    let built = |patience: &str, timeout: Option<&str>| {
        let mut config = RecordsConfig { patience: patience.to_owned(), ..RecordsConfig::default() };
        config.signal[1].signal_timeout = None;
        config.signal[2].signal_timeout = timeout.map(str::to_owned);
        config.build().map(|schema| [1, 2].map(|s| schema.signals()[s].signal_timeout / 1_000_000))
    };
    assert_eq!(built("45s", None), Ok([45, 45]));
    assert_eq!(built("45s", Some("0s")), Ok([45, 0]));
    assert_eq!(built("45s", Some("50s")), Ok([45, 45]), "patience is the most");
    let said = |patience, timeout| built(patience, timeout).unwrap_err()[0].to_string();
    assert_eq!(said("45s", Some("2h")), "signal[2].signal_timeout: \"2h\" is not between 0s and 1h");
    assert!(said("45s", Some("soon")).starts_with("signal[2].signal_timeout: \"soon\" is not a duration"));
    assert!(said("ever", None).starts_with("patience: "));
}
