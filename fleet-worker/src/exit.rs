//! Exit codes: what a supervisor or script can tell apart.

use fleet_core::ErrorKind;

/// Ended as asked.
pub const OK: u8 = 0;
/// Bad usage or configuration: starting again won't help.
pub const USAGE: u8 = 64;
/// A server could not be reached in time.
pub const UNAVAILABLE: u8 = 69;
/// A bug.
pub const INTERNAL: u8 = 70;

/// The code for an error that ends the program.
pub fn code(kind: ErrorKind) -> u8 {
    match kind {
        // Input that can't be used was named by whoever started us.
        ErrorKind::Configuration | ErrorKind::Data => USAGE,
        ErrorKind::Unavailable => UNAVAILABLE,
        _ => INTERNAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_map_to_codes() {
        assert_eq!(code(ErrorKind::Configuration), 64);
        assert_eq!(code(ErrorKind::Data), 64);
        assert_eq!(code(ErrorKind::Unavailable), 69);
        assert_eq!(code(ErrorKind::Superseded), 70);
        assert_eq!(code(ErrorKind::Internal), 70);
    }
}
