//! From uneven samples to evenly spaced rows.

/// An interpolation method.
pub trait Interpolator: Send + Sync + std::fmt::Debug {}
