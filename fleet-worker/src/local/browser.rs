//! A browser for the tests of pages.

use std::path::PathBuf;

use tokio::process::Command;

use super::cache::{on_path, run, variable};
use super::user::is_root;
use super::{LocalError, Result};

/// Chromium: what `FLEET_CHROMIUM` names, else on PATH. For root it is installed from Debian's packages
/// where it is missing; two processes that both want to take turns.
///
/// # Errors
/// What to install or which variable to set.
pub async fn chromium() -> Result<PathBuf> {
    if let Some(named) = variable("FLEET_CHROMIUM") {
        return Ok(named);
    }
    let found = || ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(on_path);
    if let Some(found) = found() {
        return Ok(found);
    }
    let missing = "no chromium on PATH: install it, or name one by FLEET_CHROMIUM";
    if !is_root() || on_path("apt-get").is_none() {
        return Err(LocalError::new(missing));
    }
    tracing::info!("installing chromium, once");
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive").stdin(std::process::Stdio::null());
        apt.args(["-y", "-qq", "-o", "DPkg::Lock::Timeout=300"]).args(arguments);
        run(apt, "chromium can't be installed")
    };
    if apt(&["install", "--no-install-recommends", "chromium"]).await.is_err() {
        // The lists are missing or of another day.
        apt(&["update"]).await?;
        apt(&["install", "--no-install-recommends", "chromium"]).await?;
    }
    found().ok_or_else(|| LocalError::new(missing))
}
