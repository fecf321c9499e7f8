//! Whom to run a server as: PostgreSQL refuses to run as root.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use tokio::process::Command;

use super::{LocalError, Result};

/// A user and its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct User {
    pub uid: u32,
    pub gid: u32,
}

/// Whether this process is root's.
pub(super) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}

/// For root, the user of PostgreSQL's package, or nobody; for anyone else, nobody else.
pub(super) fn unprivileged() -> Option<User> {
    if !is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let find = |name: &str| {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let same = fields.next() == Some(name);
            let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
            (same && uid != 0).then_some(User { uid, gid })
        })
    };
    Some(find("postgres").or_else(|| find("nobody")).unwrap_or(User { uid: 65_534, gid: 65_534 }))
}

/// A command that is killed when we end, even if we are killed ourselves, where the machine has `setpriv`.
pub fn dependent(program: &Path) -> Command {
    command(program, None, "KILL")
}

/// A command that runs as that user, and gets the signal `at_our_end` when we end, even if we are
/// killed, where the machine has `setpriv`. To the kernel "we" is the thread that starts the command.
pub(super) fn command(program: &Path, user: Option<User>, at_our_end: &str) -> Command {
    let setpriv = Path::new("/usr/bin/setpriv");
    let mut command = if setpriv.exists() {
        let mut command = Command::new(setpriv);
        command.args(["--pdeathsig", at_our_end]).arg(program);
        command
    } else {
        Command::new(program)
    };
    if let Some(User { uid, gid }) = user {
        command.uid(uid).gid(gid);
    }
    command
}

/// Gives a file or a folder to that user, and to nobody else.
pub(super) fn give(path: &Path, user: Option<User>, mode: u32) -> Result<()> {
    let failed = |e| LocalError::io(format!("{} can't be given to its user", path.display()), e);
    if let Some(User { uid, gid }) = user {
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).map_err(failed)?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)
}
