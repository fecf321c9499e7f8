//! What a command says to people: on standard output, whose reader may have gone, and on a terminal.

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal as _, Write as _};

use fleet_core::error::{Error, Result};

/// Writes one line of a command's answer to standard output. What is under way goes on if that can't be written;
/// that it was closed is not worth a word.
pub fn say(line: impl Display) {
    if let Err(error) = written(writeln!(io::stdout(), "{line}")) {
        complain(error);
    }
}

/// What came of writing to standard output: that nobody reads it any more is no error.
///
/// # Errors
/// [`Internal`](fleet_core::ErrorKind::Internal) for any other, as on a full disk.
pub fn written(result: io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Error::internal("could not write to stdout").caused_by(error))
        }
        _ => Ok(()),
    }
}

/// Writes one line to standard error, if anybody reads it.
pub fn complain(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Whether what goes to standard error may have colours (<https://no-color.org>).
pub fn has_colors() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !refused
}
