//! A program's whole configuration: it shows itself, or each problem names its place.

use fleet_worker::config::Config;

fn parse(text: &str) -> Result<Config, Vec<fleet_worker::config::Problem>> {
    Config::parse("f", text, std::iter::empty(), &[])
}

/// Asserts what must hold of bytes as TOML. Those that name files are left out: they would be read.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if ["file", "creds", "\\"].iter().any(|word| text.contains(word)) {
        return;
    }
    match parse(text) {
        Ok(config) => {
            let shown = config.shown();
            let again = parse(shown).unwrap_or_else(|problems| panic!("{problems:?} in\n{shown}"));
            assert_eq!(again.shown(), shown);
            assert_eq!(
                (&again.cells, &again.schema, &again.worker),
                (&config.cells, &config.schema, &config.worker)
            );
            assert_eq!(
                (&again.admin, &again.log, &again.parquet),
                (&config.admin, &config.log, &config.parquet)
            );
            assert!(config.worker.batch_rows <= config.worker.max_waiting_rows);
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in problems {
                assert!(!problem.path.is_empty() && !problem.message.is_empty(), "{problem:?}");
                assert!(!problem.to_string().contains('\n'), "{problem:?}");
            }
        }
    }
}
