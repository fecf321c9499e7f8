//! A browser for the tests of pages.

use std::path::PathBuf;

use super::cache::variable;
use super::{LocalError, Result, debian_package};

/// Chromium: what `FLEET_CHROMIUM` names, else as [`debian_package`] has it.
///
/// # Errors
/// What to install or which variable to set.
pub async fn chromium() -> Result<PathBuf> {
    if let Some(named) = variable("FLEET_CHROMIUM") {
        return Ok(named);
    }
    let found = debian_package("chromium", &["chromium", "chromium-browser", "google-chrome"]).await;
    found.map_err(|e| LocalError::new(format!("{e}, or name one by FLEET_CHROMIUM")))
}
