//! What an error of the database means to its caller.

use std::error::Error as _;
use std::io;

use fleet_core::{Error, ErrorKind};

/// What can be done about a failed statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Try again later.
    Unavailable,
    /// A person must change something first.
    Configuration,
    /// Some row can't be stored.
    Data,
    /// A row is there already: merge.
    Duplicate,
    /// No partition for a row: make it.
    NoPartition,
    /// An SQLSTATE that is not listed: nobody knows whether a row is to blame or something that passes.
    Refused,
    /// A bug.
    Internal,
}

use Verdict::{Configuration, Data, Duplicate, Internal, NoPartition, Refused, Unavailable};

/// Prepared statements come and go on a connection that is shared.
const POOLER: &str = "a pooler between us and the server must pool sessions, not transactions";

/// SQLSTATEs by their beginning, with what a person can do; the longest that fits counts.
const TABLE: &[(&str, Verdict, &str)] = &[
    ("08", Unavailable, ""),
    ("0A", Configuration, "the server's version or edition lacks this"),
    ("21000", Data, ""),
    ("22", Data, ""),
    // The bytes do not fit the table: it was changed under us, and no row is to blame.
    ("22P03", Configuration, "run the setup, or restart with the table's schema"),
    ("22P04", Configuration, "run the setup, or restart with the table's schema"),
    ("23", Data, ""),
    ("23505", Duplicate, ""),
    ("23514", NoPartition, ""),
    ("25006", Unavailable, ""),
    // What failed was not heard of, as after a COPY (see `Session::commit`).
    ("25P02", Unavailable, ""),
    ("25P03", Unavailable, ""),
    ("26", Configuration, POOLER),
    ("28", Configuration, "check user and password of the database's URL"),
    ("2BP01", Configuration, "drop what depends on it, run the setup, and make it again"),
    ("3D", Configuration, "create the database or correct its URL"),
    ("3F", Configuration, "create the schema or correct the search_path"),
    ("40", Unavailable, ""),
    ("42", Configuration, "run the setup of the database"),
    ("42P05", Configuration, POOLER),
    ("42501", Configuration, "grant the right to the user of the database's URL"),
    ("53", Unavailable, ""),
    (
        "53400",
        Configuration,
        "raise the limit, such as timescaledb.max_tuples_decompressed_per_dml_transaction",
    ),
    ("55P03", Unavailable, ""),
    ("57014", Unavailable, ""),
    ("57P", Unavailable, ""),
    ("58", Unavailable, ""),
];

fn entry(sqlstate: &str) -> (Verdict, &'static str) {
    TABLE
        .iter()
        .filter(|(prefix, ..)| sqlstate.starts_with(prefix))
        .max_by_key(|(prefix, ..)| prefix.len())
        .map_or((Refused, ""), |&(_, verdict, hint)| (verdict, hint))
}

/// Judges an error; `closed` says whether its connection is closed by now, because a lost connection
/// often comes without an SQLSTATE.
pub(super) fn verdict(error: &tokio_postgres::Error, closed: bool) -> Verdict {
    match error.code() {
        Some(code) => entry(code.code()).0,
        None if closed || error.is_closed() || io_cause(error).is_some() => Unavailable,
        None => Internal,
    }
}

/// The first cause that is an I/O error.
pub(super) fn io_cause(error: &tokio_postgres::Error) -> Option<&io::Error> {
    let mut cause = error.source();
    while let Some(found) = cause {
        if let Some(io) = found.downcast_ref::<io::Error>() {
            return Some(io);
        }
        cause = found.source();
    }
    None
}

/// The error in one line: the server's words, its SQLSTATE, and what can be done.
pub(super) fn describe(error: &tokio_postgres::Error) -> String {
    let Some(db) = error.as_db_error() else {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(found) = cause {
            text = format!("{text}: {found}");
            cause = found.source();
        }
        return one_line(&text);
    };
    let code = db.code().code();
    let detail = db.detail().map(|d| format!(" ({d})")).unwrap_or_default();
    let hint = match entry(code).1 {
        "" => String::new(),
        hint => format!("; {hint}"),
    };
    one_line(&format!("{}{detail}, SQLSTATE {code}{hint}", db.message()))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The edge's error for a failed `what` at the server `target`.
pub(super) fn error(what: &str, target: &str, error: &tokio_postgres::Error, closed: bool) -> Error {
    let kind = match verdict(error, closed) {
        Unavailable => ErrorKind::Unavailable,
        Configuration => ErrorKind::Configuration,
        Data | Duplicate | NoPartition => ErrorKind::Data,
        Refused => ErrorKind::Refused,
        Internal => ErrorKind::Internal,
    };
    Error::new(kind, format!("could not {what} in the database at {target}: {}", describe(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_counts() {
        for (code, expected) in [
            ("08006", Unavailable),
            ("08P01", Unavailable),
            ("40001", Unavailable),
            ("40P01", Unavailable),
            ("53100", Unavailable),
            ("53300", Unavailable),
            ("53400", Configuration),
            ("55P03", Unavailable),
            ("55000", Refused),
            ("57014", Unavailable),
            ("57P01", Unavailable),
            ("57P04", Unavailable),
            ("25006", Unavailable),
            ("25P02", Unavailable),
            ("22008", Data),
            ("22P03", Configuration),
            ("23502", Data),
            ("21000", Data),
            ("23505", Duplicate),
            ("23514", NoPartition),
            ("28P01", Configuration),
            ("3D000", Configuration),
            ("42P01", Configuration),
            ("0A000", Configuration),
            ("XX000", Refused),
            ("P0001", Refused),
        ] {
            assert_eq!(entry(code).0, expected, "{code}");
        }
        assert_ne!(entry("42501").1, entry("42P01").1);
    }
}
