//! `check`: says what the configuration is, once it is known to be sound.

use std::io::Write as _;

use fleet_core::Error;
use fleet_core::error::Result;

use super::attack::attack;
use crate::cli::CheckArgs;
use crate::config::Config;
use crate::terminal::written;

/// Prints the effective configuration without secrets, and `ok`. Problems were found by
/// [`Config::load`]. With a vehicle's login it tries first what that vehicle must not be able to do.
///
/// # Errors
/// [`Configuration`](fleet_core::ErrorKind::Configuration) with everything that the vehicle could do,
/// [`Internal`](fleet_core::ErrorKind::Internal) when stdout can't be written.
pub async fn check(config: &Config, args: &CheckArgs) -> Result<()> {
    if let (Some(vehicle), Some(login)) = (&args.vehicle, &args.login) {
        let found = attack(config, vehicle, login).await?;
        if !found.is_empty() {
            return Err(Error::configuration(found.join("; ")));
        }
    }
    let mut out = std::io::stdout().lock();
    written(writeln!(out, "{}", config.shown()).and_then(|()| writeln!(out, "ok")))
}
