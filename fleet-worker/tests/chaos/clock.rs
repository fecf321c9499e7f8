//! Wall clocks that can be stepped: libfaketime, preloaded, reads how far they are off from a file.

use std::path::{Path, PathBuf};

use fleet_worker::local::python_packages;
use tokio::process::Command;

/// The package of PyPI that brings the library.
const PACKAGE: &str = "libfaketime==3.0.1";
const INSIDE: &str = "libfaketime/vendor/libfaketime/src/libfaketime.so.1";

/// The library, or why no clock can be stepped on this machine.
pub(crate) async fn library() -> Result<PathBuf, String> {
    let library = python_packages(PACKAGE).await.map_err(|e| e.to_string())?.join(INSIDE);
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let file = dir.path().join("clock");
    step(&file, -3 * 366 * 86_400)?;
    let mut date = Command::new("date");
    date.arg("+%Y");
    let year = async |command: &mut Command| {
        let output = command.output().await.map_err(|e| e.to_string())?;
        String::from_utf8_lossy(&output.stdout).trim().parse::<i32>().map_err(|e| e.to_string())
    };
    let now = year(&mut date).await?;
    let stepped = year(preload(&mut date, &library, &file)).await?;
    if (2..=4).contains(&(now - stepped)) {
        Ok(library)
    } else {
        Err(format!("{} does not step the clock of a program of this machine", library.display()))
    }
}

/// A command whose wall clock follows the file; the monotonic one goes on as it is.
pub(crate) fn preload<'a>(command: &'a mut Command, library: &Path, file: &Path) -> &'a mut Command {
    let names = ["DONT_FAKE_MONOTONIC", "FAKETIME_DONT_FAKE_MONOTONIC", "FAKETIME_CACHE_DURATION"];
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", file)
        .envs(names.map(|name| (name, "1")))
}

/// Sets how many seconds the clock is off, within a second.
pub(crate) fn step(file: &Path, by: i64) -> Result<(), String> {
    // Renamed into place: a reader never sees half of it.
    let fresh = file.with_extension("new");
    let written = std::fs::write(&fresh, format!("{by:+}\n")).and_then(|()| std::fs::rename(&fresh, file));
    written.map_err(|e| format!("the clock's file {}: {e}", file.display()))
}
