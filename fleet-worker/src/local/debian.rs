//! What no registry of packages has, from Debian's.

use std::path::PathBuf;

use tokio::process::Command;
use tokio::sync::Mutex;

use super::cache::{on_path, run};
use super::user::is_root;
use super::{LocalError, Result};

/// The first of these programs on PATH or among the system's, or of files by their absolute path. For root
/// it is installed with Debian's package where it is missing.
///
/// # Errors
/// What to install, for others than root and on other systems; what apt-get says if it fails.
pub async fn debian_package(package: &str, names: &[&str]) -> Result<PathBuf> {
    // apt-get waits for its turn with packages, but not with their lists.
    static TURN: Mutex<()> = Mutex::const_new(());
    let system = |name: &&str| Some(PathBuf::from("/usr/sbin").join(name)).filter(|path| path.is_file());
    let found = || names.iter().find_map(|name| on_path(name).or_else(|| system(name)));
    if let Some(found) = found() {
        return Ok(found);
    }
    let missing = format!("there is no {}: install it (Debian's package is {package})", names.join(", no "));
    if !is_root() || on_path("apt-get").is_none() {
        return Err(LocalError::new(missing));
    }
    let _turn = TURN.lock().await;
    if let Some(found) = found() {
        return Ok(found);
    }
    tracing::info!("installing {package}, once");
    if apt(&["install", "--no-install-recommends", package]).await.is_err() {
        // The lists are missing or of another day.
        apt(&["update"]).await?;
        apt(&["install", "--no-install-recommends", package]).await?;
    }
    found().ok_or_else(|| LocalError::new(missing))
}

async fn apt(arguments: &[&str]) -> Result<()> {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive").stdin(std::process::Stdio::null());
    apt.args(["-y", "-qq", "-o", "DPkg::Lock::Timeout=300"]).args(arguments);
    run(apt, &format!("apt-get {} failed", arguments.join(" "))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_there_is_found_by_name_or_path() {
        let shell = debian_package("dash", &["no-such-shell", "sh"]).await.ok();
        assert!(shell.is_some_and(|path| path.ends_with("sh")));
        let users = debian_package("base-passwd", &["/etc/passwd"]).await.ok();
        assert_eq!(users, Some("/etc/passwd".into()));
    }
}
