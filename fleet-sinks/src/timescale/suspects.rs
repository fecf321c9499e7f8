//! Rows that are refused for a reason that no table lists. A trigger may dislike the row, and then it must not
//! hold up the others; or everything is refused for a while, and then no row is to blame.

use std::time::Duration;

use fleet_core::{Error, ErrorKind};
use tokio::time::Instant;

/// So many refused one after another may still be one vehicle's; twice as many are taken for all.
const MANY: usize = 8;

/// What to do after one more was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Go on.
    No,
    /// See whether this row, which was stored before, is still taken.
    Known(u32),
    /// Try one that lies far from them.
    Unknown,
    /// Nothing is taken now.
    All,
}

/// How long a few rows are tried again that have nobody beside them to show that others are taken.
const LONG: Duration = Duration::from_secs(120);

/// What a batch's rows have come to.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    rows: Vec<(u32, String)>,
    in_a_row: usize,
    /// One that is stored.
    known: Option<u32>,
}

impl Suspects {
    pub(super) fn stored(&mut self, row: u32) {
        self.known.get_or_insert(row);
        self.in_a_row = 0;
    }

    pub(super) fn refused(&mut self, row: u32, why: String) {
        self.rows.push((row, why));
        self.in_a_row += 1;
    }

    /// Whether it is time to ask if the table takes anything at all.
    pub(super) fn doubt(&self) -> Doubt {
        match self.known {
            Some(row) if self.in_a_row >= MANY => Doubt::Known(row),
            None if self.in_a_row >= 2 * MANY => Doubt::All,
            None if self.in_a_row == MANY => Doubt::Unknown,
            _ => Doubt::No,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn known(&self) -> Option<u32> {
        self.known
    }

    /// Those that were refused, and why.
    pub(super) fn rows(&self) -> &[(u32, String)] {
        &self.rows
    }

    /// That nothing is known of the batch.
    pub(super) fn error(&self, target: &str) -> Error {
        let why = self.rows.last().map_or("", |(_, why)| why);
        Error::new(ErrorKind::Refused, format!("the database at {target} refuses records: {why}"))
    }
}

/// How long the same batch has been given again.
#[derive(Debug, Default)]
pub(super) struct Patience(Option<(u64, Instant)>);

impl Patience {
    /// Whether this batch has been refused for long enough.
    pub(super) fn is_over(&mut self, batch: u64) -> bool {
        match self.0 {
            Some((known, since)) if known == batch => since.elapsed() >= LONG,
            _ => {
                self.0 = Some((batch, Instant::now()));
                false
            }
        }
    }
}
