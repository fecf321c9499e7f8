//! From uneven samples to evenly spaced rows.
//!
//! An [`Aligner`] knows the schema and the method of every signal; a [`Track`] is what one vehicle
//! keeps. Samples go in, in any order that the window allows; rows come out through a closure, each
//! once it is complete and again as a correction when a later sample changes it. Merged column by
//! column, a value replacing and NULL never erasing, the rows are a function of the set of samples
//! alone.

mod aligner;
pub mod carry;
mod changed;
mod great_circle;
mod interpolator;
mod linear;
mod methods;
mod nearest;
mod pchip;
mod previous;
mod ring;
mod room;
mod rules;
mod sequence;
mod time_weighted_mean;
mod track;
mod view;

#[cfg(test)]
mod tests;

pub use aligner::Aligner;
pub use carry::MAX_CARRY;
pub use great_circle::GreatCircle;
pub use interpolator::{At, Interpolator, Reach};
pub use linear::Linear;
pub use methods::Methods;
pub use nearest::Nearest;
pub use pchip::Pchip;
pub use previous::Previous;
pub use time_weighted_mean::TimeWeightedMean;
pub use track::{Inserted, Snapshot, Track};
pub use view::{Sample, View};
