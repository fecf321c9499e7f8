//! The trait of interpolation methods.

use std::fmt;

use super::view::View;
use crate::batch::Quality;
use crate::schema::Column;
use crate::time::Micros;

/// Which samples around an instant `t` a method looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// How many samples at or before `t - look_back`, the nearest ones.
    pub before: usize,
    /// How many samples at or after `t`, the nearest ones. A row waits for them. With 0 the method
    /// holds values: it gives one only within `max_gap` after a sample.
    pub after: usize,
    /// Event time before `t` of which all samples count, microseconds; at most the interval.
    pub look_back: Micros,
}

/// What a method is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct At<'a> {
    /// The instant, event time.
    pub t: Micros,
    /// The longest gap that is bridged, microseconds.
    pub max_gap: Micros,
    /// The grid's, microseconds.
    pub interval: Micros,
    /// The signal's columns, as many as there are values. A method that computes with differences
    /// takes them of [unwrapped](Column::unwrapped) values and [wraps](Column::wrapped) its result.
    pub columns: &'a [Column],
}

/// An interpolation method. Stateless; one instance serves all signals that name it.
///
/// The aligner decides when a row waits, which rows a sample changes and how long samples are kept
/// by [`reach`](Self::reach), so a value must follow from these samples alone, and:
/// - two neighbours further apart than `max_gap` are a gap: between them there is no value (with
///   `after` 0: from `max_gap` after the first on), and no sample beyond a gap may be used;
/// - nothing is extrapolated before the first sample or, with `after` above 0, after the last;
/// - more samples may change a value but never turn one into `None`.
pub trait Interpolator: Send + Sync + fmt::Debug {
    /// The samples that the method looks at on a grid of `interval` microseconds. Asked once.
    fn reach(&self, interval: Micros) -> Reach;

    /// Writes the signal's value at the instant, one number per column, and says how it came about;
    /// `None` is NULL, and so is a NaN in `out`. `samples` may hold more than the reach.
    fn value(&self, samples: View<'_>, at: At<'_>, out: &mut [f64]) -> Option<Quality>;

    /// Whether a sample exactly on the instant is stored as it is, without asking
    /// [`value`](Self::value). A mean over time says no.
    fn keeps_hits(&self) -> bool {
        true
    }

    /// Whether the method can work on a signal of that many columns.
    ///
    /// # Errors
    /// What it needs instead, in words that end a sentence: `"needs two columns, …"`.
    fn check_columns(&self, columns: usize) -> Result<(), String> {
        let _ = columns;
        Ok(())
    }
}
