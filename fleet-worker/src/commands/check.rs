//! `check`: says what the configuration is, once it is known to be sound.

use std::io::Write as _;
use std::time::Duration;

use fleet_core::Error;
use fleet_core::error::Result;
use fleet_sinks::timescale::{ConnectOptions, Connector, server};

use super::attack::attack;
use crate::cli::CheckArgs;
use crate::config::Config;
use crate::terminal::written;

/// Prints the effective configuration without secrets, and `ok`. Problems were found by
/// [`Config::load`]. Of the database it says what it is, if it answers: that it does not is no mistake of
/// the configuration. With a vehicle's login it tries first what that vehicle must not be able to do.
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
    let database = database(config).await;
    let mut out = std::io::stdout().lock();
    let shown = writeln!(out, "{}", config.shown()).and_then(|()| {
        let mut lines = database.iter();
        lines.try_for_each(|line| writeln!(out, "# database: {line}"))
    });
    written(shown.and_then(|()| writeln!(out, "ok")))
}

/// What the database is, in lines.
async fn database(config: &Config) -> Vec<String> {
    let Some(timescale) = &config.timescale else { return Vec::new() };
    let options = ConnectOptions { connect_timeout: Duration::from_secs(3), ..timescale.connect_options() };
    let asked = async { server(&Connector::new(&options)?).await };
    match asked.await {
        Ok(server) => {
            [Some(server.to_string()), server.warning().map(str::to_owned)].into_iter().flatten().collect()
        }
        Err(error) => vec![format!("could not be asked: {error}")],
    }
}
