//! The queries of `docs/database.md`, for the test that runs them on every edition and the benchmark
//! that takes their time.

/// The one in the file of that name.
pub(crate) fn query(name: &str) -> &'static str {
    QUERIES.iter().find(|(n, _)| *n == name).expect("a query of this name").1
}

/// Names and texts.
pub(crate) const QUERIES: &[(&str, &str)] = &[
    ("one_vehicle", include_str!("one_vehicle.sql")),
    ("fleet_average", include_str!("fleet_average.sql")),
    ("last_positions", include_str!("last_positions.sql")),
    ("hot_brakes", include_str!("hot_brakes.sql")),
    ("hot_brakes_of_one", include_str!("hot_brakes_of_one.sql")),
    ("hot_brakes_of_all", include_str!("hot_brakes_of_all.sql")),
    ("low_fuel", include_str!("low_fuel.sql")),
    ("trips", include_str!("trips.sql")),
    ("distance", include_str!("distance.sql")),
];
