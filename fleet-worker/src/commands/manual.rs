//! `completions` and `man`: what the command line says of itself, for shells and for `man`.

use std::io::{self, Write as _};
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;
use fleet_core::error::{Error, Result};

use crate::cli::Cli;
use crate::terminal::written;

/// Prints what a shell reads to complete the command line.
///
/// # Errors
/// [`Internal`](fleet_core::ErrorKind::Internal) when stdout can't be written.
pub fn completions(shell: Shell) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "fleet-worker", &mut text);
    written(io::stdout().write_all(&text))
}

/// Writes a page for the program and each of its commands.
///
/// # Errors
/// [`Configuration`](fleet_core::ErrorKind::Configuration) where the folder can't be written.
pub fn pages(folder: &Path) -> Result<()> {
    let written =
        std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(Cli::command(), folder));
    written.map_err(|e| {
        Error::configuration(format!("the manual can't be written to {}", folder.display())).caused_by(e)
    })
}
