//! `check`: says what the configuration is, once it is known to be sound.

use std::io::Write as _;

use fleet_core::Error;
use fleet_core::error::Result;

use crate::config::Config;

/// Prints the effective configuration without secrets, and `ok`. Problems were found by
/// [`Config::load`].
///
/// # Errors
/// [`Internal`](fleet_core::ErrorKind::Internal) when stdout can't be written.
pub fn run(config: &Config) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", config.shown())
        .and_then(|()| writeln!(out, "ok"))
        .map_err(|e| Error::internal("could not write to stdout").caused_by(e))
}
